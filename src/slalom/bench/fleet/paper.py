"""Part 1: CATO's set-up, two machines and four tasks, and the paper's four figures.

Owns the loads of the part and the table of each. Runs come from `running`; what all loads say
together is `summary`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, get_args

from slalom.bench.fleet.cells import Arrivals, Cell, Result
from slalom.bench.fleet.choices import RAY, Choice, choices, fixed
from slalom.bench.fleet.running import Runner
from slalom.bench.sla.tables import table
from slalom.metrics.confidence import estimate

#: Scenario files, how a reader knows them, and replicas of each model that fill the machines.
SETTINGS: Mapping[str, tuple[str, int]] = {
    "fleet-own": ("one model for each task", 2),
    "fleet-shared": ("two models of two tasks each", 4),
}
ARRIVALS: Sequence[Arrivals] = get_args(Arrivals)
#: What the paper looks at: its name, our figure, and whether less is better.
FIGURES: Sequence[tuple[str, str, bool]] = (
    ("good TTFT-critical a second", "urgent_good_per_s", False),
    ("their good tokens a replica second", "urgent_tokens_per_replica_s", False),
    ("P95 E2E of summarisation, s", "e2e_p95_s.summarisation", True),
    ("P95 TTFT of generation, s", "ttft_p95_s.generation", True),
)
_HEADS = ("scheduler", "good %", *(name for name, _, _ in FIGURES), "answered %", "replica s")
#: Requests a minute that the scenario files ask for.
PER_MINUTE = 150
#: Requests a minute of which hardly any two meet on a replica of a machine that is full of them.
_ALONE_PER_MINUTE = 3

#: Results of one load: by row, one for each seed.
Board: TypeAlias = Mapping[str, Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Load:
    """One load, with the results of all who were given it."""

    setting: str
    arrivals: Arrivals
    per_minute: int
    board: Board
    #: What full knowledge reaches, for some of the seeds, the first ones.
    limits: Sequence[Result]
    #: The same requests, each alone on its replica: by seed.
    alone: Sequence[Result] = ()

    @property
    def title(self) -> str:
        """How a reader knows it."""
        return f"{SETTINGS[self.setting][0]}, {self.arrivals}, {self.per_minute} a minute"


def loads(
    runner: Runner, folder: Path, seeds: int, rates: Sequence[float], bound_seeds: int
) -> list[Load]:
    """Play everything, or find it where it is kept.

    Args:
        runner: Plays.
        folder: With the scenario files.
        seeds: Repetitions of each load.
        rates: So many times as fast as the files say.
        bound_seeds: Repetitions of which the bound is found.
    """
    found = []
    for setting, (about, static) in SETTINGS.items():
        path = str(folder / f"{setting}.yaml")
        rate = _ALONE_PER_MINUTE / PER_MINUTE
        apart = [Cell(path, "uniform", rate, seed, fixed(static)) for seed in range(seeds)]
        results = runner.play(apart, f"{about}: each request alone")
        alone = [results[cell] for cell in apart]
        for rate in rates:
            for arrivals in ARRIVALS:
                place = (setting, arrivals, round(PER_MINUTE * rate))
                load = play_load(runner, path, place, choices(static), seeds, bound_seeds)
                found.append(replace(load, alone=alone))
    return found


def play_load(
    runner: Runner,
    path: str,
    place: tuple[str, Arrivals, int],
    rows: Sequence[Choice],
    seeds: int,
    bound_seeds: int,
) -> Load:
    """Play one load.

    Args:
        runner: Plays.
        path: Of the scenario file.
        place: The set-up, the kind of arrivals, and requests a minute.
        rows: Who decides, one after the other.
        seeds: Repetitions.
        bound_seeds: Repetitions of which full knowledge is found.
    """
    setting, arrivals, per_minute = place
    rate = per_minute / PER_MINUTE
    cells = {
        (row.name, seed): Cell(path, arrivals, rate, seed, row)
        for seed in range(seeds)
        for row in rows
    }
    limits = [Cell(path, arrivals, rate, seed, None) for seed in range(bound_seeds)]
    title = f"{SETTINGS[setting][0]}, {arrivals}, {per_minute} a minute"
    results = runner.play([*cells.values(), *limits], title)
    board = {
        row.name: [_with_ratio(results[cells[row.name, seed]]) for seed in range(seeds)]
        for row in rows
    }
    return Load(setting, arrivals, per_minute, board, [results[cell] for cell in limits])


def best(load: Load, seed: int) -> float:
    """Good answers with full knowledge: the best of that schedule and of all that were played."""
    found: Result = load.limits[seed]
    return max(found["hindsight"], *(rows[seed]["attainment"] for rows in load.board.values()))


def section(found: Sequence[Load]) -> Iterator[str]:
    """The tables of all loads, line by line."""
    yield "## CATO's set-up, load by load"
    for load in found:
        yield f"\n### {load.title}\n"
        yield from table(_HEADS, [_row(who, rows) for who, rows in load.board.items()])
        yield from _against_ray(load.board)
        if load.limits:
            yield _bound_line(load.limits)


def _with_ratio(found: Result) -> Result:
    tokens = found["urgent_good_tokens"] / max(found["replica_s"], 1.0)
    return {**found, "urgent_tokens_per_replica_s": tokens}


def _row(who: str, rows: Sequence[Result]) -> list[str]:
    return [
        who,
        _cell(rows, "attainment", 100.0),
        *(_cell(rows, key) for _, key, _ in FIGURES),
        _cell(rows, "answered", 100.0),
        _cell(rows, "replica_s"),
    ]


def _cell(rows: Sequence[Result], key: str, factor: float = 1.0) -> str:
    found = estimate([row[key] * factor for row in rows])
    digits = 0 if found.mean >= 100 else 1 if found.mean >= 10 else 2
    margin = "" if found.margin is None else f" ±{found.margin:.{digits}f}"
    return f"{found.mean:.{digits}f}{margin}"


def _against_ray(board: Board) -> Iterator[str]:
    """Changes of the four figures against Ray Serve's rules: of the means, over the same seeds."""
    before = board[RAY.name]
    yield "\nAgainst Ray Serve's rules, % (more is better in the first two, less in the others):\n"
    lines = []
    for who, rows in board.items():
        if who != RAY.name:
            changes = (change(before, rows, key) for _, key, _ in FIGURES)
            lines.append([who, *("-" if one is None else f"{one:+.1f}" for one in changes)])
    yield from table(["scheduler", *(name for name, _, _ in FIGURES)], lines)


def change(before: Sequence[Result], after: Sequence[Result], key: str) -> float | None:
    """By how much the mean of a figure differs, per cent; None where there was nothing."""
    was = sum(row[key] for row in before)
    return 100 * (sum(row[key] for row in after) / was - 1) if was else None


def _bound_line(found: Sequence[Result]) -> str:
    upper = estimate([100 * row["upper"] for row in found])
    best = estimate([100 * row["hindsight"] for row in found])
    return (
        f"\nWith every answer's length told and the machines handed out as turns out best, "
        f"{best.mean:.1f} % are good. Of all requests, those of the warm-up too, when replicas "
        f"have to come up first, no schedule at all has more than {upper.mean:.1f} % good "
        f"({len(found)} seeds)."
    )
