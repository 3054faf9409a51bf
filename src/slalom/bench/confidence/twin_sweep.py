"""The twin half: device time and good answers over shares of doubt, ratios of costs, two rates.

Owns the cells, the knee of the large model alone, and the share at which device time breaks even.
Called by the command; `twin_page` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slalom.bench.confidence.setting import Sizes
from slalom.bench.confidence.twin_cells import FIRST, WHOLE, Cell, play
from slalom.bench.kept_runs import KeptRuns, Result, kept_name
from slalom.bench.sla.knees import knee
from slalom.metrics.confidence import Estimate, estimate

SCENARIO = "confident.yaml"
#: Rates at which the knee is looked for, as factors of the file's.
_FACTORS = (0.25, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
#: The two rates, of the knee.
LIGHT, KNEE = 0.1, 1.0
RATES = (LIGHT, KNEE)


@dataclass(frozen=True, slots=True)
class Point:
    """A share of doubt under a ratio of costs, at a rate."""

    rate: float
    ratio: float
    doubted_at: str
    share: float
    #: By seed: this point's, and those of the large model alone on the same load.
    results: Sequence[Result]
    alone: Sequence[Result]

    def mean(self, name: str) -> float:
        """A figure's mean over the seeds."""
        return estimate([row[name] for row in self.results]).mean

    def by_alone(self, name: str) -> Estimate:
        """A figure as a multiple of what the large model alone has, in pairs of equal loads."""
        pairs = zip(self.results, self.alone, strict=True)
        return estimate([own[name] / base[name] for own, base in pairs if base[name]])


@dataclass(frozen=True, slots=True)
class Swept:
    """The twin half."""

    points: Sequence[Point]
    #: The large model alone, by rate and seed.
    alone: Mapping[float, Sequence[Result]]
    #: Its knee, as a factor of the file's rate.
    knee: float

    def curve(self, rate: float, ratio: float, doubted_at: str) -> list[Point]:
        """Points by share, ascending."""
        return [
            one
            for one in self.points
            if (one.rate, one.ratio, one.doubted_at) == (rate, ratio, doubted_at)
        ]


def swept(sizes: Sizes, scenarios: Path) -> Swept:
    """Play everything.

    Args:
        sizes: How much.
        scenarios: Folder with the scenario file.
    """
    path = str(scenarios / SCENARIO)
    runner: KeptRuns[Cell] = KeptRuns(sizes.processes, None, key_of=_key_of, play=play)
    at = _knee(sizes, path, runner)
    bases = {
        (rate, seed): Cell(path, seed, sizes.requests, rate * at)
        for rate in RATES
        for seed in range(sizes.seeds)
    }
    cells = {
        (rate, ratio, when, share, seed): Cell(
            path, seed, sizes.requests, rate * at, ratio, share, when
        )
        for rate in RATES
        for ratio in sizes.ratios
        for when in (FIRST, WHOLE)
        for share in sizes.shares
        for seed in range(sizes.seeds)
    }
    results = runner.play([*bases.values(), *cells.values()], "shares of doubt")
    alone = {rate: [results[bases[rate, seed]] for seed in range(sizes.seeds)] for rate in RATES}
    names = dict.fromkeys(key[:4] for key in cells)
    points = [
        Point(
            *(rate, ratio, when, share),
            results=[results[cells[rate, ratio, when, share, seed]] for seed in range(sizes.seeds)],
            alone=alone[rate],
        )
        for rate, ratio, when, share in names
    ]
    return Swept(points, alone, at)


def break_even(curve: Sequence[Point]) -> float | None:
    """The share of doubt from which on the two models take more device time than the large alone.

    None where that is never so. Between two shares it is taken to be linear.
    """
    before: tuple[float, float] | None = None
    for point in curve:
        cost = point.by_alone("device_s").mean
        if cost >= 1:
            if before is None or cost == before[1]:
                return point.share
            part = (1 - before[1]) / (cost - before[1])
            return before[0] + part * (point.share - before[0])
        before = (point.share, cost)
    return None


def _knee(sizes: Sizes, path: str, runner: KeptRuns[Cell]) -> float:
    """Where the large model alone has nine tenths of the good answers of the lightest load."""
    cells = [Cell(path, 0, sizes.requests, factor) for factor in _FACTORS]
    results = runner.play(cells, "the large model's knee")
    return knee(_FACTORS, [results[cell]["good"] for cell in cells])


def _key_of(cell: Cell) -> str:
    """Nothing is kept, so any name will do that tells cells apart."""
    return kept_name({"cell": repr(cell)}, "", "")
