"""Policies side by side on the same loads: every policy meets seed 0, then seed 1, and so on.

Owns one run from scenario file to `RunResult`, and the comparing of several. Prints nothing.
Called by the `twin` commands, by `sweep` and by `capacity`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from slalom.config.scenario_load import LoadedScenario
from slalom.core.journal import Entry
from slalom.core.policy import Policies
from slalom.metrics.records import RequestRecord
from slalom.metrics.results import Results, RunResult
from slalom.twin.bound_api import bound
from slalom.twin.bound_jobs import PAUSES_MAX
from slalom.twin.from_file import scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Scenario
from slalom.units import seconds_to_ns

#: Told each run as it ends.
Tell = Callable[[RunResult], None]
#: Told (policy, seed, record) of each request.
Record = Callable[[str, int, RequestRecord], None]


@dataclass(frozen=True, slots=True)
class Played:
    """One run with what figures are drawn from."""

    result: RunResult
    meter: Meter


def compare(
    loaded: LoadedScenario,
    policies: Mapping[str, Policies],
    seeds: Sequence[int],
    *,
    rate_scale: float = 1.0,
    with_bound: bool = False,
    tell: Tell | None = None,
    record: Record | None = None,
) -> Results:
    """Run every policy under every seed.

    Args:
        loaded: The scenario.
        policies: By name.
        seeds: Of the loads.
        rate_scale: The load is so many times as fast.
        with_bound: Say beside each run what no policy could exceed on its load.
        tell: Told each run as it ends.
        record: Told what became of each request, with policy and seed, as it ends.
    """
    runs: list[RunResult] = []
    for seed in seeds:
        same_load = []
        for name, chosen in policies.items():
            told = partial(record, name, seed) if record is not None else None
            same_load.append(play(loaded, name, chosen, seed, rate_scale=rate_scale, record=told))
            if tell is not None:
                tell(same_load[-1].result)
        if with_bound:
            one = scenario_of(loaded, next(iter(policies.values())), seed, rate_scale=rate_scale)
            same_load = _bracketed(one, same_load)
        runs += [played.result for played in same_load]
    return Results(
        scenario=loaded.file.name,
        world="twin",
        rate_per_s=loaded.plan.rate_per_s * rate_scale,
        runs=runs,
    )


def _bracketed(scenario: Scenario, same_load: Sequence[Played]) -> list[Played]:
    """The runs of one load, each with its distance to what is possible on it."""
    goods = [played.meter.good_whole for played in same_load]
    pauses_max = max([PAUSES_MAX, *(played.meter.pauses_max for played in same_load)])
    found = bound(scenario, achieved=goods, pauses_max=pauses_max)
    shared = {"bound_share": found.upper_share, "schedule_share": found.schedule_share}
    return [
        replace(
            played,
            result=replace(
                played.result,
                more={
                    **played.result.more,
                    **shared,
                    "good_of_bound": good / max(found.good_upper, 1),
                },
            ),
        )
        for played, good in zip(same_load, goods, strict=True)
    ]


def play(
    loaded: LoadedScenario,
    name: str,
    policies: Policies,
    seed: int,
    *,
    rate_scale: float = 1.0,
    watch: Callable[[Entry], None] | None = None,
    record: Callable[[RequestRecord], None] | None = None,
) -> Played:
    """One policy under one seed.

    Args:
        loaded: The scenario.
        name: The policy's, for the result.
        policies: Who decides.
        seed: Of the load.
        rate_scale: The load is so many times as fast.
        watch: Told every entry of the journal.
        record: Told what became of each request, as it ends; nobody keeps it otherwise.
    """
    scenario = scenario_of(loaded, policies, seed, rate_scale=rate_scale)
    warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds)
    meter = Meter(scenario, warm_up_ns, record or _forget)
    done = run(scenario, watch=watch, observer=meter, keep=False)
    # The span of the arrivals: as the file says, else up to the last one.
    span_ns = (loaded.plan.duration_ns or done.last_arrival_ns) - warm_up_ns
    result = RunResult.of(
        name,
        seed,
        meter.tallies,
        max(span_ns, 1),
        usage=meter.usage(),
        more={"cut_short": meter.cut},
    )
    return Played(result, meter)


def _forget(record: RequestRecord) -> None:
    """Keep nothing: the tallies have counted it."""
