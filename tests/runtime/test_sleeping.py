"""Sleep over the live runtime: engines sleep and wake as asked, and what goes wrong is reported."""

import asyncio

import pytest

from slalom.core.actions import LoadReplica, SleepReplica, UnloadReplica, WakeReplica
from slalom.core.events import FailureKind, ReplicaAsleep, ReplicaFailed
from slalom.core.params import SchedulerParams
from slalom.core.snapshot import ModelState
from slalom.engines.protocol import Capabilities
from slalom.testing import FakeLauncher, FakeScript, FakeTimings, VirtualClock, run_virtual
from slalom.units import MS, SECOND
from tests.runtime.world import World

AT_ONCE = SchedulerParams(swap_patience_ns=0, min_residency_ns=0)
TIMINGS = FakeTimings(sleep_ns=300 * MS, wake_ns=200 * MS)


def world_of(clock: VirtualClock, level: int = 1, script: FakeScript | None = None) -> World:
    """Models `a` and `b`, of which one fits at a time."""
    chosen = script or FakeScript(timings=TIMINGS)
    launchers = {name: FakeLauncher(chosen) for name in "ab"}
    return World(clock, launchers, params=AT_ONCE, sleep_level=level)


def state_of(world: World, name: str) -> ModelState:
    return next(model.state for model in world.runtime.snapshot().models if model.id == name)


def kinds(world: World) -> list[str]:
    """What was done with replicas, in order."""
    done = LoadReplica | UnloadReplica | SleepReplica | WakeReplica
    actions = [action for entry in world.entries for action in entry.actions]
    return [f"{type(a).__name__} {a.replica_id}" for a in actions if isinstance(a, done)]


@pytest.mark.parametrize("level", [1, 2])
def test_two_models_take_turns_by_sleeping_and_no_process_ends(level: int) -> None:
    async def main(clock: VirtualClock) -> None:
        world = world_of(clock, level)
        for index, name in enumerate("abab"):
            served = await world.ask(f"r{index}", name)
            assert served.failure is None
        assert kinds(world) == [
            "LoadReplica a#0",
            "SleepReplica a#0",
            "LoadReplica b#0",
            "SleepReplica b#0",
            "WakeReplica a#0",
            "SleepReplica a#0",
            "WakeReplica b#0",
        ]
        assert [len(launcher.launches) for launcher in world.launchers.values()] == [1, 1]
        assert state_of(world, "a") is ModelState.ASLEEP
        await world.runtime.close()

    run_virtual(main)


def test_what_a_sleeper_still_takes_is_measured() -> None:
    async def main(clock: VirtualClock) -> None:
        world = world_of(clock)
        await world.ask("r1", "a")
        await world.ask("r2", "b")
        told = [e for entry in world.entries for e in entry.events if isinstance(e, ReplicaAsleep)]
        assert told[0].measured_bytes == world.launchers["a"].engines[0].script.memory_bytes // 5
        assert told[0].turn == 1
        await world.runtime.close()

    run_virtual(main)


def test_an_engine_that_cannot_sleep_after_all_is_ended_and_the_request_is_served() -> None:
    async def main(clock: VirtualClock) -> None:
        world = world_of(clock, script=FakeScript(capabilities=Capabilities()))
        await world.ask("r1", "a")
        served = await world.ask("r2", "b")
        assert served.failure is None
        failed = [
            e for entry in world.entries for e in entry.events if isinstance(e, ReplicaFailed)
        ]
        assert [event.kind for event in failed] == [FailureKind.REFUSED]
        assert "cannot sleep at level 1" in failed[0].detail
        assert "UnloadReplica a#0" in kinds(world)
        await world.runtime.close()

    run_virtual(main)


def test_an_engine_that_dies_asleep_is_reaped_and_loaded_anew() -> None:
    async def main(clock: VirtualClock) -> None:
        world = world_of(clock)
        await world.ask("r1", "a")
        await world.ask("r2", "b")
        world.launchers["a"].engines[0].crash()
        await asyncio.sleep(1)
        assert state_of(world, "a") is ModelState.COLD
        served = await world.ask("r3", "a")
        assert served.failure is None
        assert len(world.launchers["a"].launches) == 2
        await world.runtime.close()

    run_virtual(main)


def test_a_replica_that_is_ended_while_it_wakes_ends_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        slow = FakeScript(timings=FakeTimings(sleep_ns=10 * MS, wake_ns=3600 * SECOND))
        world = world_of(clock, script=slow)
        await world.ask("r1", "a")
        await world.ask("r2", "b")
        waiting = asyncio.ensure_future(world.ask("r3", "a"))
        await asyncio.sleep(1)
        assert state_of(world, "a") is ModelState.WAKING
        assert await world.runtime.drain(1) == 1
        await waiting
        assert clock.now_ns() < 10 * SECOND
        await world.runtime.close()

    run_virtual(main)
