"""What the scheduler's state is made of: a live request, an attempt, one life of a replica.

Owns their data. `state` joins them, `books` keeps them consistent, and nothing here decides.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from slalom.core.actions import Dispatch, UnloadCause
from slalom.core.chain_book import Chain
from slalom.core.events import Verdict
from slalom.core.queue import Key
from slalom.core.request import ModelSpec, Request
from slalom.core.snapshot import ReplicaState

if TYPE_CHECKING:
    from slalom.core.device import Device
    from slalom.core.state import Model


#: Why a replica leaves that a reload has no use for.
_OUTDATED = (UnloadCause.REPLACED, UnloadCause.REMOVED)


class RequestRecord:
    """A request that has not ended."""

    __slots__ = (
        "attempt",
        "attempts",
        "chain",
        "clamped_tokens",
        "demoted",
        "demoted_ns",
        "dispatch_ns",
        "failed_models",
        "first_dispatch",
        "first_dispatch_ns",
        "first_token_ns",
        "in_queue",
        "key",
        "moved",
        "moves",
        "number",
        "pauses",
        "pausing",
        "produced_tokens",
        "queued_ns",
        "request",
        "waits_since_ns",
    )

    def __init__(self, request: Request, key: Key, queued_ns: int) -> None:
        self.request = request
        self.key = key
        self.queued_ns = queued_ns
        #: When its present wait began; a request that is tried again begins a new one.
        self.waits_since_ns = queued_ns
        self.in_queue = False
        #: Dispatches so far.
        self.attempts = 0
        #: Number of the last one; beyond those that an earlier request of this id left behind.
        self.number = 0
        #: The running attempt, if any.
        self.attempt: Attempt | None = None
        self.first_dispatch_ns = -1
        self.dispatch_ns = -1
        self.first_token_ns = -1
        #: Its first dispatch, with what was expected then.
        self.first_dispatch: Dispatch | None = None
        #: Clamp of the last dispatch, tokens; 0 for none.
        self.clamped_tokens = 0
        #: Whether a plan has put it behind those that can still be on time.
        self.demoted = False
        self.demoted_ns = -1
        #: Whether its attempt was told to stop so that it waits and goes on later.
        self.pausing = False
        self.pauses = 0
        #: What was found wrong with its answer, from when its attempt was told to stop for that
        #: until it has; whether another model has taken over since.
        self.moves: Verdict | None = None
        self.moved = False
        #: Tokens its client got before it was paused.
        self.produced_tokens = 0
        #: Its chain, as long as that is not over.
        self.chain: Chain | None = None
        #: Those of its models that failed to load while it waited for them.
        self.failed_models: tuple[str, ...] = ()

    @property
    def tries(self) -> int:
        """Dispatches that count against the bound: not those that others wanted to end."""
        return self.attempts - self.pauses - self.moved

    @property
    def near(self) -> str:
        """Replica that answered an earlier call of its chain to the same model; empty for none."""
        return self.chain.replicas.get(self.request.model, "") if self.chain is not None else ""

    @property
    def admitted(self) -> bool:
        """Whether an earlier call of its chain was let in: the chain is let in as a whole."""
        return self.chain is not None and self.chain.admitted

    def __repr__(self) -> str:
        return f"RequestRecord({self.request.id}, attempts={self.attempts}, {self.in_queue=})"


class Attempt:
    """One dispatch that has not been reported over; it holds a place on its replica."""

    __slots__ = (
        "aborting",
        "cached_tokens",
        "first_ns",
        "heard_ns",
        "number",
        "output_tokens",
        "record",
        "replica",
        "resumed_tokens",
        "started_ns",
    )

    def __init__(self, record: RequestRecord, number: int, replica: "Replica", now_ns: int) -> None:
        self.record = record
        self.number = number
        self.replica = replica
        self.aborting = False
        self.output_tokens = 0
        self.cached_tokens = -1
        self.resumed_tokens = record.produced_tokens
        self.started_ns = now_ns
        self.first_ns = -1
        #: Time of its last event.
        self.heard_ns = now_ns

    @property
    def request_id(self) -> str:
        """Id of the request it answers."""
        return self.record.request.id

    @property
    def request(self) -> Request:
        """What it answers."""
        return self.record.request

    @property
    def replica_id(self) -> str:
        """Where it runs."""
        return self.replica.id

    @property
    def client_first_ns(self) -> int:
        """When the client got the first token of all; -1 before."""
        return self.record.first_token_ns

    @property
    def leaving(self) -> bool:
        """Whether it was told to stop, or its request has ended."""
        return self.aborting or self.record.attempt is not self

    @property
    def pauses(self) -> int:
        """How often its request was paused before."""
        return self.record.pauses

    @property
    def speed(self) -> float:
        """How many times as fast its device is as its model's step times say."""
        return self.replica.device.spec.speed

    @property
    def beside(self) -> int:
        """Attempts that run on its device on other replicas."""
        return self.replica.device.running - len(self.replica.running)

    @property
    def fence(self) -> tuple[str, int]:
        """Its name."""
        return (self.request_id, self.number)


