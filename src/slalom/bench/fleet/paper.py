"""Part 1: CATO's set-up, two machines and four tasks, and the paper's four figures.

Owns the loads of the part and its tables. Runs come from `running`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from slalom.bench.fleet.cells import Arrivals, Cell, Result
from slalom.bench.fleet.choices import RAY, choices
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

#: Results of one load: by row, one for each seed.
Board = Mapping[str, Sequence[Result]]


def section(
    runner: Runner, folder: Path, seeds: int, rates: Sequence[float], bound_seeds: int
) -> Iterator[str]:
    """The part, line by line.

    Args:
        runner: Plays.
        folder: With the scenario files.
        seeds: Repetitions of each load.
        rates: So many times as fast as the files say.
        bound_seeds: Repetitions of which the bound is found, at the first rate.
    """
    yield _OPENING
    for name, (about, static) in SETTINGS.items():
        chosen = choices(static)
        for rate in rates:
            for arrivals in ARRIVALS:
                cells = {
                    (row.name, seed): Cell(str(folder / f"{name}.yaml"), arrivals, rate, seed, row)
                    for seed in range(seeds)
                    for row in chosen
                }
                limits = [
                    Cell(str(folder / f"{name}.yaml"), arrivals, rate, seed, None)
                    for seed in range(bound_seeds if rate == rates[0] else 0)
                ]
                title = f"{about}, {arrivals}, {round(150 * rate)} a minute"
                found = runner.play([*cells.values(), *limits], title)
                board = {
                    row.name: [_with_ratio(found[cells[row.name, seed]]) for seed in range(seeds)]
                    for row in chosen
                }
                yield f"\n### {title}\n"
                yield from table(_HEADS, [_row(who, rows) for who, rows in board.items()])
                yield from _against_ray(board)
                if limits:
                    yield _bound_line([found[cell] for cell in limits])


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
            lines.append([who, *(_change(before, rows, key) for _, key, _ in FIGURES)])
    yield from table(["scheduler", *(name for name, _, _ in FIGURES)], lines)


def _change(before: Sequence[Result], after: Sequence[Result], key: str) -> str:
    was = sum(row[key] for row in before)
    return f"{100 * (sum(row[key] for row in after) / was - 1):+.1f}" if was else "-"


def _bound_line(found: Sequence[Result]) -> str:
    schedule = estimate([100 * row["schedule"] for row in found])
    upper = estimate([100 * row["upper"] for row in found])
    return (
        f"\nWith full knowledge: a schedule has {schedule.mean:.1f} % good, and none more than "
        f"{upper.mean:.1f} % ({len(found)} seeds)."
    )


_OPENING = """\
## CATO's set-up

Two machines of four GPUs, a replica on each; completion, generation, summarisation and translation
at once, 100 or 150 requests in a minute after some seconds of warm-up; uniform, Poisson and
bursty arrivals (thirty at a time). Models of 33 and 34 billion parameters, so that this load fills
the machines; targets as in `scenarios/fleet-*.yaml`. *Round robin* has a fixed number of replicas
that fills the machines from the start; the others begin with one of each model. P95s are of whole
answers, so that *answered* belongs to them: whoever answers fewer has an easier time. A *replica
second* counts from the beginning of its load."""
