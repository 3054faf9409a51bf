"""A clock that moves when a test says so.

Owns nothing but a number. Implements `slalom.clock.Clock`.
"""


class ManualClock:
    """Time stands still until `advance` or `set` moves it."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def __repr__(self) -> str:
        return f"ManualClock({self._now_ns} ns)"

    def now_ns(self) -> int:
        """The time, ns."""
        return self._now_ns

    def advance(self, by_ns: int) -> int:
        """Move on and return the new time.

        Raises:
            ValueError: `by_ns` is negative.
        """
        if by_ns < 0:
            raise ValueError(f"a clock cannot go back by {-by_ns} ns")
        self._now_ns += by_ns
        return self._now_ns

    def set(self, now_ns: int) -> int:
        """Move to a time that is not before the present one, and return it."""
        return self.advance(now_ns - self._now_ns)
