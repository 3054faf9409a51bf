"""The ledger held against reality: drift, foreign memory, alarms that are raised and end once."""

import logging
from collections.abc import Iterator

import pytest

from slalom.core.request import ModelSpec
from slalom.core.snapshot import (
    DeviceSnapshot,
    ModelSnapshot,
    ModelState,
    ReplicaSnapshot,
    ReplicaState,
    Snapshot,
)
from slalom.engines.memory_use import MemoryUse
from slalom.runtime.ledger import AlarmKind, Reading, shortage
from slalom.runtime.ledger_watch import LedgerWatch
from slalom.units import GIB, MIB

_BUDGET = 10 * GIB


class _World:
    """One device of 10 GiB with replicas that are set by hand."""

    def __init__(self, *specs: ModelSpec, metered: bool = True) -> None:
        self.specs = specs or (ModelSpec("a", "host", 2 * GIB, 4),)
        self.replicas: list[ReplicaSnapshot] = []
        self.available = 100 * GIB
        self.weights = 0
        self.now_ns = 0
        self.asked: list[int] = []
        self.foreign: list[tuple[str, int]] = []
        self.watch = LedgerWatch(
            snapshot=self._snapshot,
            engine=lambda _replica, _epoch: self,  # type: ignore[arg-type,return-value]
            now_ns=lambda: self.now_ns,
            specs=self.specs,
            meters={"host": self._meter} if metered else {},
            on_foreign=lambda device, count: self.foreign.append((device, count)),
        )

    async def _meter(self, mapped_bytes: int) -> int:
        self.asked.append(mapped_bytes)
        return self.available

    async def memory_use(self) -> MemoryUse:
        return MemoryUse(weights=self.weights)

    def add(self, booked: int, measured: int = 0, state: ReplicaState = ReplicaState.READY) -> None:
        number = len(self.replicas)
        self.replicas.append(
            ReplicaSnapshot(f"a#{number}", 1, state, 0, booked, measured, 0, 1.0, 0)
        )

    def _snapshot(self) -> Snapshot:
        model = ModelSnapshot("a", ModelState.READY, 0, 0, 1.0, -1, -1, "", tuple(self.replicas))
        booked = sum(replica.booked_bytes for replica in self.replicas)
        device = DeviceSnapshot("host", _BUDGET, booked, 0, 0)
        return Snapshot(0, False, 0, 0, 0, (model,), (device,), ())

    @property
    def kinds(self) -> list[AlarmKind]:
        return [alarm.kind for alarm in self.watch.alarms]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("slalom")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level("INFO", "slalom"):
        yield caplog
    logger.propagate = before


async def test_what_the_ledger_promises_must_be_there() -> None:
    world = _World()
    world.add(booked=2 * GIB, measured=2 * GIB)
    world.available = 8 * GIB
    await world.watch.read()
    assert world.watch.readings[0].foreign_bytes == 0
    assert world.kinds == []
    world.available = 5 * GIB
    await world.watch.read()
    assert world.watch.readings[0].foreign_bytes == 3 * GIB
    assert world.kinds == [AlarmKind.FOREIGN]


async def test_what_a_replica_is_booked_for_and_has_not_taken_must_be_there_too() -> None:
    world = _World()
    world.add(booked=3 * GIB, measured=1 * GIB)
    world.available = 8 * GIB
    await world.watch.read()
    assert world.watch.readings[0].foreign_bytes == 1 * GIB


async def test_a_load_under_way_raises_no_alarm() -> None:
    world = _World()
    world.add(booked=6 * GIB, state=ReplicaState.LOADING)
    world.available = 4 * GIB
    await world.watch.read()
    assert world.kinds == []


async def test_mapped_weights_are_not_free_although_the_kernel_says_so() -> None:
    world = _World()
    world.weights = 3 * GIB
    world.add(booked=4 * GIB, measured=4 * GIB)
    world.add(booked=4 * GIB, measured=4 * GIB, state=ReplicaState.UNLOADING)
    await world.watch.read()
    assert world.asked == [3 * GIB]


async def test_pages_are_counted_anew_only_where_a_replica_has_grown() -> None:
    world = _World()
    world.weights = 3 * GIB
    world.add(booked=4 * GIB, measured=4 * GIB)
    await world.watch.read()
    world.weights = 5 * GIB
    await world.watch.read()
    world.replicas.clear()
    world.add(booked=6 * GIB, measured=6 * GIB)
    await world.watch.read()
    assert world.asked == [3 * GIB, 3 * GIB, 5 * GIB]


