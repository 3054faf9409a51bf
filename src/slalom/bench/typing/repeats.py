"""Arithmetic over repeats: the median with its spread, and pairs of equal keystrokes.

Owns what is said of a figure that some repeats do not know or in which nothing came. A pair is one
repeat by two ways: both met the same keystrokes, so their difference or ratio is of the ways. Pure;
called by the page.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.bench.typing.figures import Run


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over its repeats; infinite where nothing came in time."""

    median: float
    least: float
    most: float
    count: int

    def shown(self, factor: float = 1.0, unit: str = "") -> str:
        """For a table: the median, and from where to where the repeats go."""
        middle = _number(self.median, factor, unit)
        if self.count == 1 or self.least == self.most:
            return middle
        ends = f"{_number(self.least, factor)} – {_number(self.most, factor)}"
        return f"{middle} ({ends})"


def spread(values: Sequence[float]) -> Spread | None:
    """Of the repeats that know the figure; None if none does."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known), len(known))


def of(runs: Sequence[Run], way: str, name: str) -> Spread | None:
    """A figure of a way."""
    return spread([run.figures.get(name, math.nan) for run in runs if run.way == way])


def paired(
    runs: Sequence[Run], way: str, base: str, name: str, *, ratio: bool = False
) -> Spread | None:
    """A figure of a way beside another's, repeat by repeat: the difference, or the ratio.

    None where no pair is known; what never came has neither.
    """
    figures = {(run.way, run.repeat): run.figures.get(name, math.inf) for run in runs}
    found = []
    for (which, repeat), own in figures.items():
        other = figures.get((base, repeat), math.inf)
        if which != way or not math.isfinite(own) or not math.isfinite(other):
            continue
        if not ratio:
            found.append(own - other)
        elif other:
            found.append(own / other)
    return spread(found)


def _number(value: float, factor: float, unit: str = "") -> str:
    if not math.isfinite(value):
        return "late"
    scaled = value * factor
    digits = 0 if abs(scaled) >= 100 else (1 if abs(scaled) >= 10 else 2)
    return f"{scaled:.{digits}f}{unit}" if scaled else f"0{unit}"
