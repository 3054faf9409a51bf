"""The page of the alternation benchmark: a table of starts and phases, and what they say.

Owns the arithmetic over the turns and the words around it. Measures nothing. Called by
`alternation`.
"""

import os
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from slalom.bench.handle_report import machine
from slalom.units import MS, format_bytes

if TYPE_CHECKING:
    from slalom.bench.alternation import Alternation, Turn

_WIDTH = 90
_PHASES: tuple[tuple[str, "Callable[[Turn], int]"], ...] = (
    ("drain", lambda turn: turn.phases.drain_ns),
    ("free", lambda turn: turn.phases.free_ns),
    ("map", lambda turn: turn.phases.map_ns),
    ("first token", lambda turn: turn.phases.first_token_ns),
)


def render(found: "Alternation", command: str) -> str:
    """The whole page, as Markdown."""
    lines = [
        "# Alternation",
        "",
        "Two models take turns in memory that holds one. The time from a request to its first",
        "token, by how the request finds its model, and what the time goes to.",
        "",
        f"Command: `{command}`",
        "",
        f"Machine: {machine()}; load average while it was measured: {os.getloadavg()[0]:.1f}.",
        "",
        *textwrap.wrap(
            f"Each model's file has {format_bytes(found.file_bytes)}, the budget is "
            f"{format_bytes(found.budget_bytes)}, and a replica is booked with "
            f"{format_bytes(found.needed_bytes)}. One llama.cpp process a replica, one thread "
            "each, a prompt of a few tokens.",
            _WIDTH,
        ),
        "",
        "Medians in ms, with the 10th and 90th percentile of the whole:",
        "",
        "| start | requests | drain | free | map | first token | whole, at the client |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    by_start: dict[str, list[Turn]] = {}
    for turn in found.turns:
        by_start.setdefault(turn.start.value, []).append(turn)
    lines += [_row(start, turns) for start, turns in by_start.items()]
    lines += [
        "",
        "- **drain**: the other model finishes what runs on it;",
        "- **free**: its process ends, and its memory is back;",
        "- **map**: the engine's process starts, maps the file and reads it;",
        "- **first token**: the prompt is read and the first token leaves the engine.",
        "",
        "Cold means that the file was dropped from the page cache before the request. The phases",
        "are the scheduler's own events; the whole is the client's clock, the gateway included.",
    ]
    if found.not_cold:
        lines.append(
            f"{found.not_cold} cold starts are missing: the file stayed in the page cache."
        )
    return "\n".join(lines) + "\n"


def _row(start: str, turns: Sequence["Turn"]) -> str:
    whole = [turn.client_ns for turn in turns]
    spread = f"{_ms(_quantile(whole, 0.1))} – {_ms(_quantile(whole, 0.9))}"
    cells = [_ms(_median(phase(turn) for turn in turns)) for _, phase in _PHASES]
    return (
        f"| {start} | {len(turns)} | {' | '.join(cells)} | **{_ms(_median(whole))}** ({spread}) |"
    )


def _median(values: Iterable[int]) -> float:
    return statistics.median(values)


def _quantile(values: Sequence[int], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _ms(ns: float) -> str:
    return f"{ns / MS:,.1f}" if ns < 100 * MS else f"{ns / MS:,.0f}"
