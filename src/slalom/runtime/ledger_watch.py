"""Holds the ledgers against the devices now and then, and raises alarms where they differ.

Owns the loop, the meters of host memory and GPUs, and the alarms' life: each is logged once when
it is raised, when it has grown much, and when it is over. Decides nothing: foreign memory is told
to whoever asked for it. Built by assembly; read by `/metrics` and `/admin/status`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from slalom.config.places import available_bytes
from slalom.core.request import ModelSpec
from slalom.core.snapshot import ReplicaSnapshot, ReplicaState, Snapshot
from slalom.engines.protocol import Engine
from slalom.errors import EngineError
from slalom.models.gpu_memory import gpu_memory
from slalom.runtime.ledger import Alarm, AlarmKind, Reading, alarms_of, read_ledgers, shortage

_log = logging.getLogger(__name__)

#: An alarm that has grown or shrunk by this factor is logged again.
_NEWS_FACTOR = 1.5
#: States in which a replica's process may have weights mapped.
_MAPPED = (ReplicaState.READY, ReplicaState.DRAINING)

#: Gives the bytes a device has left, told what our own processes have mapped there.
Meter = Callable[[int], Awaitable[int | None]]
#: Told (device, bytes) when what others hold has changed.
OnForeign = Callable[[str, int], None]


async def host_meter(mapped_bytes: int) -> int | None:
    """Main memory: what is available, without our own mapped weights, which could be dropped."""
    return await asyncio.to_thread(available_bytes, mapped_bytes)


def gpu_meter(index: int) -> Meter:
    """The meter of an NVIDIA GPU."""

    async def read(_mapped_bytes: int) -> int | None:
        memory = await asyncio.to_thread(gpu_memory, index)
        return memory.free if memory else None

    return read


@dataclass(eq=False)
class LedgerWatch:
    """The readings of all devices and what is wrong with them.

    Args:
        snapshot: The scheduler's present state.
        engine: The engine of a ready replica.
        now_ns: The scheduler's clock.
        specs: The models, as the scheduler was told of them at its start.
        meters: By device; those that are missing are not measured.
        on_foreign: Told what others hold, once for each change.
        every_s: Between two readings, seconds.
    """

    snapshot: Callable[[], Snapshot]
    engine: Callable[[str, int], Engine | None]
    now_ns: Callable[[], int]
    specs: tuple[ModelSpec, ...]
    meters: Mapping[str, Meter]
    on_foreign: OnForeign | None = None
    every_s: float = 5.0
    #: The last readings, and what is wrong now; newest alarms last.
    readings: tuple[Reading, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    _foreign: dict[str, int] = field(default_factory=dict)
    #: By life of a replica: its measured bytes, and the weights that were found among them.
    _weights: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    #: Bytes of an alarm when it was last logged.
    _told: dict[tuple[str, AlarmKind], int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"LedgerWatch(devices={len(self.readings)}, alarms={len(self.alarms)})"

    async def run(self) -> None:
        """Read for ever; a reading that fails is logged, and the next one tried."""
        while True:
            try:
                await self.read()
            except Exception:  # noqa: BLE001 - whatever it is, the next reading may work
                _log.exception("the ledgers could not be held against the devices")
            await asyncio.sleep(self.every_s)

    async def read(self, *, dead: str = "") -> None:
        """Read every device once; `dead` is a model whose load has just died."""
        mapped = await self._mapped()
        available = {
            device: await meter(mapped.get(device, 0)) for device, meter in self.meters.items()
        }
        self.readings = read_ledgers(
            self.snapshot(),
            {spec.id: spec.device for spec in self.specs},
            {spec.id: spec.bytes_needed for spec in self.specs},
            available,
            self.now_ns(),
            dead=dead,
        )
        self._raise_alarms()
        self._tell_foreign()

    async def explain(self, model_id: str) -> str:
        """Read anew, and say what a model needs, what is free for it, and who holds the rest."""
        await self.read(dead=model_id)
        (spec,) = (spec for spec in self.specs if spec.id == model_id)
        devices = {one.id: one.device for one in self.specs}
        models = self.snapshot().models
        died_on = [
            replica.device
            for model in models
            for replica in model.replicas
            if model.id == model_id and replica.state is ReplicaState.LOADING and replica.device
        ]
        where = died_on[0] if died_on else spec.device
        (reading,) = (one for one in self.readings if one.device == where)
        holders = [
            (replica.id, replica.booked_bytes)
            for model in models
            for replica in model.replicas
            if (replica.device or devices[model.id]) == where and model.id != model_id
        ]
        return shortage(spec, reading, holders)

    async def _mapped(self) -> dict[str, int]:
        """Bytes of model files that our processes have mapped, by device."""
        mapped: dict[str, int] = {}
        known: dict[tuple[str, int], tuple[int, int]] = {}
        devices = {spec.id: spec.device for spec in self.specs}
        for model in self.snapshot().models:
            for replica in model.replicas:
                device = replica.device or devices[model.id]
                if device in self.meters and replica.state in _MAPPED:
                    at = (replica.id, replica.epoch)
                    known[at] = await self._weights_of(replica)
                    mapped[device] = mapped.get(device, 0) + known[at][1]
        self._weights = known
        return mapped

    async def _weights_of(self, replica: ReplicaSnapshot) -> tuple[int, int]:
        """(measured bytes, weights of them), looked at anew only where the former have changed.

        The kernel walks through all pages of a process to tell what they are.
        """
        before = self._weights.get((replica.id, replica.epoch))
        if before is not None and abs(replica.measured_bytes - before[0]) <= before[0] // 50:
            return before
        engine = self.engine(replica.id, replica.epoch)
        use = None
        if engine is not None:
            with contextlib.suppress(EngineError):
                use = await engine.memory_use()
        return replica.measured_bytes, use.weights if use else 0

    def _raise_alarms(self) -> None:
        before = {(alarm.device, alarm.kind): alarm for alarm in self.alarms}
        now: dict[tuple[str, AlarmKind], Alarm] = {}
        for reading in self.readings:
            for kind, count, text in alarms_of(reading):
                known = before.get((reading.device, kind))
                since_ns = known.since_ns if known else reading.as_of_ns
                now[reading.device, kind] = Alarm(reading.device, kind, count, since_ns, text)
        for name, alarm in now.items():
            told = self._told.get(name)
            if told is None or not told / _NEWS_FACTOR < alarm.bytes < told * _NEWS_FACTOR:
                self._told[name] = alarm.bytes
                _log.warning("%s", alarm.text)
        for name in before.keys() - now.keys():
            del self._told[name]
            _log.info("device %s: no longer %s", name[0], name[1].replace("_", " "))
        self.alarms = tuple(now.values())

    def _tell_foreign(self) -> None:
        """Below the noise nothing is foreign; above it, a change of more than the noise is news.

        While replicas come and go, only more is news: less may be no more than not known.
        """
        for reading in self.readings:
            foreign = reading.foreign_bytes if reading.foreign_bytes > reading.noise_bytes else 0
            before = self._foreign.get(reading.device, 0)
            if reading.is_moving:
                foreign = max(foreign, before)
            news = abs(foreign - before) > reading.noise_bytes or (not foreign and before)
            if news:
                self._foreign[reading.device] = foreign
                if self.on_foreign is not None:
                    self.on_foreign(reading.device, foreign)
