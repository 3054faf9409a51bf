"""Policies side by side on the same loads: every policy meets seed 0, then seed 1, and so on.

Owns one run from scenario file to `RunResult`, and the comparing of several. Prints nothing.
Called by the `twin` commands, by `sweep` and by `capacity`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slalom.config.scenario_load import LoadedScenario
from slalom.core.journal import Entry
from slalom.core.policy import Policies
from slalom.metrics.results import Results, RunResult
from slalom.twin.from_file import scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Scenario
from slalom.units import seconds_to_ns

#: Told each run as it ends.
Tell = Callable[[RunResult], None]


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
    tell: Tell | None = None,
) -> Results:
    """Run every policy under every seed.

    Args:
        loaded: The scenario.
        policies: By name.
        seeds: Of the loads.
        rate_scale: The load is so many times as fast.
        tell: Told each run as it ends.
    """
    runs = []
    for seed in seeds:
        for name, chosen in policies.items():
            played = play(loaded, name, chosen, seed, rate_scale=rate_scale)
            runs.append(played.result)
            if tell is not None:
                tell(played.result)
    return Results(
        scenario=loaded.file.name,
        world="twin",
        rate_per_s=loaded.plan.rate_per_s * rate_scale,
        runs=runs,
    )


def play(
    loaded: LoadedScenario,
    name: str,
    policies: Policies,
    seed: int,
    *,
    rate_scale: float = 1.0,
    watch: Callable[[Entry], None] | None = None,
) -> Played:
    """One policy under one seed.

    Args:
        loaded: The scenario.
        name: The policy's, for the result.
        policies: Who decides.
        seed: Of the load.
        rate_scale: The load is so many times as fast.
        watch: Told every entry of the journal, too.
    """
    scenario = scenario_of(loaded, policies, seed, rate_scale=rate_scale)
    warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds)
    meter = Meter(scenario, warm_up_ns)

    def observe(entry: Entry) -> None:
        meter.watch(entry)
        if watch is not None:
            watch(entry)

    run(scenario, watch=observe)
    duration_ns = _duration_ns(loaded, scenario) - warm_up_ns
    result = RunResult.of(name, seed, meter.records, max(duration_ns, 1), usage=meter.usage())
    return Played(result, meter)


def _duration_ns(loaded: LoadedScenario, scenario: Scenario) -> int:
    """Span of the arrivals: as the file says, else up to the last one."""
    if loaded.plan.duration_ns:
        return loaded.plan.duration_ns
    return max((arrival.request.arrived_ns for arrival in scenario.arrivals), default=0)
