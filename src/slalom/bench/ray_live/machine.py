"""Engines give way to what serves them, and what serving takes of the machine.

Owns the priorities of processes and the sums over those that are no engines. Elsewhere engines
compute on GPUs: here they run at a lower priority, so that no server waits for a core that they
hold. Called by the command and by `compare`.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from slalom.bench.sla_live.machine import engines

_NICE = 10
_LOOK_EVERY_S = 0.25


@contextlib.asynccontextmanager
async def engines_give_way() -> AsyncIterator[None]:
    """Lower the priority of every engine among our descendants while a block runs."""
    task = asyncio.create_task(_keep_lowering())
    try:
        yield
    finally:
        task.cancel()


async def _keep_lowering() -> None:
    while True:
        for pid in engines():
            with contextlib.suppress(psutil.Error, OSError):
                if psutil.Process(pid).nice() < _NICE:
                    give_way(pid)
        await asyncio.sleep(_LOOK_EVERY_S)


def give_way(pid: int) -> None:
    """Lower the priority of a process that has a session of its own, as every engine has.

    Raises:
        OSError: It is gone.
    """
    # Of every thread: on Linux each has a priority of its own.
    for thread in psutil.Process(pid).threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, _NICE)
    # Where Linux shares processors out by session, that is all that counts between sessions.
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{_NICE}", encoding="ascii")


class Serving:
    """What the programs between client and engines have taken since this was made."""

    def __init__(self) -> None:
        self._before_s = _cpu_s()

    def cpu_s(self) -> float:
        """Processor time of those that live, seconds."""
        before, now = self._before_s, _cpu_s()
        return sum(spent_s - before.get(pid, 0.0) for pid, spent_s in now.items())


def _cpu_s() -> dict[int, float]:
    found = {}
    for process in _programs():
        with contextlib.suppress(psutil.Error):
            spent = process.cpu_times()
            found[process.pid] = float(spent.user + spent.system)
    return found


def serving_bytes() -> tuple[int, int]:
    """Memory that only they use, and how many processes they are."""
    own = []
    for process in _programs():
        with contextlib.suppress(psutil.Error):
            own.append(int(process.memory_full_info().uss))
    return sum(own), len(own)


def _programs() -> list[psutil.Process]:
    """Our descendants that are no engines."""
    computing = engines()
    return [one for one in psutil.Process().children(recursive=True) if one.pid not in computing]
