"""Figures of live runs over their repeats: means with intervals, and one way beside another.

Owns the arithmetic (95 % intervals, differences and ratios in pairs of equal loads) and how a
number is written. Knows no benchmark. Called by the pages of those that send the same loads to
several servers in turn.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from slalom.metrics.confidence import Estimate, estimate


class LiveRun(Protocol):
    """One way under one load, once."""

    @property
    def way(self) -> str:
        """What was asked."""
        ...

    @property
    def repeat(self) -> int:
        """Runs of one repeat met the same load."""
        ...

    def figures(self) -> Mapping[str, float]:
        """By name; what is not known is absent."""
        ...


def paired(
    runs: Sequence[LiveRun], way: str, base: str, name: str, *, ratio: bool = False
) -> Estimate | None:
    """A figure of a way beside another's, repeat by repeat: the difference, or the ratio.

    None where no pair is known; a ratio to nothing is not.
    """
    figures = {(run.way, run.repeat): run.figures().get(name) for run in runs}
    found = []
    for (which, repeat), own in figures.items():
        other = figures.get((base, repeat))
        if which != way or own is None or other is None:
            continue
        if not ratio:
            found.append(own - other)
        elif other:
            found.append(own / other)
    return estimate(found) if found else None


def mean(runs: Sequence[LiveRun], way: str, name: str, *, percent: bool = False) -> str:
    """A figure of a way over its repeats."""
    values = [run.figures().get(name) for run in runs if run.way == way]
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return over(known, 100 if percent else 1) + ("%" if percent else "")


def over(values: Sequence[float], factor: float = 1.0) -> str:
    """The mean of values with its interval; `-` where there are none."""
    return shown(estimate(values), factor) if values else "-"


def shown(one: Estimate, factor: float = 1.0) -> str:
    """A mean with its interval, where there is one."""
    value = one.mean * factor
    digits = 0 if abs(value) >= 100 else (1 if abs(value) >= 10 else 2)
    if one.margin is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ± {one.margin * factor:.{digits}f}"
