"""An asyncio event loop in virtual time: it never sleeps, it jumps to the next timer.

Owns time for tests that run the live runtime as a simulation. For in-process work only: sockets,
child processes and threads live in real time and have no place on it. Called by tests.
"""

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from slalom.units import SECOND

T = TypeVar("T")

#: Real seconds to wait, when no timer is set, for a thread to report back.
_PATIENCE_S = 5.0
#: Up to here neighbouring floats of seconds are less than a nanosecond apart.
_END_NS = (1 << 22) * SECOND


class DeadlockError(RuntimeError):
    """Every task waits and no timer is set: nothing would ever happen again."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is an integer of nanoseconds and moves only when all is idle.

    asyncio's times are floats of seconds. They are rounded to the nearest nanosecond, which
    is exact for 48 days of virtual time (where it ends), so no drift builds up. Timers of the
    same instant fire in the order in which they were set.

    Args:
        start_ns: The time at which it starts.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._timers_set = 0
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-9

    @property
    def now_ns(self) -> int:
        """Virtual time, ns."""
        return self._now_ns

    def time(self) -> float:
        """Virtual time, seconds."""
        return self._now_ns / SECOND

    def jump(self, by_s: float) -> None:
        """Move time on; for the selector.

        Raises:
            OverflowError: Virtual time would leave the range in which it is exact.
        """
        now_ns = self._now_ns + round(by_s * SECOND)
        if now_ns > _END_NS:
            raise OverflowError("a virtual loop runs for 48 days: no timer may fire later")
        self._now_ns = now_ns

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer; as asyncio's, but first set first fired."""
        self._timers_set += 1
        timer = _OrderedTimer(when, callback, args, self, context)
        timer.order = self._timers_set
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001
        return timer


class _OrderedTimer(asyncio.TimerHandle):
    """asyncio compares timers by time alone, so equal times fire in heap order."""

    order = 0

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        if isinstance(other, _OrderedTimer) and other.when() == self.when():
            return self.order < other.order
        return self.when() < other.when()


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that lets virtual time pass instead of waiting."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_PATIENCE_S)
            if not ready:
                raise DeadlockError(
                    "every task waits and no timer is set: the test would wait for ever"
                )
            return list(ready)
        ready = super().select(0)
        if not ready and timeout > 0:
            self._loop.jump(timeout)
        return list(ready)


class VirtualClock:
    """The `Clock` of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """Virtual time, ns; exact."""
        return self._loop.now_ns


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]], *, start_ns: int = 0) -> T:
    """Run `main(clock)` on a fresh virtual loop to its end.

    Raises:
        Exception: What `main` raised, else the first exception nobody caught in a call-back
            or a task.
    """
    uncaught: list[BaseException] = []

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        uncaught.append(problem or RuntimeError(str(context.get("message"))))

    def make_loop() -> VirtualLoop:
        loop = VirtualLoop(start_ns)
        loop.set_exception_handler(note)
        return loop

    with asyncio.Runner(loop_factory=make_loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        result = runner.run(main(VirtualClock(loop)))
    if uncaught:
        raise uncaught[0]
    return result
