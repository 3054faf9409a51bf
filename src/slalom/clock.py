"""The one place where real time is read.

Owns the `Clock` protocol and the monotonic clock. The core never sees a clock: it is given
`now_ns`. The twin and the tests bring their own (`slalom.testing.ManualClock`).
"""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary fixed start; never decreases."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Nanoseconds of the machine's monotonic clock."""
        return time.monotonic_ns()
