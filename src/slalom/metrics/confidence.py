"""How sure a mean over a few repetitions is: Student's interval, and that of paired differences.

Owns the table of quantiles and the formulas. Repetitions with one seed under two policies meet
the same load, so their differences are paired. Pure; called by results and their tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: 97.5 per cent quantiles of Student's t for 1 to 30 degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL = 1.960


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 per cent interval."""

    mean: float
    #: Half of the interval's width; None for a single value, of which nothing is known.
    margin: float | None
    count: int

    @property
    def low(self) -> float | None:
        """Lower end."""
        return None if self.margin is None else self.mean - self.margin

    @property
    def high(self) -> float | None:
        """Upper end."""
        return None if self.margin is None else self.mean + self.margin


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent repetitions.

    Raises:
        ValueError: There is no value.
    """
    count = len(values)
    if not count:
        raise ValueError("no value to estimate from")
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, _quantile(count - 1) * math.sqrt(variance / count), count)


def _quantile(freedom: int) -> float:
    """Above the table the first term of the expansion around the normal quantile is enough."""
    return _T[freedom - 1] if freedom <= len(_T) else _NORMAL + 2.37 / freedom
