"""The swarm's random worlds with stepping engines and shared links: just as safe."""

from collections import Counter
from dataclasses import replace

from slalom.core.invariants import check
from slalom.core.journal import Entry, replay
from slalom.testing.checker import Checker
from slalom.testing.swarm import scenario_for
from slalom.twin.engine_specs import EngineSpec, LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.run import TwinRun, build_scheduler, run
from slalom.twin.scenario import Link, Scenario
from slalom.twin.step_time import StepProfile
from slalom.twin.usl import UslLaw
from slalom.units import GIB, MS

_PROFILE = StepProfile(
    "swarm",
    host_ns=1 * MS,
    dense_flat_tokens=64,
    dense_flat_ns=6 * MS,
    dense_ns_per_token=40_000,
    decode_kv_ns_per_token=200,
    prefill_attention_ns_per_token_ctx=1.5,
    ingest_ns=4 * MS,
)
_ENGINES: tuple[EngineSpec, ...] = (
    VllmEngine(_PROFILE, budget_tokens=256, seqs_max=3, kv_blocks=700),
    VllmEngine(_PROFILE, by_priority=True),
    LlamaCppEngine(_PROFILE, slots=2),
    UslEngine(UslLaw(a=80, s=0.05, k=0.001, prefill_ns_per_token=50_000)),
)


def world(seed: int) -> Scenario:
    scenario = scenario_for(seed)
    models = tuple(
        replace(
            model,
            engine=_ENGINES[(seed + index) % len(_ENGINES)],
            load=replace(model.load, links=("disk",)),
        )
        for index, model in enumerate(scenario.models)
    )
    return replace(scenario, models=models, links=(Link("disk", 3 * GIB),))


def survive(seed: int) -> TwinRun:
    scenario = world(seed)
    scheduler = build_scheduler(scenario)
    checker = Checker.of(scheduler)

    def watch(entry: Entry) -> None:
        check(scheduler.state)
        checker.see(entry)

    result = run(scenario, scheduler=scheduler, watch=watch)
    checker.finish()
    assert replay(build_scheduler(scenario), result.entries) is None
    return result


def test_every_world_is_survived() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        try:
            seen.update(dict(survive(seed).snapshot.counters))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    for counter, least in {
        "ended_done": 600,
        "ended_cancelled": 60,
        "ended_failed": 20,
        "evictions": 20,
        "retries": 10,
    }.items():
        assert seen[counter] >= least, (counter, seen)
