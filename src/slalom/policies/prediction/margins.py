"""How far predicted times can be trusted: the factor that covers most of what was observed.

Owns a margin for each name, its measured coverage, and whether that is still as it should be. The
margin is a conformal quantile of observed over predicted times; its level moves with every hit
and miss, so that the coverage holds while the world drifts. Called by `predictor`.

Source: adaptive conformal inference, Gibbs and Candes 2021 (arXiv 2106.00410).
"""

from bisect import bisect_left, insort
from collections import deque
from math import ceil

#: Before enough was observed.
MARGIN_START = 1.3
#: Share of observed times that the margin should cover.
COVERAGE = 0.9
#: Ratios that are remembered.
_RATIOS_MAX = 64
#: How quickly the level answers a hit or a miss.
_LEVEL_STEP = 0.02
_LEVEL_MIN, _LEVEL_MAX = 0.01, 0.4
_MARGIN_MIN, _MARGIN_MAX = 1.0, 3.0
#: Memory of the measured coverage, observations; how many it takes to judge.
_COVERAGE_MEMORY = 40
_JUDGED_FROM = 12
#: Below the first the predictions are not to be used, from the second on again.
_COVERAGE_LOST, _COVERAGE_REGAINED = 0.6, 0.8


class Margin:
    """The margin of one task or model.

    Args:
        start: What it is before enough was observed.
        coverage: Share of the observations that it should cover.
    """

    __slots__ = (
        "_healthy",
        "_level",
        "_ratios",
        "_sorted",
        "_start",
        "_wanted_miss",
        "covered_share",
        "factor",
        "seen",
    )

    def __init__(self, start: float = MARGIN_START, coverage: float = COVERAGE) -> None:
        self._start = start
        self._wanted_miss = 1.0 - coverage
        self._level = self._wanted_miss
        self._ratios: deque[float] = deque()
        self._sorted: list[float] = []
        self._healthy = True
        #: The margin.
        self.factor = start
        #: Observations so far, and the share of late that the margin of their time covered.
        self.seen = 0
        self.covered_share = 1.0

    def add(self, ratio: float) -> None:
        """Note an observed over its predicted time."""
        missed = ratio > self.factor
        self.seen += 1
        memory = min(self.seen, _COVERAGE_MEMORY)
        self.covered_share += ((0.0 if missed else 1.0) - self.covered_share) / memory
        level = self._level + _LEVEL_STEP * (self._wanted_miss - missed)
        self._level = min(max(level, _LEVEL_MIN), _LEVEL_MAX)
        self._ratios.append(ratio)
        insort(self._sorted, ratio)
        if len(self._ratios) > _RATIOS_MAX:
            del self._sorted[bisect_left(self._sorted, self._ratios.popleft())]
        self._judge()
        self.factor = self._quantile()

    @property
    def healthy(self) -> bool:
        """Whether the coverage is in its band; once it left it, it must come back well into it."""
        return self._healthy

    def _judge(self) -> None:
        if self.seen < _JUDGED_FROM:
            return
        if self.covered_share < _COVERAGE_LOST:
            self._healthy = False
        elif self.covered_share >= _COVERAGE_REGAINED:
            self._healthy = True

    def _quantile(self) -> float:
        """The conformal quantile at the present level; the start while there are too few ratios."""
        count = len(self._sorted)
        rank = ceil((count + 1) * (1.0 - self._level))
        if rank > count:
            highest = self._sorted[-1] if self._sorted else 0.0
            few = count < 1.0 / self._wanted_miss - 1.0
            found = max(highest, self._start) if few else highest
        else:
            found = self._sorted[max(rank, 1) - 1]
        return min(max(found, _MARGIN_MIN), _MARGIN_MAX)