class Replica:
    """One life of one replica, from the booking of its bytes to their return."""

    __slots__ = (
        "advanced_ns",
        "ahead",
        "booked_bytes",
        "device",
        "epoch",
        "host_bytes",
        "id",
        "last_start",
        "last_used_ns",
        "leaves_as",
        "leaves_by_ns",
        "level",
        "load_fraction",
        "measured_bytes",
        "measured_ns",
        "model",
        "ready_ns",
        "running",
        "since_ns",
        "sleeps",
        "spec",
        "state",
        "turn",
        "unload_asked_ns",
    )

    def __init__(self, replica_id: str, epoch: int, model: "Model", now_ns: int) -> None:
        self.id = replica_id
        self.epoch = epoch
        self.model = model
        #: What its model needed when it was loaded; another one's engine may have changed since.
        self.spec: ModelSpec = model.spec
        #: Whose ledger pays for it, all its life.
        self.device: Device = model.device
        self.state = ReplicaState.LOADING
        self.booked_bytes = 0
        self.measured_bytes = 0
        self.measured_ns = -1
        self.load_fraction = 0.0
        #: When its load was last known to get on; -1 while nothing was told.
        self.advanced_ns = -1
        self.since_ns = now_ns
        self.ready_ns = -1
        self.last_used_ns = now_ns
        #: Which of its model's starts its last one was; -1 before any.
        self.last_start = -1
        self.unload_asked_ns = -1
        #: What the ledger of host memory pays for it.
        self.host_bytes = 0
        #: Number of its last sleep or wake; the load was 0.
        self.turn = 0
        #: Whether it is to sleep instead of ending, now that it gives way.
        self.sleeps = False
        #: Why it leaves; only what is evicted may be taken back.
        self.leaves_as = UnloadCause.EVICTED
        #: What runs on it is stopped then; -1 where a drain's usual time holds.
        self.leaves_by_ns = -1
        #: Level of its last sleep.
        self.level = 0
        self.running: dict[tuple[str, int], Attempt] = {}
        #: It came up before anybody asked for it, and nobody has yet.
        self.ahead = False

    @property
    def model_id(self) -> str:
        """The model it holds."""
        return self.model.spec.id

    @property
    def freed_bytes(self) -> int:
        """Bytes of its device that come free if it gives way: all, or all but a sleeper's rest."""
        if self.sleeps and self.state not in {ReplicaState.ASLEEP, ReplicaState.UNLOADING}:
            return max(self.booked_bytes - self.spec.residual_bytes, 0)
        return self.booked_bytes

    @property
    def is_outdated(self) -> bool:
        """Whether a reload has no use for it any more: nothing brings it back."""
        return self.leaves_as in _OUTDATED

    @property
    def waiting_count(self) -> int:
        """Requests that wait for its model."""
        return self.model.waiting_count

    @property
    def load_ns(self) -> int:
        """What bringing it up again is expected to take if it ends, ns; 0 if nobody knows."""
        return self.model.load_ns

    @property
    def wake_ns(self) -> int:
        """The same if it sleeps, as it does or as its model does."""
        return self.model.deep_wake_ns if self.is_deep else self.model.wake_ns

    @property
    def deep_wake_ns(self) -> int:
        """The same if it sleeps at level 2 for want of host memory; 0 if it could not."""
        return self.model.deep_wake_ns

    @property
    def is_deep(self) -> bool:
        """Whether it sleeps at level 2 though its model can at level 1."""
        resting = self.state in {ReplicaState.SLEEPING, ReplicaState.ASLEEP, ReplicaState.WAKING}
        return resting and self.level > self.spec.sleep_level

    @property
    def speed(self) -> float:
        """How many times as fast its device is as its model's step times say."""
        return self.device.spec.speed

    @property
    def running_count(self) -> int:
        """Attempts it holds."""
        return len(self.running)

    @property
    def free_places(self) -> int:
        """Attempts it could take now."""
        return self.spec.places - len(self.running)

    @property
    def announced(self) -> Sequence[int]:
        """When chains are expected to ask for its model, ns, earliest first; a bounded number."""
        return self.model.announced

    def active(self) -> Collection[Attempt]:
        """What holds a place, in the order of the starts."""
        return self.running.values()

    def __repr__(self) -> str:
        return f"Replica({self.id}@{self.epoch}, {self.state}, running={len(self.running)})"
