"""Part 1: SABER's three workloads at twelve rates, on its published speed law.

Owns the cells, the comparison with the best static batch, and the tables. The published figures
are of one run of 100 requests a cell; ours are means over seeds. Called by the command.

Source: arXiv 2506.19677, goodput of SABER and of the best static batch at each rate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slalom.bench.sla.arithmetic import (
    Grid,
    best_rows,
    best_whole,
    mean_gain,
    picked,
    row_gains,
    row_shares,
    spread,
)
from slalom.bench.sla.cells import Cell, Load, Result
from slalom.bench.sla.choices import Choice, beside_static
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Part, Settings
from slalom.bench.sla.tables import cell, percent, points, table
from slalom.metrics.confidence import Estimate, estimate

WORKLOADS = {"W1": "saber-w1.yaml", "W2": "saber-w2.yaml", "W3": "saber-w3.yaml"}
RATES = (*range(1, 11), 15, 20)
BATCHES = tuple(range(10, 101, 10))
#: Seeds for which the bound is found.
BOUND_SEEDS = 5
_QUICK_RATES, _QUICK_BATCHES = (4, 20), (10, 100)
#: Rate of the scenario files.
_OWN_RATE = 6
#: Where a policy has the window in its own hands.
_PLACES = 100
#: Mean gain of SABER over the best static batch, percentage points, and the spread of completion
#: over SLA, per cent: SABER's and static's. Same source.
PUBLISHED = {"W1": (10.2, 33.7, 52.4), "W2": (1.2, 17.5, 20.8), "W3": (4.3, 25.1, 36.4)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    folder: Path
    choices: Sequence[Choice]
    seeds: int
    rates: Sequence[int] = RATES
    batches: Sequence[int] = BATCHES
    #: Of a run; 0 for the scenarios' hundred.
    requests: int = 0

    def fixed(self) -> Mapping[int, Choice]:
        """The static batches: so many places, first come first served, nothing refused."""
        return {batch: Choice(f"static {batch}", "open", ordering="fcfs") for batch in self.batches}

    def cell(self, workload: str, rate: int, seed: int, choice: Choice | None) -> Cell:
        """One run; without a choice its bound."""
        places = _PLACES
        if choice is not None:
            places = next((n for n, one in self.fixed().items() if one == choice), _PLACES)
        path = str(self.folder / WORKLOADS[workload])
        return Cell(Load(path, rate / _OWN_RATE, places, self.requests), seed, choice)

    def cells(self) -> Iterator[Cell]:
        """All of them."""
        rows = [*self.fixed().values(), *self.choices, None]
        for choice in rows:
            for workload in WORKLOADS:
                for rate in self.rates:
                    for seed in range(self.seeds_of(choice)):
                        yield self.cell(workload, rate, seed, choice)

    def seeds_of(self, choice: Choice | None) -> int:
        """How often a cell is run; the bound, which takes seconds, not so often."""
        return self.seeds if choice is not None else min(self.seeds, BOUND_SEEDS)


def part(settings: Settings, runner: Runner) -> Part:
    """Run it."""
    chosen = beside_static(settings.only)
    plan = Plan(settings.folder, chosen, settings.seeds)
    if settings.quick:
        plan = Plan(settings.folder, chosen, settings.seeds, _QUICK_RATES, _QUICK_BATCHES, 20)
    found = workloads(plan, runner.play(plan.cells(), "SABER's grid"))
    return Part("\n".join(section(plan, found)), document(plan, found))


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload's grids of attainment (shares), by who decided; `best` is static's best."""

    name: str
    rates: Sequence[int]
    grids: Mapping[str, Grid]
    ratios: Mapping[str, Grid]
    #: The best static batch at each rate, and over all.
    best: Sequence[int]
    best_single: int
    #: Requests without an answer, share, mean over all.
    unanswered: Mapping[str, float]


def workloads(plan: Plan, results: Mapping[Cell, Result]) -> list[Workload]:
    """The results as grids."""
    return [_workload(plan, results, name) for name in WORKLOADS]


