"""One start at a time where starts disturb each other: turns, by name, for the whole machine.

vLLM measures while it starts what is free on its GPU, and takes all that vanishes meanwhile for its
own. Owns the turns: files that the kernel unlocks when their holder ends, so servers, profiling and
hosts on Ray wait for each other too. Called by `command`.
"""

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

_PERIOD_S = 0.1


def turns_of_gpus(gpus: Sequence[int]) -> tuple[str, ...]:
    """The turns to take for a start on these GPUs."""
    return tuple(f"gpu-{index}" for index in sorted(gpus))


@contextlib.asynccontextmanager
async def turn(names: Sequence[str]) -> AsyncIterator[None]:
    """Hold these turns; waits as long as it takes. Nothing is held after a cancellation.

    Those who want several must name them in the same order. Where no file can be written there
    are no turns, and nobody waits.
    """
    with contextlib.ExitStack() as held:
        for name in names:
            try:
                descriptor = _open(name)
            except OSError:
                continue
            held.callback(os.close, descriptor)
            while not _locked(descriptor):  # noqa: ASYNC110 - a holder elsewhere tells nobody
                await asyncio.sleep(_PERIOD_S)
        yield


def _open(name: str) -> int:
    path = Path(tempfile.gettempdir()) / f"slalom-{os.getuid()}-{name}.turn"
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
