"""Gains, gaps, shares and spreads over cells that met the same loads.

Owns the formulas. A grid is rows (rates) of columns (seeds); two grids of the same loads are
compared cell by cell, so that intervals are of paired differences. Pure; called by the parts.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

from slalom.metrics.confidence import Estimate, estimate

#: One value for each rate and seed.
Grid = Sequence[Sequence[float]]
K = TypeVar("K")


def best_rows(grids: Mapping[K, Grid]) -> list[K]:
    """For each row the grid whose mean is highest there; of equal ones the first."""
    rows = len(next(iter(grids.values())))
    return [
        max(grids, key=lambda name, row=row: statistics.fmean(grids[name][row]))  # type: ignore[misc]
        for row in range(rows)
    ]


def best_whole(grids: Mapping[K, Grid]) -> K:
    """The grid whose mean over all cells is highest; of equal ones the first."""
    return max(grids, key=lambda name: _whole(grids[name]))


def picked(grids: Mapping[K, Grid], names: Sequence[K]) -> list[Sequence[float]]:
    """One row of each named grid in turn."""
    return [grids[name][row] for row, name in enumerate(names)]


def row_gains(ours: Grid, theirs: Grid) -> list[Estimate]:
    """What ours has more than theirs in each row, over paired seeds."""
    return [
        estimate([mine - other for mine, other in zip(one, two, strict=True)])
        for one, two in zip(ours, theirs, strict=True)
    ]


def mean_gain(ours: Grid, theirs: Grid) -> Estimate:
    """What ours has more than theirs on average over rows, over paired seeds."""
    return estimate(
        [
            statistics.fmean(mine - other for mine, other in zip(one, two, strict=True))
            for one, two in zip(_by_seed(ours), _by_seed(theirs), strict=True)
        ]
    )


def row_shares(ours: Grid, limit: Grid) -> list[float]:
    """Ours as a share of the limit in each row, means over seeds; 1 where nothing is possible.

    Where the limit is known of the first seeds only, those are compared.
    """
    pairs = [
        (statistics.fmean(one[: len(two)]), statistics.fmean(two))
        for one, two in zip(ours, limit, strict=True)
    ]
    return [mine / most if most else 1.0 for mine, most in pairs]


def spread(ratios: Grid) -> Estimate:
    """Standard deviation over mean of the rows' values, for each seed.

    With rows of mean completion time over SLA, this is the published measure of how evenly a
    policy keeps its promises over rates. Source: arXiv 2506.19677.
    """
    columns = _by_seed(ratios)
    return estimate([statistics.pstdev(column) / statistics.fmean(column) for column in columns])


def _whole(grid: Grid) -> float:
    return statistics.fmean(value for row in grid for value in row)


def _by_seed(grid: Grid) -> list[tuple[float, ...]]:
    return list(zip(*grid, strict=True))