async def test_an_alarm_is_logged_once_until_it_changes_much(
    logged: pytest.LogCaptureFixture,
) -> None:
    world = _World()
    for available in (9, 7, 7.1, 6.8, 2, 2, 50):
        world.available = round(available * GIB)
        world.now_ns += 1
        await world.watch.read()
    assert [record.levelname for record in logged.records] == [
        *("WARNING", "WARNING", "WARNING", "INFO")
    ]
    assert "hold 1.0 GiB" in logged.messages[0]
    assert "hold 3.0 GiB" in logged.messages[1]
    assert "hold 8.0 GiB" in logged.messages[2]
    assert "no longer foreign memory" in logged.messages[3]
    assert world.watch.alarms == ()


async def test_an_alarm_keeps_the_time_at_which_it_began() -> None:
    world = _World()
    world.available = 5 * GIB
    for now_ns in (10, 20):
        world.now_ns = now_ns
        await world.watch.read()
    assert (world.watch.alarms[0].since_ns, world.watch.readings[0].as_of_ns) == (10, 20)


async def test_foreign_memory_is_told_when_it_comes_changes_and_goes() -> None:
    world = _World()
    for available in (10, 6, 6.05, 5, 10, 10):
        world.available = round(available * GIB)
        await world.watch.read()
    assert world.foreign == [("host", 4 * GIB), ("host", 5 * GIB), ("host", 0)]


async def test_less_is_no_news_while_a_replica_comes_or_goes() -> None:
    world = _World()
    world.available = 6 * GIB
    await world.watch.read()
    world.add(booked=3 * GIB, state=ReplicaState.UNLOADING)
    await world.watch.read()
    assert world.foreign == [("host", 4 * GIB)], "1 GiB, if all of it is still taken"
    world.available = 2 * GIB
    await world.watch.read()
    assert world.foreign[1:] == [("host", 5 * GIB)]
    world.replicas.clear()
    world.available = 9 * GIB
    await world.watch.read()
    assert world.foreign[2:] == [("host", 1 * GIB)]


async def test_replicas_above_what_was_expected_of_their_model_are_drift() -> None:
    world = _World()
    world.add(booked=2 * GIB + 300 * MIB, measured=2 * GIB + 300 * MIB)
    world.add(booked=2 * GIB, measured=0)
    await world.watch.read()
    assert world.watch.readings[0].drift_bytes == 300 * MIB
    assert world.kinds == [AlarmKind.DRIFT]
    world.replicas.clear()
    world.add(booked=2 * GIB, measured=1 * GIB)
    await world.watch.read()
    assert world.watch.readings[0].drift_bytes == -1 * GIB
    assert world.kinds == []


async def test_more_booked_than_the_budget_is_an_overrun() -> None:
    world = _World()
    world.add(booked=11 * GIB)
    await world.watch.read()
    assert world.kinds == [AlarmKind.OVERRUN]


async def test_a_device_that_cannot_be_measured_has_no_foreign_memory() -> None:
    world = _World(metered=False)
    await world.watch.read()
    (reading,) = world.watch.readings
    assert (reading.available_bytes, reading.foreign_bytes) == (None, 0)
    assert world.foreign == []


async def test_a_load_that_died_of_memory_is_told_who_holds_it() -> None:
    far = ModelSpec("far", "gpu", GIB, 4)
    world = _World(ModelSpec("a", "host", 4 * GIB, 4), far)
    world.add(booked=4 * GIB, state=ReplicaState.LOADING)
    world.available = 3 * GIB
    await world.watch.read()
    assert world.kinds == [AlarmKind.FOREIGN]
    assert world.watch.readings[0].foreign_bytes == 3 * GIB, "the load may have taken its part"
    text = await world.watch.explain("a")
    assert world.watch.readings[0].foreign_bytes == 7 * GIB, "the dead load has taken nothing"
    assert text == (
        "a needs 4.0 GiB on device host; 3.0 GiB of its budget of 10.0 GiB are free; the device "
        "has 3.0 GiB left; held by other processes 7.0 GiB"
    )
    assert world.foreign[-1] == ("host", 7 * GIB)


def test_the_largest_holders_are_named() -> None:
    reading = Reading("host", 10 * GIB, 0, 0, 0, None, 0, 0)
    holders = [(f"m#{number}", number * MIB) for number in range(7)]
    text = shortage(ModelSpec("a", "host", GIB, 1), reading, holders)
    assert text.endswith(
        "held by m#6 6.0 MiB, m#5 5.0 MiB, m#4 4.0 MiB, m#3 3.0 MiB, 2 others 3.0 MiB"
    )
    assert "left" not in text
