"""Sleep in the twin's world: what it takes, what shares a link, what is lost, what goes wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from slalom.config.scenario_load import load_scenario
from slalom.core.actions import SleepReplica, WakeReplica
from slalom.core.events import ReplicaAsleep, ReplicaReady
from slalom.core.journal import replay
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.twin.compare import play
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import VllmEngine
from slalom.twin.faults import FaultPlan
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.twin.meter import Meter
from slalom.twin.profiles import find_profile
from slalom.twin.run import TwinRun, build_scheduler, run
from slalom.twin.scenario import Arrival, Link, LoadLaw, Scenario, SleepLaw, TwinModel
from slalom.units import GIB, MS, SECOND

GB = 1_000_000_000
SCENARIOS = Path(__file__).parents[2] / "scenarios"
LAW = SleepLaw(
    fixed_ns=200 * MS, bytes_per_s=20 * GB, first_bytes_per_s=2 * GB, weight_bytes=10 * GB
)


def sleeper(name: str, level: int = 1, law: SleepLaw = LAW, gpu: str = "gpu") -> TwinModel:
    spec = ModelSpec(
        name,
        gpu,
        12 * GB,
        4,
        sleep_level=level,
        host_bytes=10 * GB if level == 1 else 0,
        residual_bytes=1 * GB,
    )
    load = LoadLaw(fixed_ns=30 * SECOND, bytes_per_s=1 * GB)
    return TwinModel(spec, StepLaw(token_ns=MS), load, sleep=law)


def ask(name: str, model: str, at_s: float) -> Arrival:
    request = Request(name, model, "task", Sla(), round(at_s * SECOND), 10, 4, 4)
    return Arrival(request, 4)


def turns(*models: TwinModel, **other: object) -> Scenario:
    """`a` is asked for, then `b`, then `a` again, on a device that holds one of them."""
    scenario = Scenario(
        models=models,
        devices=(DeviceSpec("gpu", 13 * GB, host="ram"), DeviceSpec("ram", 100 * GB)),
        arrivals=[ask("r1", "a", 0), ask("r2", "b", 100), ask("r3", "a", 200)],
        policies=policies(),
        params=SchedulerParams(swap_patience_ns=0),
    )
    return replace(scenario, **other)  # type: ignore[arg-type]  # fields of a scenario


def spans(result: TwinRun) -> list[tuple[str, int, float]]:
    """(sleep or wake, its turn, seconds from the order to its answer), in order."""
    begun: dict[tuple[str, int, int], tuple[str, int]] = {}
    found = []
    for entry in result.entries:
        for event in entry.events:
            if isinstance(event, ReplicaAsleep | ReplicaReady):
                key = (event.replica_id, event.epoch, event.turn)
                if key in begun:
                    what, since_ns = begun.pop(key)
                    found.append((what, event.turn, (entry.now_ns - since_ns) / SECOND))
        for action in entry.actions:
            if isinstance(action, SleepReplica | WakeReplica):
                what = "sleep" if isinstance(action, SleepReplica) else "wake"
                begun[action.replica_id, action.epoch, action.turn] = (what, entry.now_ns)
    return found


def first_token_s(result: TwinRun, name: str) -> float:
    end = next(end for end in result.ends if end.request_id == name)
    return (end.first_token_ns - end.arrived_ns) / SECOND


def test_a_first_sleep_pins_its_memory_and_a_wake_is_far_quicker_than_a_load() -> None:
    result = run(turns(sleeper("a"), sleeper("b")))
    assert spans(result) == [("sleep", 1, 5.2), ("sleep", 1, 5.2), ("wake", 2, 0.7)]
    # b's load waits for a's sleep; a's wake for b's.
    assert first_token_s(result, "r2") == pytest.approx(5.2 + 42, abs=0.1)
    assert first_token_s(result, "r3") == pytest.approx(5.2 + 0.7, abs=0.1)


def test_a_second_sleep_finds_its_memory_pinned() -> None:
    scenario = turns(sleeper("a"), sleeper("b"))
    more = [ask("r4", "b", 300), ask("r5", "a", 400)]
    result = run(replace(scenario, arrivals=[*scenario.arrivals, *more]))
    assert spans(result)[3:5] == [("sleep", 3, 0.7), ("wake", 2, 0.7)]


def test_level_two_drops_its_weights_at_once_and_reads_them_again_over_the_disk() -> None:
    deep = replace(LAW, bytes_per_s=100 * GB, links=("disk",))
    scenario = turns(sleeper("a", 2, deep), sleeper("b", 2, deep), links=(Link("disk", 2 * GB),))
    assert spans(run(scenario)) == [("sleep", 1, 0.2), ("sleep", 1, 0.2), ("wake", 2, 5.2)]


def test_sleeps_and_wakes_share_their_link_with_others() -> None:
    slow = replace(LAW, first_bytes_per_s=0, links=("bus",))
    models = [sleeper(name, law=slow, gpu=f"gpu-{name}") for name in "abcd"]
    models = [
        replace(m, spec=replace(m.spec, device=f"gpu{index // 2}"))
        for index, m in enumerate(models)
    ]
    devices = (
        DeviceSpec("gpu0", 13 * GB, host="ram"),
        DeviceSpec("gpu1", 13 * GB, host="ram"),
        DeviceSpec("ram", 100 * GB),
    )
    arrivals = [ask("r1", "a", 0), ask("r2", "c", 0), ask("r3", "b", 100), ask("r4", "d", 100)]
    scenario = turns(*models, devices=devices, arrivals=arrivals, links=(Link("bus", 20 * GB),))
    assert spans(run(scenario)) == [("sleep", 1, 1.2), ("sleep", 1, 1.2)]


def test_whoever_wakes_has_forgotten_the_prompts_it_had_read() -> None:
    engine = VllmEngine(find_profile("a100/starcoder2-15b"))

    def last_ttft(*between: Arrival) -> float:
        first = Request("r1", "a", "task", Sla(), 0, 6_000, 4, 4)
        last = replace(first, id="r9", arrived_ns=200 * SECOND)
        arrivals = [
            Arrival(first, 4, session="s"),
            *between,
            Arrival(last, 4, session="s", shared_tokens=6_000),
        ]
        models = [replace(sleeper(name), engine=engine) for name in "ab"]
        result = run(turns(*models, arrivals=arrivals))
        end = next(end for end in result.ends if end.request_id == "r9")
        return (end.first_token_ns - end.dispatch_ns) / SECOND

    kept, lost = last_ttft(), last_ttft(ask("r2", "b", 100))
    assert lost > 4 * kept, "the prefix cache does not survive a sleep"


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_failed_sleeps_and_wakes_cost_time_and_nothing_else(share: float) -> None:
    faults = FaultPlan(failed_load=share, heal_ns=150 * SECOND)
    models = (sleeper("a"), sleeper("b"))
    arrivals = [ask(f"r{index}", "ab"[index % 2], 10 * index) for index in range(40)]
    scenario = turns(*models, arrivals=arrivals, faults=faults, seed=3)
    result = run(scenario)
    assert len(result.ends) == 40
    assert result.snapshot.waiting == result.snapshot.running == 0
    assert replay(build_scheduler(scenario), result.entries) is None


def test_the_meter_tells_sleeps_and_wakes_from_loads() -> None:
    scenario = turns(sleeper("a"), sleeper("b"))
    meter = Meter(scenario)
    run(scenario, observer=meter)
    usage = meter.usage()
    assert (usage.loads, usage.evictions, usage.sleeps, usage.wakes) == (2, 2, 2, 1)
    assert usage.cold_start_s == pytest.approx(84)
    assert usage.wake_s == pytest.approx(0.7)


def test_in_the_standing_load_sleep_spares_cold_starts() -> None:
    loaded = load_scenario(SCENARIOS / "many-models-asleep.yaml")
    chosen = policy_sets(loaded, ["deadlines"])["deadlines"]
    loaded = replace(loaded, plan=replace(loaded.plan, count=600, duration_ns=0))
    awake = replace(
        loaded,
        file=loaded.file.model_copy(
            update={
                "models": tuple(
                    model.model_copy(update={"sleep": None}) for model in loaded.file.models
                )
            }
        ),
    )
    with_sleep = play(loaded, "x", chosen, 0).meter.usage()
    without = play(awake, "x", chosen, 0).meter.usage()
    assert with_sleep.wakes > 5
    assert without.sleeps == without.wakes == 0
    assert with_sleep.cold_start_s + with_sleep.wake_s < 0.9 * without.cold_start_s
    known = scenario_of(loaded, chosen, 0)
    assert {model.spec.residual_bytes for model in known.models} == {GIB // 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("host: memory}", "host: memory2}"), "did you mean 'memory'"),
        ((", host: memory}", "}"), "device 'gpu' has no host memory to sleep in"),
        (("residual: 512MiB", "residual: 50GiB"), "is more than the model's bytes"),
        (("sleep: {weights", "sleep: {level: 3, weights"), "level"),
        (("links: [bus]", "links: [bsu]"), "'bsu' is not among links"),
    ],
)
def test_a_scenario_whose_models_cannot_sleep_so_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    text = (SCENARIOS / "many-models-asleep.yaml").read_text()
    assert change[0] in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        load_scenario(path)
    assert "wrong.yaml" in str(caught.value)
