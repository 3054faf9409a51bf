"""The page of figures about hostile clients.

Owns its words and the two figures of each attack: memory, and how long ordinary clients waited.
Written by `test_hostile`.
"""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = """# Hostile clients

What it costs when clients behave badly, and what everybody else notices of it. Written by
`make bench-hostile` on {machine}. The same runs are tests:
each has a bound on its memory, and
afterwards nothing of the attack may be left.

Memory is what the process grew by, resident, while the attack lasted. Attackers, server and engine
are one process here, so that the attackers' own side is in it. The ordinary client asks for one
token, twenty times, one after the other; the engine takes 1 ms for it.

| attack | memory, MiB | ordinary client without it, ms (median, worst) | beside it, ms | |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One attack."""

    name: str
    grown_mib: float
    alone_ms: Sequence[float]
    beside_ms: Sequence[float]
    note: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.grown_mib:.1f} MiB, alone {_told(self.alone_ms)} ms, "
            f"beside it {_told(self.beside_ms)} ms {self.note}"
        )


def _told(times_ms: Sequence[float]) -> str:
    return f"{statistics.median(times_ms):.1f}, {max(times_ms):.1f}"


def page(figures: Sequence[Figure]) -> str:
    """The page as Markdown."""
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    rows = [
        f"| {figure.name} | {max(figure.grown_mib, 0.0):.1f} | {_told(figure.alone_ms)} "
        f"| {_told(figure.beside_ms)} | {figure.note} |\n"
        for figure in figures
    ]
    return _HEAD.format(machine=machine) + "".join(rows)
