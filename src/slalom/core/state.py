"""The scheduler's mutable state: requests, attempts, replicas, models, devices.

Owns the data; `books` keeps its parts consistent. Decides nothing: transitions and the reconcile
passes do. Mutated only inside `Scheduler.handle`.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator

from slalom.core.queue import Key, LazyQueue
from slalom.core.request import DeviceSpec, ModelSpec, Request
from slalom.core.snapshot import ReplicaState


class RequestRecord:
    """A request that has not ended."""

    __slots__ = (
        "attempt",
        "attempts",
        "dispatch_ns",
        "first_dispatch_ns",
        "first_token_ns",
        "in_queue",
        "key",
        "number",
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

    def __repr__(self) -> str:
        return f"RequestRecord({self.request.id}, attempts={self.attempts}, {self.in_queue=})"


class Attempt:
    """One dispatch that has not been reported over; it holds a place on its replica."""

    __slots__ = ("aborting", "heard_ns", "number", "output_tokens", "replica", "request_id")

    def __init__(self, request_id: str, number: int, replica: "Replica", now_ns: int) -> None:
        self.request_id = request_id
        self.number = number
        self.replica = replica
        self.aborting = False
        self.output_tokens = 0
        #: Time of its last event.
        self.heard_ns = now_ns

    @property
    def fence(self) -> tuple[str, int]:
        """Its name."""
        return (self.request_id, self.number)


class Replica:
    """One life of one replica, from the booking of its bytes to their return."""

    __slots__ = (
        "booked_bytes",
        "epoch",
        "id",
        "last_used_ns",
        "load_fraction",
        "measured_bytes",
        "measured_ns",
        "model",
        "ready_ns",
        "running",
        "since_ns",
        "state",
        "unload_asked_ns",
    )

    def __init__(self, replica_id: str, epoch: int, model: "Model", now_ns: int) -> None:
        self.id = replica_id
        self.epoch = epoch
        self.model = model
        self.state = ReplicaState.LOADING
        self.booked_bytes = 0
        self.measured_bytes = 0
        self.measured_ns = -1
        self.load_fraction = 0.0
        self.since_ns = now_ns
        self.ready_ns = -1
        self.last_used_ns = now_ns
        self.unload_asked_ns = -1
        self.running: dict[tuple[str, int], Attempt] = {}

    @property
    def model_id(self) -> str:
        """The model it holds."""
        return self.model.spec.id

    @property
    def running_count(self) -> int:
        """Attempts it holds."""
        return len(self.running)

    @property
    def free_places(self) -> int:
        """Attempts it could take now."""
        return self.model.spec.places - len(self.running)

    def __repr__(self) -> str:
        return f"Replica({self.id}@{self.epoch}, {self.state}, running={len(self.running)})"


class Model:
    """A model: its queue, its replicas, and its history of failed loads."""

    __slots__ = (
        "_by_free",
        "backoff_until_ns",
        "device",
        "failures",
        "last_failure",
        "last_load_ns",
        "learned_bytes",
        "offered",
        "queue",
        "replicas",
        "spec",
        "wanted_ns",
    )

    def __init__(self, spec: ModelSpec, device: "Device") -> None:
        self.spec = spec
        self.device = device
        self.queue: LazyQueue[RequestRecord] = LazyQueue()
        self.replicas: dict[str, Replica] = {}
        #: Ready replicas by number of free places: the routing index.
        self._by_free: list[OrderedDict[str, Replica]] = [
            OrderedDict() for _ in range(spec.places + 1)
        ]
        #: Loads failed since the last one that succeeded.
        self.failures = 0
        self.backoff_until_ns = -1
        self.last_failure = ""
        #: Largest measurement so far: the next load books at least this.
        self.learned_bytes = 0
        #: Duration of its last load that succeeded; -1 before there was one.
        self.last_load_ns = -1
        #: When its present need for a replica arose; for pinned models, the start.
        self.wanted_ns = 0
        #: Key under which it stands in its device's runnable heap, if it does.
        self.offered: Key | None = None

    @property
    def waiting_count(self) -> int:
        """Requests that wait for it."""
        return len(self.queue)

    @property
    def bytes_needed(self) -> int:
        """What the next load books."""
        return max(self.spec.bytes_needed, self.learned_bytes)

    def most_free(self) -> Replica | None:
        """The ready replica with most free places."""
        for free in range(self.spec.places, 0, -1):
            if bucket := self._by_free[free]:
                return next(iter(bucket.values()))
        return None

    def least_free(self) -> Replica | None:
        """The fullest ready replica with a free place."""
        for free in range(1, self.spec.places + 1):
            if bucket := self._by_free[free]:
                return next(iter(bucket.values()))
        return None

    def in_state(self, *states: ReplicaState) -> bool:
        """Whether any replica is in one of the states."""
        return any(replica.state in states for replica in self.replicas.values())

    def is_resident(self) -> bool:
        """Whether a replica is ready, or will be without being asked."""
        return self.in_state(ReplicaState.READY, ReplicaState.LOADING)

    def index(self, replica: Replica) -> None:
        """Enter a ready replica in the routing index."""
        self._by_free[replica.free_places][replica.id] = replica

    def unindex(self, replica: Replica) -> None:
        """Take a replica out of the routing index, if it is there."""
        self._by_free[replica.free_places].pop(replica.id, None)

    def running_count(self) -> int:
        """Attempts on all its replicas."""
        return sum(len(replica.running) for replica in self.replicas.values())

    def __repr__(self) -> str:
        return f"Model({self.spec.id}, waiting={len(self.queue)}, replicas={len(self.replicas)})"


#: States that a replica should leave by itself within a bounded time.
_TIMED_STATES = (ReplicaState.LOADING, ReplicaState.DRAINING, ReplicaState.UNLOADING)


class Device:
    """A ledger of bytes and, where set, a window of attempts."""

    __slots__ = (
        "booked_bytes",
        "busy",
        "growing",
        "held",
        "idle",
        "in_state",
        "look_ns",
        "pinned",
        "rank",
        "replicas",
        "runnable",
        "running",
        "spec",
        "wanting",
    )

    def __init__(self, spec: DeviceSpec, rank: int) -> None:
        self.spec = spec
        #: Place among the devices: the order in which passes look at them.
        self.rank = rank
        self.booked_bytes = 0
        #: Attempts in flight.
        self.running = 0
        self.replicas: dict[str, Replica] = {}
        #: The same, by state, longest in that state first.
        self.in_state: dict[ReplicaState, OrderedDict[str, Replica]] = {
            state: OrderedDict() for state in ReplicaState
        }
        #: Ready replicas without attempts, least recently used first.
        self.idle: OrderedDict[str, Replica] = OrderedDict()
        #: Ready replicas with attempts, least recently used first.
        self.busy: OrderedDict[str, Replica] = OrderedDict()
        #: Models that are loaded at start and never give way.
        self.pinned: list[Model] = []
        #: Heap of (key of the queue's head, model id); stale entries are dropped on sight.
        self.runnable: list[tuple[Key, str]] = []
        #: Models that need their first replica, in the order in which the need arose; those
        #: that take no memory, and pinned ones that were lost, stand in front.
        self.wanting: OrderedDict[str, Model] = OrderedDict()
        #: Models whose replicas are all full and that may have another one.
        self.growing: dict[str, Model] = {}
        #: Models whose head admission holds back until an attempt on this device ends.
        self.held: dict[str, Model] = {}
        #: When the passage of time alone may let an unmet need proceed, or -1.
        self.look_ns = -1

    @property
    def free_bytes(self) -> int:
        """Bytes that nothing has booked; negative after a measurement above the estimate."""
        return self.spec.budget_bytes - self.booked_bytes

    def is_timed(self) -> bool:
        """Whether anything on it falls due by the passage of time alone."""
        return self.look_ns >= 0 or any(self.in_state[state] for state in _TIMED_STATES)

    def has_room(self) -> bool:
        """Whether another attempt may start."""
        return self.spec.window == 0 or self.running < self.spec.window

    def book(self, replica: Replica, count: int) -> None:
        """Set what the ledger pays for a replica."""
        self.booked_bytes += count - replica.booked_bytes
        replica.booked_bytes = count

    def leaving_bytes(self) -> int:
        """Bytes that will be free once what drains and unloads is gone."""
        draining = self.in_state[ReplicaState.DRAINING].values()
        unloading = self.in_state[ReplicaState.UNLOADING].values()
        return sum(r.booked_bytes for r in draining) + sum(r.booked_bytes for r in unloading)

    def __repr__(self) -> str:
        return f"Device({self.spec.id}, booked={self.booked_bytes}/{self.spec.budget_bytes})"


class State:
    """Everything the scheduler knows."""

    def __init__(self, models: tuple[ModelSpec, ...], devices: tuple[DeviceSpec, ...]) -> None:
        self.now_ns = -1
        self.devices = {spec.id: Device(spec, rank) for rank, spec in enumerate(devices)}
        self.models = {spec.id: Model(spec, self.devices[spec.device]) for spec in models}
        for model in self.models.values():
            if model.spec.pinned:
                model.device.pinned.append(model)
                model.device.wanting[model.spec.id] = model
        self.requests: dict[str, RequestRecord] = {}
        #: Waiting requests, longest present wait first (expiry).
        self.waiting: OrderedDict[str, RequestRecord] = OrderedDict()
        #: Attempts that hold a place, longest silent first.
        self.attempts: OrderedDict[tuple[str, int], Attempt] = OrderedDict()
        #: Number of the last replica life.
        self.epoch = 0
        #: Devices whose residency must be looked at again in this reconcile.
        self.dirty: dict[str, Device] = dict(self.devices)
        #: Devices on which something may fall due, and those with a runnable heap: passes look at
        #: these only, because a fleet has many that neither load nor wait.
        self.timed: dict[str, Device] = {}
        self.offering: dict[str, Device] = {}
        #: Deadline of a requested drain, or -1.
        self.drain_deadline_ns = -1
        self.drain_reported = False
        #: Time of the timer that is set, or -1.
        self.timer_ns = -1
        self.counters: Counter[str] = Counter()

    def replica(self, replica_id: str, epoch: int) -> Replica | None:
        """The replica in exactly this life, or None (a stale fence, which is counted)."""
        model = self.models.get(replica_id.rpartition("#")[0])
        found = model.replicas.get(replica_id) if model else None
        if found is None or found.epoch != epoch:
            self.counters["stale_events"] += 1
            return None
        return found

    def all_replicas(self) -> Iterator[Replica]:
        """Every replica, device by device."""
        for device in self.devices.values():
            yield from device.replicas.values()

    def __repr__(self) -> str:
        return (
            f"State(requests={len(self.requests)}, waiting={len(self.waiting)}, "
            f"attempts={len(self.attempts)})"
        )
