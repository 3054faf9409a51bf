"""The loads of the twin's speed benchmark: one replica under pressure, and a fleet.

Owns how requests are drawn, one at a time, so that millions of them need no memory, and which
scenario files are played with more than can be on time, where planners have most to do. Called by
`slalom.bench.twin`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from slalom.config.scenario_load import load_scenario
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import VllmEngine
from slalom.twin.from_file import scenario_of
from slalom.twin.noise import stream
from slalom.twin.profiles import find_profile
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND

#: Where scenario files are, seen from the top of the repository.
_FOLDER = Path("scenarios")
#: The planner of `overloaded`.
PLANNER = "plan-and-trim"
_PROFILE = "h100/qwen2.5-coder-7b"
_BYTES = 70 * GIB
#: task -> (weight, prompt tokens up to, output tokens up to, objectives).
_TASKS: dict[str, tuple[int, int, int, Sla]] = {
    "completion": (60, 3_000, 40, Sla(ttft_ns=200 * MS, e2e_ns=1_000 * MS)),
    "generation": (15, 2_000, 400, Sla(ttft_ns=500 * MS, tpot_ns=50 * MS)),
    "summarisation": (15, 5_000, 150, Sla(e2e_ns=5 * SECOND)),
    "translation": (10, 2_000, 600, Sla(e2e_ns=30 * SECOND)),
}


def arrivals(count: int, per_s: float, models: list[str], seed: int = 0) -> Iterator[Arrival]:
    """Poisson arrivals of coding tasks.

    Args:
        count: How many.
        per_s: Over all models.
        models: Their ids, each as likely as the next.
        seed: Of the draws.
    """
    rng = stream(seed, "twin speed")
    tasks = list(_TASKS)
    weights = [row[0] for row in _TASKS.values()]
    at_s = 60.0  # everything is loaded by then
    for index in range(count):
        at_s += rng.expovariate(per_s)
        task = rng.choices(tasks, weights)[0]
        _, prompt_most, output_most, sla = _TASKS[task]
        output = rng.randint(1, output_most)
        request = Request(
            id=f"r{index}",
            model=rng.choice(models),
            task=task,
            sla=sla,
            arrived_ns=round(at_s * SECOND),
            prompt_tokens=rng.randint(1, prompt_most),
            max_tokens=output_most,
            predicted_tokens=output_most // 2,
        )
        yield Arrival(request, output)


def one_replica(count: int, per_s: float = 12.0) -> Scenario:
    """One H100 with a 7B model, 64 places, the default policies."""
    return _scenario(count, per_s, 1)


def one_simple_replica(count: int, per_s: float = 12.0) -> Scenario:
    """The same load on the simple law of `engine_model`."""
    scenario = one_replica(count, per_s)
    law = StepLaw(prefill_ns_per_token=20_000, token_ns=6 * MS, neighbour_ns=40_000)
    model = replace(scenario.models[0], engine=None, step=law)
    return replace(scenario, models=(model,))


def fleet(count: int, per_s: float = 5_000_000 / 86_400, *, replicas: int = 1_000) -> Scenario:
    """As many H100s, each with a model of its own; by default a day of 5 million requests."""
    return _scenario(count, per_s, replicas)


def overloaded(
    count: int, name: str, per_s: float, *, admission: str = PLANNER, places: int = 0
) -> Scenario:
    """A scenario file at another rate, so that some requests have to be late.

    Args:
        count: Requests in all.
        name: Of the file.
        per_s: Arrivals per second.
        admission: Who decides.
        places: Of every replica; 0 for the file's.
    """
    loaded = load_scenario(_FOLDER / f"{name}.yaml")
    models = tuple(
        model.model_copy(update={"places": places or model.places}) for model in loaded.file.models
    )
    file = loaded.file.model_copy(update={"models": models})
    plan = replace(loaded.plan, count=count, duration_ns=0)
    return scenario_of(
        replace(loaded, file=file, plan=plan),
        policies(admission=admission),
        seed=0,
        rate_scale=per_s / loaded.plan.rate_per_s,
    )


def _scenario(count: int, per_s: float, replicas: int) -> Scenario:
    engine = VllmEngine(find_profile(_PROFILE), kv_blocks=60_000)
    names = [f"m{index}" for index in range(replicas)]
    return Scenario(
        models=tuple(
            TwinModel(
                ModelSpec(name, f"gpu-{name}", _BYTES, 64, pinned=True),
                load=LoadLaw(fixed_ns=20 * SECOND),
                report_every_ns=2 * SECOND,
                engine=engine,
            )
            for name in names
        ),
        devices=tuple(DeviceSpec(f"gpu-{name}", _BYTES) for name in names),
        arrivals=arrivals(count, per_s, names),
        policies=policies(),
        params=SchedulerParams(),
        until_ns=10**9 * SECOND,
    )
