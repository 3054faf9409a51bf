"""The engine processes of the twin: loading, ready, asleep, hung, ended, and their memory.

Owns one `Process` for each life of a replica and the telling of events, with its delays and
losses. Attempts are the world's; how fast they run is the engine's. Called by `world`.
"""

from slalom.core.actions import LoadReplica, SleepReplica, UnloadReplica, WakeReplica
from slalom.core.events import (
    DeviceSampled,
    Event,
    FailureKind,
    LoadProgress,
    MemorySampled,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
)
from slalom.twin.engine_protocol import TwinEngine
from slalom.twin.faults import Faults
from slalom.twin.kernel import (
    Agenda,
    EnginesChange,
    LoadAdvances,
    NapOver,
    ProcessEnded,
    TransferOver,
)
from slalom.twin.links import SharedLinks
from slalom.twin.scenario import Scenario, TwinModel
from slalom.units import SECOND

#: A foreign process is noticed this long after a replica became ready, and gone after that.
_SAMPLE_AFTER_NS = 250_000_000
_TAKEN_FOR_NS = 20 * SECOND


#: (request id, attempt number): the name of a job.
Fence = tuple[str, int]


#: The level of sleep that keeps no weights.
_WEIGHTS_DROPPED = 2


class Process:
    """One life of one replica."""

    __slots__ = (
        "device",
        "ending",
        "engine",
        "epoch",
        "failure",
        "has_slept",
        "hung",
        "level",
        "loading",
        "model",
        "replica_id",
        "rests",
        "slowness",
        "speed",
        "turn",
        "wake",
    )

    def __init__(
        self, model: TwinModel, replica_id: str, epoch: int, device: str = "", speed: float = 1.0
    ) -> None:
        self.model = model
        #: Where it runs, and how many times as fast that is as the model's laws say.
        self.device = device or model.spec.device
        self.speed = speed
        self.replica_id = replica_id
        self.epoch = epoch
        self.engine: TwinEngine[Fence] = model.build_engine(speed)
        self.loading = True
        #: Whether it was told to sleep, and not to wake since; number of the last such order.
        self.rests = False
        self.turn = 0
        self.has_slept = False
        #: Level of its last sleep.
        self.level = 0
        #: How its load, sleep or wake will fail, if it does.
        self.failure: FailureKind | None = None
        self.hung = False
        #: Everything takes so many times as long since a mishap.
        self.slowness = 1
        #: Asked to end.
        self.ending = False
        #: Number of the last wake-up; those before it are void.
        self.wake = 0

    def __repr__(self) -> str:
        return f"Process({self.replica_id}@{self.epoch}, {self.engine!r})"

    @property
    def serves(self) -> bool:
        """Whether it takes attempts: it is loaded and awake."""
        return not self.loading and not self.rests

    def time_alone_ns(self, prompt_tokens: int, output_tokens: int) -> int:
        """Time of an attempt that has the engine to itself."""
        return self.model.alone_ns(prompt_tokens, output_tokens)


