"""What was measured of models is remembered and told to the next start's scheduler."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slalom.assembly.model_costs import ModelCosts
from slalom.assembly.parts import assemble
from slalom.assembly.recorder import Recorder
from slalom.config import Config
from slalom.config.footprint import llama_cpp_estimate
from slalom.core.actions import (
    Dispatch,
    LoadReplica,
    SleepReplica,
    UnloadCause,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    AttemptFailed,
    FailureKind,
    FirstToken,
    MemorySampled,
    ReplicaGone,
    ReplicaReady,
)
from slalom.core.journal import Entry
from slalom.engines.memory_use import MemoryUse
from slalom.models.measurements import (
    Measurement,
    Quantity,
    Tier,
    booked_bytes,
    first_figure,
)
from slalom.models.page_cache import read_in
from slalom.models.sources import resolve
from slalom.units import MIB, MS


def _config(tmp_path: Path, **model: Any) -> Config:
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-mini"}
    return Config.model_validate(
        {
            "models": [{"id": "mini", "engine": engine, **model}],
            "measurements": {"file": str(tmp_path / "models.sqlite")},
            "journal": {"dir": "none"},
        }
    )


def _spec(config: Config) -> Any:
    return assemble(config).scheduler.state.models["mini"].spec


def _measure(config: Config, quantity: Quantity, tier: Tier, *values: int) -> None:
    ModelCosts(config).keep("mini", [Measurement(quantity, tier, value, 1.0) for value in values])


def test_measured_memory_replaces_the_estimate(tmp_path: Path) -> None:
    config = _config(tmp_path)
    estimated = _spec(config).bytes_needed
    _measure(config, Quantity.MEMORY, Tier.RESIDENT, 33 * MIB, 35 * MIB, 34 * MIB)
    engine: Any = config.models[0].engine
    work = llama_cpp_estimate(engine, resolve(engine.source).metadata).compute
    assert _spec(config).bytes_needed == 35 * MIB + work < estimated
    _measure(config, Quantity.MEMORY_FULL, Tier.RESIDENT, 40 * MIB)
    assert _spec(config).bytes_needed == 40 * MIB


def test_a_light_replica_is_not_expected_to_grow_beyond_the_estimate() -> None:
    light = {(Quantity.MEMORY, Tier.RESIDENT): first_figure(80, 0.0)}
    assert booked_bytes(light, estimated=100, work=30) == 100
    assert booked_bytes(light, estimated=70, work=30) == 80
    assert booked_bytes({}, estimated=100, work=30) == 0


def test_a_written_size_and_the_switch_win_over_what_was_measured(tmp_path: Path) -> None:
    config = _config(tmp_path)
    estimated = _spec(config).bytes_needed
    _measure(config, Quantity.MEMORY_FULL, Tier.RESIDENT, 35 * MIB)
    assert _spec(_config(tmp_path, memory="77MiB")).bytes_needed == 77 * MIB
    off = config.measurements.model_copy(update={"memory": False})
    assert _spec(config.model_copy(update={"measurements": off})).bytes_needed == estimated


def test_other_options_are_measured_anew(tmp_path: Path) -> None:
    _measure(_config(tmp_path), Quantity.LOAD, Tier.DISK, 5 * MS)
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-mini", "context_tokens": 512}
    assert _spec(_config(tmp_path)).load_ns == 5 * MS
    assert _spec(_config(tmp_path, engine=engine)).load_ns == 0


def test_a_load_is_expected_to_come_from_the_page_cache(tmp_path: Path) -> None:
    config = _config(tmp_path)
    assert _spec(config).load_ns == 0
    _measure(config, Quantity.LOAD, Tier.DISK, 900 * MS)
    assert _spec(config).load_ns == 900 * MS
    _measure(config, Quantity.LOAD, Tier.PAGE_CACHE, 100 * MS, 200 * MS)
    assert _spec(config).load_ns == 150 * MS


def test_a_wake_is_expected_at_the_level_at_which_the_model_sleeps(tmp_path: Path) -> None:
    sleepy = {"kind": "command", "cmd": "run --port ${PORT}", "sleep": "vllm"}
    config = _config(tmp_path, engine=sleepy, memory="1GiB", sleep_level=2)
    _measure(config, Quantity.WAKE, Tier.HOST, 1 * MS)
    assert _spec(config).wake_ns == 0
    _measure(config, Quantity.WAKE, Tier.DROPPED, 7 * MS)
    assert _spec(config).wake_ns == 7 * MS


def test_a_damaged_file_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    (tmp_path / "models.sqlite").write_text("damaged" * 500)
    config = _config(tmp_path)
    assert _spec(config).bytes_needed > 0
    _measure(config, Quantity.LOAD, Tier.DISK, 1)
    assert len(re.findall("cannot be used", caplog.text)) >= 2


def test_none_remembers_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path)
    config = config.model_copy(
        update={"measurements": config.measurements.model_copy(update={"file": "none"})}
    )
    assert assemble(config).recorder is None
    _measure(config, Quantity.LOAD, Tier.DISK, 1)
    assert not list(tmp_path.glob("*.sqlite"))


class _Engine:
    async def memory_bytes(self) -> int:
        return 60 * MIB

    async def memory_use(self) -> MemoryUse:
        return MemoryUse(40 * MIB, 15 * MIB, 5 * MIB, 50 * MIB)


@dataclass
class _World:
    """A recorder that is told steps by hand."""

    costs: ModelCosts
    prompt_tokens: int = 10

    def __post_init__(self) -> None:
        request = SimpleNamespace(prompt_tokens=self.prompt_tokens)
        requests = {name: SimpleNamespace(request=request) for name in ("r1", "r2")}
        scheduler: Any = SimpleNamespace(state=SimpleNamespace(requests=requests))
        runtime: Any = SimpleNamespace(engine=lambda _replica, _epoch: _Engine())
        self.recorder = Recorder(self.costs, runtime, scheduler)

    def step(self, at_ms: int, *told: Any) -> None:
        events = tuple(one for one in told if type(one).__module__.endswith("events"))
        actions = tuple(one for one in told if one not in events)
        self.recorder(Entry(at_ms * MS, events, actions))

    async def known(self) -> dict[tuple[str, str], int]:
        await self.recorder.close()
        known = self.costs.known("mini")
        return {(str(what), str(tier)): seen.last for (what, tier), seen in known.items()}


async def test_a_load_its_first_token_and_its_memory_are_recorded(tmp_path: Path) -> None:
    costs = ModelCosts(_config(tmp_path))
    read_in(costs.models["mini"].files)
    world = _World(costs)
    world.step(10, LoadReplica("mini#0", 1, "mini"))
    world.step(250, ReplicaReady("mini#0", 1, 20 * MIB), Dispatch("r1", 1, "mini#0", 1))
    world.step(255, Dispatch("r2", 1, "mini#0", 1))
    world.step(270, FirstToken("r2", 1))
    world.step(300, FirstToken("r1", 1))
    assert await world.known() == {
        ("load", "page_cache"): 240 * MS,
        ("first_token", "page_cache"): 50 * MS,
        ("memory", "resident"): 60 * MIB,
        ("proportional", "resident"): 50 * MIB,
        ("weights", "resident"): 40 * MIB,
        ("private", "resident"): 15 * MIB,
        ("program", "resident"): 5 * MIB,
    }


async def test_the_most_memory_of_a_life_that_worked_is_kept(tmp_path: Path) -> None:
    world = _World(ModelCosts(_config(tmp_path)))
    world.step(0, LoadReplica("mini#0", 1, "mini"))
    world.step(1, ReplicaReady("mini#0", 1), MemorySampled("mini#0", 1, 90 * MIB, 0))
    world.step(2, ReplicaGone("mini#0", 1))
    assert ("memory", "resident") not in await world.known()
    world.step(3, LoadReplica("mini#0", 2, "mini"))
    world.step(4, ReplicaReady("mini#0", 2), Dispatch("r1", 1, "mini#0", 2))
    for count in (70, 80, 75):
        world.step(5, MemorySampled("mini#0", 2, count * MIB, 0))
    world.step(6, UnloadReplica("mini#0", 2, UnloadCause.EVICTED))
    world.step(7, ReplicaGone("mini#0", 2))
    assert (await world.known())["memory", "resident"] == 80 * MIB


async def test_a_wake_is_recorded_at_the_level_it_woke_from(tmp_path: Path) -> None:
    world = _World(ModelCosts(_config(tmp_path)))
    world.step(0, LoadReplica("mini#0", 1, "mini"))
    world.step(5, ReplicaReady("mini#0", 1))
    world.step(10, SleepReplica("mini#0", 1, 1, level=1))
    world.step(50, WakeReplica("mini#0", 1, 2))
    world.step(55, ReplicaReady("mini#0", 1, turn=1))  # of an earlier turn
    world.step(80, ReplicaReady("mini#0", 1, turn=2), Dispatch("r1", 1, "mini#0", 1))
    world.step(89, FirstToken("r1", 1))
    known = await world.known()
    assert known["wake", "host"] == 30 * MS
    assert world.costs.known("mini")[Quantity.WAKE, Tier.HOST].count == 1
    assert known["first_token", "host"] == 9 * MS


async def test_long_prompts_and_failed_attempts_say_nothing_of_the_load(tmp_path: Path) -> None:
    costs = ModelCosts(_config(tmp_path))
    for world in (_World(costs, prompt_tokens=5_000), _World(costs)):
        world.step(0, LoadReplica("mini#0", 1, "mini"))
        world.step(1, ReplicaReady("mini#0", 1), Dispatch("r1", 1, "mini#0", 1))
        if world.prompt_tokens < 100:
            world.step(2, AttemptFailed("r1", 1, FailureKind.CRASHED, delivered=False))
        world.step(3, FirstToken("r1", 1))
        assert "first_token" not in {what for what, _ in await world.known()}


async def test_what_ended_before_it_was_ready_leaves_nothing_behind(tmp_path: Path) -> None:
    world = _World(ModelCosts(_config(tmp_path)))
    world.step(0, LoadReplica("mini#0", 1, "mini"), LoadReplica("far#0", 1, "far"))
    world.step(1, ReplicaGone("mini#0", 1), ReplicaGone("far#0", 1))
    world.step(2, ReplicaReady("mini#0", 1))
    assert await world.known() == {}
    assert "lives=0, awaited=0" in repr(world.recorder)
