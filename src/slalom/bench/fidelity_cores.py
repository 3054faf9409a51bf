"""One core for the engine, another for everything else, and nobody else on either.

Owns the moving of threads, ours and those of child processes, and the watch over what other
programs take. Where there is one core, or a system that knows no affinity, nothing is moved, and
that is said. Called by `fidelity`.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import psutil

#: In the command line of every engine's process.
_ENGINE = "slalom.engines.llama_cpp_process"
_LOOK_EVERY_S = 0.05
#: More than this share of the machine for others, and what was measured means little.
DISTURBED = 0.03
_WATCH_S = 2.0


@contextlib.asynccontextmanager
async def separate_cores() -> AsyncIterator[bool]:
    """Keep engines on the first core and the rest on the second while a block runs.

    Gives whether that is done.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        yield False
        return
    _move(os.getpid(), {cores[1]})
    keeper = asyncio.create_task(_keep(cores[0]))
    try:
        yield True
    finally:
        keeper.cancel()
        _move(os.getpid(), set(cores))


async def _keep(core: int) -> None:
    """Move engines as they come: a child inherits its parent's core."""
    moved: set[int] = set()
    own = psutil.Process()
    while True:
        for child in own.children(recursive=True):
            if child.pid in moved:
                continue
            with contextlib.suppress(psutil.Error):
                if _ENGINE in child.cmdline():
                    _move(child.pid, {core})
                    moved.add(child.pid)
        await asyncio.sleep(_LOOK_EVERY_S)


class Disturbance:
    """How much of the machine others took since this was made."""

    def __init__(self) -> None:
        self._others_s, self._all_s = _spent_s()

    def share(self) -> float:
        """Processor time of programs that are not ours, as a share of all there was."""
        others_s, all_s = _spent_s()
        passed_s = all_s - self._all_s
        return max((others_s - self._others_s) / passed_s, 0.0) if passed_s > 0 else 0.0


async def quiet(limit_s: float) -> None:
    """Wait until others leave the machine alone, for so long at most."""
    for _ in range(round(limit_s / _WATCH_S)):
        disturbance = Disturbance()
        await asyncio.sleep(_WATCH_S)
        if disturbance.share() <= DISTURBED:
            return


def _spent_s() -> tuple[float, float]:
    """Processor seconds that others used, and that there were, since the machine started.

    Programs of ours count once they have ended.
    """
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    own = os.times()
    own_s = own.user + own.system + own.children_user + own.children_system
    # A guest's time is part of the user's.
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return all_s - idle_s - own_s, all_s


def _move(pid: int, cores: set[int]) -> None:
    """All threads of a process; those to come inherit it."""
    with contextlib.suppress(psutil.Error, OSError):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)
