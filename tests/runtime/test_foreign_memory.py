"""Another process takes memory while models are served: they give way, and come back after it."""

import asyncio
from collections.abc import Callable

from slalom.core.actions import UnloadReplica
from slalom.core.events import DeviceSampled
from slalom.runtime.ledger_watch import LedgerWatch
from slalom.testing import FakeLauncher, FakeScript, VirtualClock, run_virtual
from slalom.units import GIB
from tests.runtime.world import World

_BUDGET = 10 * GIB
_NEED = 4 * GIB


def _unloaded(world: World) -> list[str]:
    actions = (action for entry in world.entries for action in entry.actions)
    return [action.replica_id for action in actions if isinstance(action, UnloadReplica)]


def test_what_another_process_takes_is_made_room_for_and_given_back() -> None:
    async def main(clock: VirtualClock) -> None:
        script = FakeScript(memory_bytes=_NEED)
        launchers = {name: FakeLauncher(script) for name in "ab"}
        world = World(clock, launchers, budget=_BUDGET, need=_NEED)
        taken = 0

        async def meter(_mapped_bytes: int) -> int:
            held = world.scheduler.snapshot().devices[0].booked_bytes
            return _BUDGET - held - taken

        watch = LedgerWatch(
            snapshot=world.scheduler.snapshot,
            engine=world.runtime.engine,
            now_ns=world.runtime.now_ns,
            specs=tuple(model.spec for model in world.scheduler.state.models.values()),
            meters={"host": meter},
            on_foreign=lambda device, count: world.runtime.post(
                DeviceSampled(device, count, world.runtime.now_ns())
            ),
        )
        await world.ask("r1", "a")
        await world.ask("r2", "b")
        await watch.read()
        assert _unloaded(world) == []
        taken = 5 * GIB
        await watch.read()
        await _until(world, lambda: not world.scheduler.state.models["a"].replicas)
        assert _unloaded(world) == ["a#0"], "the one that was used before"
        await world.ask("r3", "b")
        await world.ask("r4", "a")
        assert _unloaded(world) == ["a#0", "b#0"], "there is room for one only"
        taken = 0
        await watch.read()
        await _until(world, lambda: not world.scheduler.snapshot().devices[0].foreign_bytes)
        await world.ask("r5", "b")
        states = [model.state for model in world.scheduler.snapshot().models]
        assert states == ["ready", "ready"]
        await world.runtime.close()

    run_virtual(main)


async def _until(world: World, condition: Callable[[], bool]) -> None:
    stepped = asyncio.Event()
    world.runtime.on_step.append(lambda _entry: stepped.set())
    async with asyncio.timeout(60):
        while not condition():
            stepped.clear()
            await stepped.wait()
