"""One run of the twin half: a share of doubted answers, a ratio of costs, a rate.

Owns what is kept of a run. Both models are on one GPU and take turns; the small one is the large
one so many times as fast. Knows no part of the page. Called by `twin_sweep`, in processes of their
own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.core.actions import AnswerKept
from slalom.core.journal import Entry
from slalom.core.request import Alternatives, Choice
from slalom.metrics.records import Fate
from slalom.metrics.summaries import percentile
from slalom.twin.engine_specs import VllmEngine
from slalom.twin.from_file import Alias, Arrivals, policy_sets, scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import DoubtPlan, Scenario, TwinModel
from slalom.twin.step_costs import step_cost_of
from slalom.units import MS, SECOND

SMALL, LARGE = "small", "large"
#: When an answer is doubted: at its first tokens, or at its end. Where nobody doubts, all go to
#: the large model.
FIRST, WHOLE, NOBODY = "first tokens", "whole answer", ""
_ALIAS = "complete"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    path: str
    seed: int
    requests: int
    #: Of the file's.
    rate: float
    #: The large model takes so many times as long as the small one.
    ratio: float = 1.0
    #: Of the small model's answers.
    share: float = 0.0
    doubted_at: str = NOBODY


def play(cell: Cell) -> Mapping[str, float]:
    """Play a cell."""
    scenario = _scenario(_read(cell.path, cell.requests), cell)
    meter, kept = Meter(scenario), _Kept()
    run(scenario, watch=kept.watch, observer=meter, keep=False)
    rows = meter.records
    done = [row for row in rows if row.fate is Fate.DONE]
    times = sorted(row.e2e_ns / MS for row in done)
    span_s = max(row.ended_ns for row in rows) / SECOND
    return {
        "device_s": meter.usage().busy_share * span_s / max(len(done), 1),
        "good": sum(row.good for row in rows) / len(rows),
        "e2e_p95_ms": percentile(times, 95) if times else 0.0,
        "kept": kept.count / len(rows),
        "by_large": sum(row.model == LARGE for row in done) / max(len(done), 1),
        "answered": len(done) / len(rows),
    }


@dataclass(slots=True)
class _Kept:
    """Counts doubted answers that their clients got."""

    count: int = 0

    def watch(self, entry: Entry) -> None:
        for action in entry.actions:
            self.count += isinstance(action, AnswerKept)


def _scenario(loaded: LoadedScenario, cell: Cell) -> Scenario:
    chosen = next(iter(policy_sets(loaded).values()))
    scenario = scenario_of(loaded, chosen, cell.seed, rate_scale=cell.rate)
    models = tuple(_as_dear(model, scenario, cell.ratio) for model in scenario.models)
    scenario = replace(scenario, models=models, doubts=_doubts(cell))
    if cell.doubted_at != NOBODY:
        return scenario
    # Asked for by its own name, so to speak.
    alone: Alias = (Alternatives((LARGE,), Choice.WARM_FIRST), ("",))
    arrivals = scenario.arrivals
    assert isinstance(arrivals, Arrivals)  # noqa: S101 - what scenario_of makes
    return replace(scenario, arrivals=replace(arrivals, aliases={_ALIAS: alone}))


def _as_dear(model: TwinModel, scenario: Scenario, ratio: float) -> TwinModel:
    """The small model as the large one's engine, so many times as fast."""
    if model.spec.id != SMALL:
        return model
    large = next(one.engine for one in scenario.models if one.spec.id == LARGE)
    assert isinstance(large, VllmEngine)  # noqa: S101 - as the file says
    engine = large.at_speed(ratio)
    spec = replace(model.spec, step_cost=step_cost_of(engine, places=model.spec.places))
    return replace(model, engine=engine, spec=spec)


def _doubts(cell: Cell) -> DoubtPlan:
    if cell.doubted_at == FIRST:
        return DoubtPlan(unsure=cell.share, whole=False)
    return DoubtPlan(broken=cell.share, whole=True)


@lru_cache(maxsize=4)
def _read(path: str, requests: int) -> LoadedScenario:
    loaded = load_scenario(Path(path))
    return replace(loaded, plan=replace(loaded.plan, count=requests))
