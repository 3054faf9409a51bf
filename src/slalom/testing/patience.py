"""Bounded waiting for something a test cannot be told about: another process, a kernel, a disk.

Owns the one polling loop of the tests in real time. Where there is an event to wait for, wait for
that instead; in virtual time, move the clock.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

#: Between two looks, s.
POLL_EVERY_S = 0.02


async def until(
    holds: Callable[[], Awaitable[bool]],
    what: str,
    *,
    seconds: float = 45.0,
    explain: Callable[[], str] = str,
) -> None:
    """Wait until a condition holds.

    Args:
        holds: The condition.
        what: What is waited for, for the error.
        seconds: Longest wait.
        explain: Adds what is known when the wait was in vain, such as a log.

    Raises:
        AssertionError: It did not come to hold in time.
    """
    deadline_s = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {seconds} s in vain until {what}; {explain()}")
        await asyncio.sleep(POLL_EVERY_S)