class Processes:
    """All processes, by (replica, epoch)."""

    def __init__(self, scenario: Scenario, faults: Faults, agenda: Agenda) -> None:
        self._models = {model.spec.id: model for model in scenario.models}
        self._speeds = {device.id: device.speed for device in scenario.devices}
        self._host = scenario.host
        self._faults = faults
        self._agenda = agenda
        self._alive: dict[tuple[str, int], Process] = {}
        self._links = SharedLinks({link.name: link.bytes_per_s for link in scenario.links})
        #: Number of the last look at the links that was planned; those before it are void.
        self._look = 0
        #: Crashed or failed, memory not given back yet.
        self._dead: dict[tuple[str, int], Process] = {}

    def __repr__(self) -> str:
        return f"Processes(alive={len(self._alive)}, dead={len(self._dead)})"

    def change(self, occurrence: EnginesChange, now_ns: int) -> None:
        """Loads bring up other engines from now on."""
        self._models |= {model.spec.id: model for model in occurrence.models}

    def find(self, replica_id: str, epoch: int) -> Process | None:
        """A process that lives, also one that loads or hangs."""
        return self._alive.get((replica_id, epoch))

    def start(self, action: LoadReplica, now_ns: int) -> None:
        """Begin a load."""
        model = self._models[action.model]
        speed = self._speeds[action.device or model.spec.device]
        process = Process(model, action.replica_id, action.epoch, action.device, speed)
        process.failure = self._faults.load_failure(action.replica_id, action.epoch, now_ns)
        name = (action.replica_id, action.epoch)
        self._alive[name] = process
        law = process.model.load
        if not law.links:
            self.advance(LoadAdvances(*name, 0), now_ns)
            return
        if law.reports:
            self.tell(LoadProgress(*name, 0.0), f"load {action.replica_id} 0", action.epoch, now_ns)
        per_s_max = law.bytes_per_s // self._faults.load_factor(*name, now_ns)
        needed = law.weights(process.model.spec)
        self._links.add(name, needed, now_ns, links=law.links, per_s_max=max(per_s_max, 1))
        self._look_later()

    def transferred(self, number: int, now_ns: int) -> None:
        """Let loads whose bytes have come over their links go on."""
        if number != self._look:
            return
        for name in self._links.take_due(now_ns):
            process = self._alive[name]
            if process.turn:
                self._end_nap_later(process, now_ns)
                continue
            end = LoadAdvances(*name, max(process.model.load.reports, 1))
            self._agenda.at(now_ns + process.model.load.fixed_ns, end)
        self._look_later()

    def _look_later(self) -> None:
        """See to it that the end of the next transfer is not missed."""
        self._look += 1
        next_ns = self._links.next_ns()
        if next_ns is not None:
            self._agenda.at(next_ns, TransferOver(self._look))

    def advance(self, occurrence: LoadAdvances, now_ns: int) -> None:
        """Report how far a load is, and come to the next part or to the end."""
        replica_id, epoch, part = occurrence.replica_id, occurrence.epoch, occurrence.part
        process = self.find(replica_id, epoch)
        if process is None or process.ending:
            return
        law = process.model.load
        parts = max(law.reports, 1)
        if law.reports and not (part == parts and process.failure):
            event = LoadProgress(replica_id, epoch, part / parts)
            self.tell(event, f"load {replica_id} {part}", epoch, now_ns)
        if part == parts:
            self._loaded(process, now_ns)
            return
        load_ns = law.load_ns(law.weights(process.model.spec))
        load_ns *= self._faults.load_factor(replica_id, epoch, now_ns)
        part_ns = load_ns * (part + 1) // parts - load_ns * part // parts
        self._agenda.at(now_ns + part_ns, LoadAdvances(replica_id, epoch, part + 1))

    def sleep(self, action: SleepReplica, now_ns: int) -> None:
        """Let a process fall asleep; a hung one never does, nor one that has ended."""
        process = self.find(action.replica_id, action.epoch)
        if process is None:
            return
        process.rests = True
        law = process.model.sleep
        per_s = (0 if process.has_slept else law.first_bytes_per_s) or law.bytes_per_s
        process.has_slept = True
        process.level = action.level
        byte_count = law.weights(process.model.spec) if action.level == 1 else 0
        self._nap(process, action.turn, byte_count, (per_s, law.links), now_ns)

    def wake(self, action: WakeReplica, now_ns: int) -> None:
        """Let a process wake up, with a fresh engine: its KV cache and its prefixes are lost."""
        process = self.find(action.replica_id, action.epoch)
        if process is None:
            return
        process.engine = process.model.build_engine(process.speed)
        process.wake += 1
        law = process.model.sleep
        byte_count = law.weights(process.model.spec)
        way = (law.bytes_per_s, law.links)
        if law.deep and process.level == _WEIGHTS_DROPPED:
            way = (process.model.load.bytes_per_s, process.model.load.links)
        self._nap(process, action.turn, byte_count, way, now_ns)

    def _nap(
        self,
        process: Process,
        turn: int,
        byte_count: int,
        way: tuple[int, tuple[str, ...]],
        now_ns: int,
    ) -> None:
        """Move the weights (rate, links), or drop them, and then take the fixed time."""
        per_s, links = way
        process.turn = turn
        name, fence = f"{process.replica_id} turn {turn}", (process.replica_id, process.epoch)
        process.failure = self._faults.load_failure(name, process.epoch, now_ns)
        per_s = max(per_s // self._faults.load_factor(name, process.epoch, now_ns), 1)
        if process.hung:
            return
        if links and byte_count:
            self._links.add(fence, byte_count, now_ns, links=links, per_s_max=per_s)
            self._look_later()
        else:
            self._end_nap_later(process, now_ns + byte_count * SECOND // per_s)

    def _end_nap_later(self, process: Process, moved_ns: int) -> None:
        over = NapOver(process.replica_id, process.epoch, process.turn)
        self._agenda.at(moved_ns + process.model.sleep.fixed_ns, over)

    def end_nap(self, occurrence: NapOver, now_ns: int) -> None:
        """It sleeps, or it is awake, or neither came off."""
        replica_id, epoch, turn = occurrence.replica_id, occurrence.epoch, occurrence.turn
        process = self.find(replica_id, epoch)
        if process is None or process.ending or process.turn != turn:
            return
        if process.failure is not None:
            self._die(process, process.failure, now_ns)
            return
        spec = process.model.spec
        event: ReplicaAsleep | ReplicaReady
        event = ReplicaAsleep(replica_id, epoch, turn, spec.residual_bytes)
        if turn % 2 == 0:
            process.rests = False
            event = ReplicaReady(replica_id, epoch, spec.bytes_needed, turn)
        self.tell(event, f"{replica_id} turn {turn}", epoch, now_ns)

    def crash(self, process: Process, now_ns: int) -> None:
        """The process is dead; somebody must still take its memory back."""
        self._die(process, FailureKind.CRASHED, now_ns)

    def _die(self, process: Process, kind: FailureKind, now_ns: int) -> None:
        del self._alive[process.replica_id, process.epoch]
        self._dead[process.replica_id, process.epoch] = process
        self._tell_failed(process, kind, now_ns)

    def notice_hang(self, process: Process, now_ns: int) -> None:
        """Let the watchdog find out, if there is one."""
        if self._host.watchdog_ns >= 0:
            self._tell_failed(process, FailureKind.STALLED, now_ns + self._host.watchdog_ns)

    def stop(self, action: UnloadReplica, now_ns: int) -> None:
        """End a process, whatever its state; one that has ended already is gone."""
        key = (action.replica_id, action.epoch)
        process = self._alive.get(key) or self._dead.get(key)
        if process is None:
            self._tell_gone(*key, now_ns)
        elif not process.ending:
            process.ending = True
            if self._links.remove(key, now_ns):
                self._look_later()
            self._agenda.at(now_ns + self._host.unload_ns, ProcessEnded(*key))

    def end(self, replica_id: str, epoch: int, now_ns: int) -> None:
        """The process has ended: its memory is free."""
        self._alive.pop((replica_id, epoch), None)
        self._dead.pop((replica_id, epoch), None)
        self._tell_gone(replica_id, epoch, now_ns)

    def tell(self, event: Event, what: str, number: int, now_ns: int) -> None:
        """Let the scheduler hear of something, once, twice, late or never."""
        for delay_ns in self._faults.tellings_ns(type(event).__name__, what, number, now_ns):
            self._agenda.at(now_ns + self._host.report_ns + delay_ns, event)

    def _loaded(self, process: Process, now_ns: int) -> None:
        if process.failure is not None:
            self._die(process, process.failure, now_ns)
            return
        process.loading = False
        replica_id, epoch = process.replica_id, process.epoch
        needed = process.model.spec.bytes_needed
        foreign = self._faults.foreign_bytes(replica_id, epoch, needed, now_ns)
        sampled_late = foreign % 2 == 1
        measured = needed if sampled_late else needed + foreign
        self.tell(ReplicaReady(replica_id, epoch, measured), replica_id, epoch, now_ns)
        if sampled_late:
            at_ns = now_ns + _SAMPLE_AFTER_NS
            sample = MemorySampled(replica_id, epoch, needed + foreign, at_ns)
            self.tell(sample, replica_id, epoch, at_ns)
        self._take_for_a_while(process, now_ns)

    def _take_for_a_while(self, process: Process, now_ns: int) -> None:
        """Other processes take some of the device, and give it back; we measure that ourselves."""
        spec = process.model.spec
        taken = self._faults.taken_bytes(
            process.replica_id, process.epoch, 2 * spec.bytes_needed, now_ns
        )
        if taken:
            begin_ns, end_ns = now_ns + _SAMPLE_AFTER_NS, now_ns + _TAKEN_FOR_NS
            self._agenda.at(begin_ns, DeviceSampled(process.device, taken, begin_ns))
            self._agenda.at(end_ns, DeviceSampled(process.device, 0, end_ns))

    def _tell_failed(self, process: Process, kind: FailureKind, now_ns: int) -> None:
        event = ReplicaFailed(process.replica_id, process.epoch, kind)
        self.tell(event, process.replica_id, process.epoch, now_ns)

    def _tell_gone(self, replica_id: str, epoch: int, now_ns: int) -> None:
        self.tell(ReplicaGone(replica_id, epoch), f"{replica_id} {now_ns}", epoch, now_ns)