def _workload(plan: Plan, results: Mapping[Cell, Result], name: str) -> Workload:
    def grid(choice: Choice | None, figure: str) -> list[list[float]]:
        return [
            [
                float(results[plan.cell(name, rate, seed, choice)].get(figure, 0.0))
                for seed in range(plan.seeds_of(choice))
            ]
            for rate in plan.rates
        ]

    fixed = {batch: grid(choice, "attainment") for batch, choice in plan.fixed().items()}
    slow = {batch: grid(choice, "slowness") for batch, choice in plan.fixed().items()}
    best, single = best_rows(fixed), best_whole(fixed)
    grids: dict[str, Grid] = {
        "best static": picked(fixed, best),
        "single static": fixed[single],
        **{choice.name: grid(choice, "attainment") for choice in plan.choices},
        "schedule": grid(None, "schedule"),
        "upper": grid(None, "upper"),
    }
    ratios: dict[str, Grid] = {
        "best static": picked(slow, best),
        "single static": slow[single],
        **{choice.name: grid(choice, "slowness") for choice in plan.choices},
    }
    unanswered = {}
    for choice in plan.choices:
        done, injected = grid(choice, "done"), grid(choice, "injected")
        unanswered[choice.name] = 1 - sum(map(sum, done)) / max(sum(map(sum, injected)), 1)
    return Workload(name, plan.rates, grids, ratios, best, single, unanswered)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy came to on one workload."""

    gain: Estimate
    #: Against the one batch that is best over all rates.
    single_gain: Estimate
    #: Lowest of the gains over the best static at a rate, and that rate.
    least: Estimate
    least_rate: int
    #: Share of the clairvoyant schedule's goodput: mean and lowest over rates.
    of_schedule: float
    of_schedule_least: float
    spread: Estimate
    #: Spread of the best static batch's.
    static_spread: Estimate
    unanswered: float


def verdict(found: Workload, name: str) -> Verdict:
    """Judge a policy."""
    ours, best = found.grids[name], found.grids["best static"]
    gains = row_gains(ours, best)
    place = min(range(len(gains)), key=lambda row: gains[row].mean)
    shares = row_shares(ours, found.grids["schedule"])
    return Verdict(
        gain=mean_gain(ours, best),
        single_gain=mean_gain(ours, found.grids["single static"]),
        least=gains[place],
        least_rate=found.rates[place],
        of_schedule=sum(shares) / len(shares),
        of_schedule_least=min(shares),
        spread=spread(found.ratios[name]),
        static_spread=spread(found.ratios["best static"]),
        unanswered=found.unanswered[name],
    )


def section(plan: Plan, found: Sequence[Workload]) -> Iterator[str]:
    """The part of the page, line by line."""
    yield _ABOUT.format(seeds=plan.seeds, bound_seeds=plan.seeds_of(None))
    names = [choice.name for choice in plan.choices]
    for one in found:
        gain, ours, static = PUBLISHED[one.name]
        yield f"\n### {one.name}\n"
        yield (
            f"SABER as published: {gain:+.1f} points over the best static batch, spread {ours} % "
            f"against {static} %. Best single batch here: {one.best_single}.\n"
        )
        yield from table(_VERDICT_HEADS, [_verdict_row(one, name) for name in names])
        yield "\nGoodput, % of the requests:\n"
        heads = ["req/s", "best static (batch)", *names, "clairvoyant schedule", "no policy above"]
        yield from table(heads, _goodput_rows(one, names))
    yield "\n![Share of good requests against the rate, on the three workloads](sla-saber.svg)"


def document(plan: Plan, found: Sequence[Workload]) -> dict[str, Any]:
    """The same as data."""
    return {
        one.name: {
            "rates": list(one.rates),
            "best_static": list(one.best),
            "attainment": {
                name: [estimate(row).mean for row in grid] for name, grid in one.grids.items()
            },
            "mean_gain": {
                choice.name: verdict(one, choice.name).gain.mean for choice in plan.choices
            },
        }
        for one in found
    }


_VERDICT_HEADS = (
    "policy",
    "over best static, points",
    "least, points (at req/s)",
    "over best single static, points",
    "of the schedule, %",
    "least, %",
    "spread, %",
    "less than best static's, %",
    "unanswered, %",
)


def _verdict_row(found: Workload, name: str) -> list[str]:
    made = verdict(found, name)
    saved = 1 - made.spread.mean / made.static_spread.mean if made.static_spread.mean else 0.0
    return [
        name,
        points(made.gain),
        f"{points(made.least)} ({made.least_rate})",
        points(made.single_gain),
        percent(made.of_schedule),
        percent(made.of_schedule_least),
        cell(made.spread, 100),
        percent(saved),
        percent(made.unanswered),
    ]


def _goodput_rows(found: Workload, names: Sequence[str]) -> Iterator[list[str]]:
    for row, rate in enumerate(found.rates):
        shown = [cell(estimate(found.grids[name][row]), 100) for name in names]
        best = cell(estimate(found.grids["best static"][row]), 100)
        limits = [cell(estimate(found.grids[name][row]), 100) for name in ("schedule", "upper")]
        yield [str(rate), f"{best} ({found.best[row]})", *shown, *limits]


_ABOUT = """\
## SABER's grid

100 requests of four tasks with end-to-end limits in front of one engine whose speed is the
published law v(L) = 102.55/(1 + 0.03 L − 0.0001 L²): W1 heavy, W2 light, W3 even. *Static* is the
engine's batch of 10 to 100, first come first served, nothing refused; the best one is chosen for
each cell by its mean over {seeds} seeds. Policies have 100 places and choose their own window.
Differences are paired by seed, in percentage points; intervals are 95 %. *Of the schedule* is the
share of the clairvoyant schedule's goodput, which knows all arrivals and does not pause; it and the
bound are of the first {bound_seeds} seeds.
*Spread* is the standard deviation over the mean, across rates, of the mean completion time over
the SLA of whole answers; *unanswered* are requests without one."""
