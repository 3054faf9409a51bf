"""Fixed scenarios whose exact numbers stand committed beside this file.

Owns the scenarios and what is counted. A change that moves a number commits the new file and says
why. To write it anew: `make scorecard`; without `--write` the module prints.
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slalom.config.scenario_load import load_scenario
from slalom.core.actions import EndRequest, Outcome
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.faults import FaultPlan
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.twin.noise import stream
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, Drain, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND
from slalom.workload.clients import Retries

#: Where the standing loads are.
STANDING = Path(__file__).parents[2] / "scenarios"
COMMITTED = Path(__file__).with_suffix(".json")

#: task -> (share, prompt tokens up to, output tokens up to, objectives): a mixed coding load.
_TASKS: dict[str, tuple[float, int, int, Sla]] = {
    "completion": (0.62, 1_500, 40, Sla(ttft_ns=400 * MS)),
    "generation": (0.14, 1_000, 300, Sla(ttft_ns=1 * SECOND, tpot_ns=40 * MS)),
    "summary": (0.12, 3_000, 120, Sla(e2e_ns=6 * SECOND)),
    "translation": (0.12, 1_500, 400, Sla(e2e_ns=20 * SECOND)),
}
_LAW = StepLaw(prefill_ns_per_token=60_000, token_ns=9 * MS, neighbour_ns=600_000)


def _model(name: str, gib: int, places: int, **other: Any) -> TwinModel:
    spec = ModelSpec(name, "gpu", gib * GIB, places, **other)
    return TwinModel(spec, _LAW, LoadLaw(fixed_ns=800 * MS, bytes_per_s=4 * GIB))


def _arrivals(name: str, count: int, rate: float, models: list[str]) -> list[Arrival]:
    """Poisson arrivals, `rate` a second; the first model is the most wanted."""
    rng = stream(0, "scorecard", name)
    weights = [1 / (1 + index) for index in range(len(models))]
    arrivals, at_ns = [], 0
    for index in range(count):
        at_ns += round(rng.expovariate(rate) * SECOND)
        task = rng.choices(list(_TASKS), [share for share, *_ in _TASKS.values()])[0]
        _, prompt_most, output_most, sla = _TASKS[task]
        output = rng.randint(1, output_most)
        model = rng.choices(models, weights)[0]
        request = Request(
            f"r{index}", model, task, sla, at_ns, rng.randint(1, prompt_most), output_most, output
        )
        leaves = task == "completion" and rng.random() < 0.2
        patience_ns = rng.randrange(2 * SECOND) if leaves else -1
        arrivals.append(Arrival(request, output, patience_ns))
    return arrivals


def _one_model(rate: float, **kinds: str) -> Scenario:
    return Scenario(
        models=(_model("a", 8, 8),),
        devices=(DeviceSpec("gpu", 10 * GIB),),
        arrivals=_arrivals("one model", 800, rate, ["a"]),
        policies=policies(**kinds),
    )


def _coming_again() -> Scenario:
    """Refused clients that try twice more."""
    scenario = _one_model(9.0, admission="drop-late")
    rule = Retries(tries=2, backoff_ns=250 * MS)
    arrivals = [replace(arrival, retries=rule) for arrival in scenario.arrivals]
    return replace(scenario, arrivals=arrivals)


def _swaps(**kinds: str) -> Scenario:
    return Scenario(
        models=(_model("a", 8, 4), _model("b", 4, 4), _model("c", 6, 4)),
        devices=(DeviceSpec("gpu", 12 * GIB),),
        arrivals=_arrivals("swaps", 600, 1.5, ["a", "b", "c"]),
        policies=policies(**kinds),
        params=SchedulerParams(queue_timeout_ns=60 * SECOND),
    )


def _faulty() -> Scenario:
    faults = FaultPlan(crash=0.01, hang=0.005, error=0.03, failed_load=0.1, late=0.05)
    return replace(_swaps(), faults=faults, seed=1)


def _growing() -> Scenario:
    return Scenario(
        models=(_model("a", 3, 4, replicas=3), _model("b", 3, 2)),
        devices=(DeviceSpec("gpu", 12 * GIB),),
        arrivals=_arrivals("growing", 600, 4.0, ["a", "b"]),
        policies=policies(routing="pack"),
    )


def _drained() -> Scenario:
    return replace(_swaps(), drain=Drain(60 * SECOND, 70 * SECOND))


def _standing(name: str, policy: str, requests: int) -> Scenario:
    """The beginning of a standing load, at its own rate."""
    loaded = load_scenario(STANDING / f"{name}.yaml")
    plan = replace(loaded.plan, count=requests, duration_ns=0)
    return scenario_of(replace(loaded, plan=plan), policy_sets(loaded, [policy])[policy], 0)


def _typing_untold(policy: str, requests: int) -> Scenario:
    """The standing load of typing, but nobody cancels and the server cannot tell what is stale."""
    scenario = _standing("typing", policy, requests)
    arrivals = [
        replace(
            arrival,
            request=replace(arrival.request, supersedes=""),
            stale_ns=max(arrival.stale_ns, arrival.patience_ns),
            patience_ns=-1,
        )
        for arrival in scenario.arrivals
    ]
    return replace(scenario, arrivals=arrivals)


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "one model, light, edf": lambda: _one_model(2.0),
    "one model, knee, fcfs": lambda: _one_model(5.0, ordering="fcfs"),
    "one model, knee, edf": lambda: _one_model(5.0),
    "one model, overload, fcfs": lambda: _one_model(9.0, ordering="fcfs"),
    "one model, overload, edf": lambda: _one_model(9.0),
    "one model, overload, edf, drop-late": lambda: _one_model(9.0, admission="drop-late"),
    "one model, overload, edf, drop-late, retries": _coming_again,
    "three models that do not fit, fcfs": lambda: _swaps(ordering="fcfs"),
    "three models that do not fit, edf, drop-late": lambda: _swaps(admission="drop-late"),
    "three models that do not fit, faults": _faulty,
    "a model that grows, pack": _growing,
    "a drain in the middle": _drained,
    "poisson, first-come": lambda: _standing("poisson", "first-come", 250),
    "poisson, drop-late": lambda: _standing("poisson", "drop-late", 250),
    "gamma-cv4, deadlines": lambda: _standing("gamma-cv4", "deadlines", 250),
    "step, drop-late": lambda: _standing("step", "drop-late", 400),
    "coding-day, deadlines": lambda: _standing("coding-day", "deadlines", 250),
    "mix-drift, drop-late": lambda: _standing("mix-drift", "drop-late", 250),
    "many-models, deadlines": lambda: _standing("many-models", "deadlines", 150),
    "many-models-asleep, deadlines": lambda: _standing("many-models-asleep", "deadlines", 250),
    "agents, deadlines": lambda: _standing("agents", "deadlines", 30),
    "typing, drop-late": lambda: _standing("typing", "drop-late", 250),
    "typing, drop-late, untold": lambda: _typing_untold("drop-late", 250),
    "saber-w1": lambda: _standing("saber-w1", "default", 100),
    "saber-w3, drop-late": lambda: _standing("saber-w3", "admission=drop-late", 100),
    "cato-burst, drop-late": lambda: _standing("cato-burst", "drop-late", 150),
}

_COUNTERS = ("loads", "evictions", "retries", "stale_events", "drain_aborts", "unloads_unwanted")

#: Counted only where models sleep.
_SLEEP_COUNTERS = ("sleeps", "wakes", "sleep_failures", "unloads_dropped")


def numbers(result: TwinRun) -> dict[str, Any]:
    """What is counted of a run; integers only, so that equal means equal."""
    ends = result.ends
    done = [end for end in ends if end.outcome is Outcome.DONE]
    counters = dict(result.snapshot.counters)
    return {
        "requests": len(ends),
        "outcomes": _counts(end.outcome.value for end in ends),
        "reasons": _counts(end.reason or "none" for end in ends),
        "good": _counts(end.task for end in ends if end.good),
        "ttft_us": _quantiles(e.first_token_ns - e.arrived_ns for e in ends if _started(e)),
        "e2e_us": _quantiles(end.ended_ns - end.arrived_ns for end in done),
        "queue_us": _quantiles(e.first_dispatch_ns - e.arrived_ns for e in ends if _started(e)),
        "output_tokens": sum(end.output_tokens for end in done),
        "wasted_tokens": sum(end.output_tokens for end in ends)
        - sum(e.output_tokens for e in done),
        "counters": {name: counters.get(name, 0) for name in _COUNTERS}
        | {name: counters[name] for name in _SLEEP_COUNTERS if counters.get(name)},
        "entries": len(result.entries),
        "last_end_us": max(end.ended_ns for end in ends) // 1_000,
    }


def _started(end: EndRequest) -> bool:
    return end.first_token_ns >= 0


def _counts(names: Iterable[str]) -> dict[str, int]:
    known = [str(name) for name in names]
    return {name: known.count(name) for name in sorted(set(known))}


def _quantiles(values_ns: Iterable[int]) -> dict[str, int]:
    """Nearest-rank quantiles, µs."""
    ordered = sorted(values_ns)
    if not ordered:
        return {}
    ranks = {"p50": 50, "p95": 95, "p99": 99}
    return {
        name: ordered[-(-share * len(ordered) // 100) - 1] // 1_000 for name, share in ranks.items()
    }


def card() -> dict[str, Any]:
    """Every scenario with its numbers."""
    return {name: numbers(run(build())) for name, build in SCENARIOS.items()}


if __name__ == "__main__":
    text = json.dumps(card(), indent=2) + "\n"
    if "--write" in sys.argv[1:]:
        COMMITTED.write_text(text)
    else:
        sys.stdout.write(text)
