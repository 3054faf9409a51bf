"""What a run of the twin is made of: models, devices, arrivals, policies, faults, a seed.

Owns frozen data. The true output length and the time of a cancellation live here and never reach
the scheduler (oracle boundary). Built by tests and by whoever compares policies.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from slalom.core.events import ChainAbandoned, ChainOpened, ConfigChanged, ModelAsked
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request
from slalom.twin.engine_model import EngineModel, StepLaw
from slalom.twin.engine_protocol import TwinEngine
from slalom.twin.engine_specs import EngineSpec
from slalom.twin.faults import NO_FAULTS, FaultPlan
from slalom.units import GIB, MS, SECOND
from slalom.workload.clients import Retries


@dataclass(frozen=True, slots=True)
class LoadLaw:
    """How long a replica takes to come up: a fixed part and its bytes over the link."""

    fixed_ns: int = 500 * MS
    #: Bytes per second from where the weights are.
    bytes_per_s: int = 2 * GIB
    #: Reports of progress on the way; they come at the beginning of equal parts.
    reports: int = 0
    #: Links that its bytes take and share with other loads, by name; without any, `bytes_per_s` is
    #: all its own. The fixed part comes after the bytes. Such a load reports no progress but 0
    #: and 1.
    links: tuple[str, ...] = ()
    #: Weights; 0 for all the bytes of a replica.
    weight_bytes: int = 0

    def weights(self, spec: ModelSpec) -> int:
        """Bytes that one load moves."""
        return self.weight_bytes or spec.bytes_needed

    def load_ns(self, byte_count: int) -> int:
        """Time of one load of so many bytes that nobody else disturbs."""
        return self.fixed_ns + byte_count * SECOND // self.bytes_per_s


@dataclass(frozen=True, slots=True)
class SleepLaw:
    """How long a replica takes to fall asleep and to wake: its weights on the move, a fixed part.

    Falling asleep at level 1 moves the weights to host memory, at level 2 it drops them; waking
    brings them back, from host memory or from the disk. The fixed part comes after the bytes.
    """

    fixed_ns: int = 200 * MS
    bytes_per_s: int = 20 * GIB
    #: The same for the first sleep of a life, which must allocate and pin its host memory; 0 for
    #: no difference.
    first_bytes_per_s: int = 0
    #: Weights; 0 for all the bytes of a replica.
    weight_bytes: int = 0
    #: Links that the bytes share with other transfers, as in `LoadLaw`.
    links: tuple[str, ...] = ()
    #: Whether it can sleep at level 2 where level 1 has no room: a wake then reads the weights as
    #: a load does.
    deep: bool = False

    def weights(self, spec: ModelSpec) -> int:
        """Bytes that one sleep or wake moves."""
        return self.weight_bytes or spec.bytes_needed

    def move_ns(self, byte_count: int) -> int:
        """Time of one wake, or of one sleep but the first."""
        return self.fixed_ns + byte_count * SECOND // self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Link:
    """A disk, the host's memory, a bus: something that concurrent loads share."""

    name: str
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class TwinModel:
    """A model as the scheduler knows it, with the laws of its engine."""

    spec: ModelSpec
    step: StepLaw = field(default_factory=StepLaw)
    load: LoadLaw = LoadLaw()
    sleep: SleepLaw = SleepLaw()
    #: Silence between two reports of an attempt's progress.
    report_every_ns: int = 500 * MS
    #: The engine; without one, `step` is the law of a simple one.
    engine: EngineSpec | None = None

    def build_engine(self, speed: float = 1.0) -> TwinEngine[Any]:
        """A fresh engine of one replica, on a device so many times as fast as its laws say."""
        if self.engine is not None:
            engine = self.engine if speed == 1.0 else self.engine.at_speed(speed)
            return engine.build(self.report_every_ns)
        law = self.step if speed == 1.0 else self.step.at_speed(speed)
        return EngineModel(law, report_every_ns=self.report_every_ns)

    def alone_ns(self, prompt_tokens: int, output_tokens: int) -> int:
        """Time of an attempt that has the engine to itself."""
        if self.engine is not None:
            return self.engine.alone_ns(prompt_tokens, output_tokens)
        return prompt_tokens * self.step.prefill_ns_per_token + output_tokens * self.step.step_ns(1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request with what only the world knows of it. It arrives at `request.arrived_ns`."""

    request: Request
    #: Tokens it will write.
    output_tokens: int
    #: The client leaves this long after the arrival if it has no answer by then; -1 for never.
    patience_ns: int = -1
    #: Tokens at the start of the prompt that the step before of its session had, and its answer.
    shared_tokens: int = 0
    #: Whose request it is; empty for none. Requests of one session share a prefix.
    session: str = ""
    #: The next step of its session, which arrives `gap_ns` after a whole answer to this one: its
    #: own `request.arrived_ns` does not count.
    then: "Arrival | None" = None
    gap_ns: int = 0
    #: This long after the arrival the client has sent a newer request and does not look at this
    #: one's answer any more; it does not cancel. -1 for never.
    stale_ns: int = -1
    #: Whether it comes again after a refusal; None for never.
    retries: Retries | None = None


@dataclass(frozen=True, slots=True)
class HostDelays:
    """How long the host takes to do or to notice things, ns."""

    #: From an engine's doing to the scheduler's hearing.
    report_ns: int = 0
    #: Refusing a connection to an engine that is dead.
    refuse_ns: int = 1 * MS
    #: Ending a process and getting its memory back.
    unload_ns: int = 100 * MS
    #: Until the watchdog calls a silent engine stalled; -1 if there is no watchdog.
    watchdog_ns: int = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Drain:
    """A shutdown asked for at a time."""

    at_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator wants of a model at a time, or a client says of a whole chain."""

    at_ns: int
    event: ModelAsked | ChainOpened | ChainAbandoned


@dataclass(frozen=True, slots=True)
class DoubtPlan:
    """How often the first model of an alias is doubted that asks for confidence."""

    #: Shares of its answers: doubted by their first tokens, and by the whole of them.
    unsure: float = 0.0
    broken: float = 0.0
    #: Whether clients get an answer only once all of it was looked at; else from when its first
    #: tokens were.
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Reload:
    """The configuration is read anew at a time."""

    at_ns: int
    event: ConfigChanged
    #: The laws of the models that come, and of those that get another engine, from then on.
    models: tuple[TwinModel, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    models: tuple[TwinModel, ...]
    devices: tuple[DeviceSpec, ...]
    #: In the order of their times.
    arrivals: Iterable[Arrival]
    policies: Policies
    params: SchedulerParams = field(default_factory=SchedulerParams)
    faults: FaultPlan = NO_FAULTS
    host: HostDelays = HostDelays()
    drain: Drain | None = None
    seed: int = 0
    #: The run ends when nothing is left to happen, and at the latest then.
    until_ns: int = 24 * 3600 * SECOND
    #: What transfers share; every `LoadLaw.links` and `SleepLaw.links` names some of these.
    links: tuple[Link, ...] = ()
    #: Devices whose engines take turns in computing.
    shared_devices: tuple[str, ...] = ()
    #: What an operator asks for meanwhile.
    asks: tuple[Asked, ...] = ()
    #: Which answers of small models are doubted.
    doubts: DoubtPlan = DoubtPlan()
    #: What becomes of the models meanwhile.
    reloads: tuple[Reload, ...] = ()

    def all_models(self) -> Iterator[TwinModel]:
        """Those of the beginning, then those that reloads bring."""
        yield from self.models
        for reload in self.reloads:
            yield from reload.models
