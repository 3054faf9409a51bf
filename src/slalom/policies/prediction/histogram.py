"""Positive numbers in bins that grow in proportion, the older ones fading.

Owns the counting and the questions about what lies above a number. Bins know the least, the mean
and the most of what they hold, so that numbers that are always the same stay exact. Knows nothing
of tokens. Called by `lengths`.
"""

from bisect import bisect_left
from itertools import accumulate
from math import log2

#: Bins of a histogram, and how many make a doubling.
_BINS, _PER_DOUBLING = 64, 4
#: Numbers after which an old one counts 1/e.
_MEMORY = 200.0
_FADE = 1.0 - 1.0 / _MEMORY
#: Weights are brought back to size when they have grown beyond this.
_GROWTH_MAX = 1e100


class Histogram:
    """Numbers from 1 to some tens of thousands; what is smaller or larger goes to the end bins."""

    __slots__ = (
        "_count",
        "_counts",
        "_growth",
        "_high",
        "_is_fresh",
        "_low",
        "_order",
        "_sum",
        "_sums",
        "_tail_counts",
        "_tail_sums",
        "total",
    )

    def __init__(self) -> None:
        self._counts = [0.0] * _BINS
        self._sums = [0.0] * _BINS
        self._low = [0.0] * _BINS
        self._high = [0.0] * _BINS
        #: Of the bins from this one on.
        self._tail_counts = [0.0] * (_BINS + 1)
        self._tail_sums = [0.0] * (_BINS + 1)
        #: The counts with their signs turned, so that they grow.
        self._order = [0.0] * (_BINS + 1)
        self._is_fresh = True
        self._count = 0.0
        self._sum = 0.0
        #: New numbers count ever more, which is how old ones fade.
        self._growth = 1.0
        #: Numbers seen, less what has faded.
        self.total = 0.0

    def add(self, value: float) -> None:
        """Note a number."""
        at = _bin(value)
        if not self._counts[at]:
            self._low[at] = self._high[at] = value
        self._low[at] = min(self._low[at], value)
        self._high[at] = max(self._high[at], value)
        self._counts[at] += self._growth
        self._sums[at] += self._growth * value
        self._count += self._growth
        self._sum += self._growth * value
        self.total = self.total * _FADE + 1.0
        self._growth /= _FADE
        self._is_fresh = False
        if self._growth > _GROWTH_MAX:
            self._counts = [count / self._growth for count in self._counts]
            self._sums = [total / self._growth for total in self._sums]
            self._count /= self._growth
            self._sum /= self._growth
            self._growth = 1.0

    def mean(self) -> float:
        """Of all numbers; 0 before there are any."""
        return self._sum / self._count if self._count else 0.0

    def beyond(self, value: float) -> tuple[float, float]:
        """Share of the numbers that are above `value`, and their mean; (0, 0) if there is none."""
        if not self._is_fresh:
            self._refresh()
        count = self._tail_counts[0]
        if not count:
            return 0.0, 0.0
        at = _bin(value)
        part, mean = self._part_above(at, value)
        over = self._tail_counts[at + 1] + part
        if over <= 0.0:
            return 0.0, 0.0
        return over / count, (self._tail_sums[at + 1] + part * mean) / over

    def quantile(self, share: float, above: float = 0.0) -> float:
        """What a share of the numbers above `above` does not exceed; `above` if there is none."""
        if not self._is_fresh:
            self._refresh()
        first = _bin(above)
        part, _ = self._part_above(first, above)
        over = self._tail_counts[first + 1] + part
        if over <= 0.0:
            return above
        beyond = (1.0 - share) * over
        at = bisect_left(self._order, -beyond, first + 1, _BINS) - 1
        count = part if at == first else self._counts[at]
        low, high = max(self._low[at], above), self._high[at]
        if count <= 0.0 or high <= low:
            return max(low, above)
        left = min(max((beyond - self._tail_counts[at + 1]) / count, 0.0), 1.0)
        return high - (high - low) * left

    def _part_above(self, at: int, value: float) -> tuple[float, float]:
        """Count and mean of what a bin holds above a value, as if it were filled evenly."""
        count, low, high = self._counts[at], self._low[at], self._high[at]
        if not count or value >= high:
            return 0.0, 0.0
        if value < low:
            return count, self._sums[at] / count
        return count * (high - value) / (high - low), (high + value) * 0.5

    def _refresh(self) -> None:
        self._tail_counts = _tails(self._counts)
        self._tail_sums = _tails(self._sums)
        self._order = [-count for count in self._tail_counts]
        self._is_fresh = True


def _tails(values: list[float]) -> list[float]:
    """The sum of the values from each place on, added up from behind."""
    tails = list(accumulate(reversed(values), initial=0.0))
    tails.reverse()
    return tails


def _bin(value: float) -> int:
    return min(int(log2(value) * _PER_DOUBLING), _BINS - 1) if value > 1.0 else 0
