"""One run of the benchmark: a policy, a load with what is changed in it, a seed.

Owns what is changed in a scenario and how, and what is kept of a run. Knows no part of the page.
Played in processes of their own by `running`; the same cell gives the same result.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, cast

from slalom.bench.sla.choices import Choice
from slalom.bench.sla.reshaping import reshaped
from slalom.config.scenario_file import LlamaCppSlots, ScenarioFile
from slalom.config.scenario_load import LoadedScenario, TraceSpan, load_scenario
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.policies.registry import policies
from slalom.twin.bound_api import bound
from slalom.twin.from_file import scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import build_scheduler, run
from slalom.twin.scenario import Arrival, Scenario
from slalom.units import SECOND, seconds_to_ns

#: What is kept of a run: figures by name, and `bins` of [requests, good ones] over time.
Result: TypeAlias = Mapping[str, Any]

#: Length of one bin, s.
BIN_S = 5
#: Slots of llama.cpp's server where a load is played on it.
_SLOTS = 16
#: Counters of the scheduler that say what planners did.
_COUNTERS = ("plan_misfits", "demotions", "pauses")


@dataclass(frozen=True, slots=True)
class Load:
    """A scenario file, with what the benchmark changes in it."""

    path: str
    #: So many times as fast as the file says.
    rate: float = 1.0
    #: Places of every replica; 0 for the file's.
    places: int = 0
    #: Arrivals in all, instead of the file's count; 0 for the file's.
    requests: int = 0
    #: Everything that takes time in the load's shape takes so many times as long.
    stretch: float = 1.0
    #: Profile of a llama.cpp server that stands in for every model's engine; empty for the file's.
    llama_cpp: str = ""
    #: Seed k replays this span of the trace from k times it on, s; 0 where there is no trace.
    slice_s: float = 0.0
    #: What a planner is told of step times is so many times the truth; 0 for nothing at all.
    calibrated: float = 1.0
    #: What it is told of answers' lengths is so many times what the task's default says.
    predicted: float = 1.0
    #: Prompts and answers are so many times as long from the middle of the arrivals on.
    shift: float = 1.0
    #: Whether what planners are told of lengths follows that shift.
    shift_told: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    load: Load
    seed: int
    #: Who decides; None for the bound instead of a run.
    choice: Choice | None


def play(cell: Cell) -> Result:
    """Play a cell."""
    loaded = _loaded(cell.load, cell.seed)
    if cell.choice is None:
        return _bound(loaded, cell)
    scenario = _scenario(loaded, cell, cell.choice)
    warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds)
    meter = Meter(scenario, warm_up_ns)
    scheduler = build_scheduler(scenario)
    run(scenario, scheduler=scheduler, observer=meter, keep=False)
    span_ns = loaded.plan.duration_ns or _last_ns(scenario.arrivals)
    made = RunResult.of(
        cell.choice.name,
        cell.seed,
        meter.records,
        max(span_ns - warm_up_ns, 1),
        usage=meter.usage(),
    )
    counters = dict(scheduler.snapshot().counters)
    return {
        **made.figures(),
        **{name: counters[name] for name in _COUNTERS if name in counters},
        "cut_short": meter.cut,
        **_slowness(scenario.arrivals, meter.records),
        "bins": bins(meter.records),
    }


def bins(records: Iterable[RequestRecord]) -> list[list[int]]:
    """[requests that count, good ones] of each `BIN_S` of arrivals, from time 0 on."""
    counted: list[list[int]] = []
    for row in records:
        place = row.scheduled_ns // (BIN_S * SECOND)
        while len(counted) <= place:
            counted.append([0, 0])
        counted[place][0] += row.fate not in {Fate.CANCELLED, Fate.SUPERSEDED}
        counted[place][1] += row.good
    return counted


def _bound(loaded: LoadedScenario, cell: Cell) -> Result:
    scenario = scenario_of(loaded, policies(), cell.seed, rate_scale=cell.load.rate)
    found = bound(scenario)
    return {"upper": found.upper_share, "schedule": found.schedule_share}


@lru_cache(maxsize=64)
def _read(path: str, span: TraceSpan) -> LoadedScenario:
    return load_scenario(Path(path), trace=span)


def _loaded(load: Load, seed: int) -> LoadedScenario:
    """The scenario with its file and its plan as this load wants them."""
    span = TraceSpan()
    if load.slice_s:
        span = TraceSpan(seed * load.slice_s, (seed + 1) * load.slice_s)
    loaded = _read(load.path, span)
    plan = reshaped(loaded.plan, load.stretch)
    if load.requests:
        plan = replace(plan, count=load.requests, duration_ns=0)
    return replace(loaded, file=_changed_file(loaded.file, load), plan=plan)


def _changed_file(file: ScenarioFile, load: Load) -> ScenarioFile:
    models = []
    for model in file.models:
        changes: dict[str, object] = {}
        if load.places:
            changes["places"] = load.places
        if load.llama_cpp:
            changes |= {"places": _SLOTS, "engine": LlamaCppSlots(profile=load.llama_cpp)}
        if load.calibrated != 1:
            changes["calibrated"] = load.calibrated or False
        models.append(model.model_copy(update=changes))
    warm_up_seconds = file.warm_up_seconds * min(load.stretch, 1)
    return file.model_copy(update={"models": tuple(models), "warm_up_seconds": warm_up_seconds})


def _scenario(loaded: LoadedScenario, cell: Cell, choice: Choice) -> Scenario:
    load = cell.load
    made = scenario_of(loaded, choice.policies(), cell.seed, rate_scale=load.rate)
    middle_ns = _last_ns(made.arrivals) // 2

    def changed(arrival: Arrival) -> Arrival:
        request = arrival.request
        factor = load.shift if request.arrived_ns >= middle_ns else 1.0
        told = round(request.predicted_tokens * load.predicted * (factor if load.shift_told else 1))
        request = replace(
            request,
            prompt_tokens=round(request.prompt_tokens * factor),
            predicted_tokens=min(max(told, 1), request.max_tokens),
        )
        output_tokens = min(round(arrival.output_tokens * factor), request.max_tokens)
        return replace(arrival, request=request, output_tokens=output_tokens)

    return replace(made, arrivals=[_each(arrival, changed) for arrival in made.arrivals])


def _each(arrival: Arrival, change: Callable[[Arrival], Arrival]) -> Arrival:
    """An arrival and the steps that follow it, changed."""
    changed = change(arrival)
    return changed if arrival.then is None else replace(changed, then=_each(arrival.then, change))


def _last_ns(arrivals: Iterable[Arrival]) -> int:
    return max((arrival.request.arrived_ns for arrival in arrivals), default=0)


def _slowness(arrivals: Iterable[Arrival], records: Iterable[RequestRecord]) -> dict[str, float]:
    """Mean of completion time over E2E objective of whole answers, where all have one."""
    limits = {arrival.request.id: arrival.request.sla.e2e_ns for arrival in arrivals}
    done = [row for row in records if row.fate is Fate.DONE]
    found = [(row.e2e_ns, limits.get(row.request_id)) for row in done]
    if not found or any(limit is None for _, limit in found):
        return {}
    return {"slowness": statistics.fmean(took / cast("int", limit) for took, limit in found)}
