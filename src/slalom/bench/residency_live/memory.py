"""What the engines of a server take of memory while it is asked: the peak of their sum.

Owns the look at the processes. Resident memory counts a page that two processes share twice, so
that the figure is rather too high. Called by `compare`.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

_ENGINE = b"slalom.engines.llama_cpp_process"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class Peak:
    """Resident memory of all engines together: the most that was seen, and when."""

    most_bytes: int = 0
    #: Engines at that moment.
    engines: int = 0
    looks: int = 0

    def look(self) -> None:
        """Look once."""
        resident = [found for pid in engines() if (found := resident_bytes(pid))]
        self.looks += 1
        if sum(resident) > self.most_bytes:
            self.most_bytes, self.engines = sum(resident), len(resident)


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Peak]:
    """Look again and again while a block runs."""
    peak = Peak()
    task = asyncio.create_task(_keep_looking(peak))
    try:
        yield peak
    finally:
        task.cancel()


async def _keep_looking(peak: Peak) -> None:
    while True:
        peak.look()
        await asyncio.sleep(_LOOK_EVERY_S)


def engines() -> Iterator[int]:
    """Process ids of the engines among our descendants."""
    pending = list(_children(os.getpid()))
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError):
            if _ENGINE in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid
        pending += _children(pid)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_bytes().split())
