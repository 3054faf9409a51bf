"""The scheduler's mutable state: models, devices, and all that is known by name.

Owns the data; `books` keeps its parts consistent. Decides nothing: transitions and the reconcile
passes do. Mutated only inside `Scheduler.handle`.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from slalom.core.chain_book import ChainBook
from slalom.core.device import Device
from slalom.core.entities import Attempt, Replica, RequestRecord
from slalom.core.keeping import Keeper, LooksAhead
from slalom.core.placing import bring_up_at_start
from slalom.core.planning import Foreseeing, Planner
from slalom.core.queue import Key, SortedQueue
from slalom.core.request import DeviceSpec, ModelSpec, Request, Swap
from slalom.core.sizing import UNSIZED, Sizing
from slalom.core.snapshot import ReplicaState
from slalom.core.wishes import Wishes

#: Prefixes of a model whose last reader is remembered.
_READERS_MAX = 4_096
#: States that end in a replica's being ready.
_COMING_STATES = (ReplicaState.LOADING, ReplicaState.WAKING)
#: The same, and those in which it is.
_UP_STATES = (ReplicaState.READY, *_COMING_STATES)


class Model:
    """A model: its queue, its replicas, and its history of failed loads."""

    __slots__ = (
        "_by_free",
        "_readers",
        "_ready",
        "announced",
        "backoff_until_ns",
        "counts",
        "desk",
        "device",
        "devices",
        "failures",
        "held_until_ns",
        "homes",
        "last_deep_wake_ns",
        "last_failure",
        "last_load_ns",
        "last_wake_ns",
        "learned_bytes",
        "look_ns",
        "look_when_read",
        "offered",
        "queue",
        "replicas",
        "retires_ns",
        "running",
        "seats",
        "sizing",
        "sleep_backoff_until_ns",
        "sleep_failures",
        "spec",
        "start_count",
        "wanted_ns",
        "wishes",
    )

    def __init__(self, spec: ModelSpec, devices: tuple[Device, ...]) -> None:
        self.spec = spec
        #: Those that may hold a replica, most preferred first.
        self.devices = devices
        #: The same by name.
        self.homes = frozenset(device.spec.id for device in devices)
        #: Where its present or next need for a replica stands.
        self.device = devices[0]
        #: Where its requests stand in line to be dispatched.
        self.desk = devices[0]
        #: Replicas that have their place by device, while it is pinned.
        self.seats: dict[str, int] = {}
        self.queue: SortedQueue[RequestRecord] = SortedQueue()
        #: What people asked of it beyond its requests.
        self.wishes = Wishes(pinned=spec.pinned)
        #: How many replicas it is to have.
        self.sizing = Sizing()
        self.replicas: dict[str, Replica] = {}
        #: How many of these are in each state, and what runs on all of them.
        self.counts = dict.fromkeys(ReplicaState, 0)
        self.running = 0
        #: Ready replicas by number of free places: the routing index.
        self._by_free: list[OrderedDict[str, Replica]] = [
            OrderedDict() for _ in range(spec.places + 1)
        ]
        #: The same by name.
        self._ready: dict[str, Replica] = {}
        #: Attempts begun so far.
        self.start_count = 0
        #: Prefix -> the replica that was last given it, longest not asked for first.
        self._readers: OrderedDict[str, str] = OrderedDict()
        #: Loads failed since the last one that succeeded.
        self.failures = 0
        self.backoff_until_ns = -1
        self.last_failure = ""
        #: Largest measurement so far: the next load books at least this.
        self.learned_bytes = 0
        #: Duration of its last load that succeeded; -1 before there was one.
        self.last_load_ns = -1
        #: The same of its last wake.
        self.last_wake_ns = -1
        #: The same from level 2, of a model that sleeps at level 1 where it can.
        self.last_deep_wake_ns = -1
        #: Sleeps failed since the last one that succeeded, and when it may sleep again.
        self.sleep_failures = 0
        self.sleep_backoff_until_ns = -1
        #: When its present need for a replica arose; for pinned models, the start.
        self.wanted_ns = 0
        #: When the residency policy wants to be asked about that need again, or -1.
        self.held_until_ns = -1
        #: Key under which it stands in its device's runnable heap, if it does.
        self.offered: Key | None = None
        #: When its planner wants to be asked again, or -1.
        self.look_ns = -1
        #: Whether it wants to be asked as soon as a prompt is read.
        self.look_when_read = False
        #: When chains are expected to ask for it, ns, earliest first.
        self.announced: Sequence[int] = ()
        #: A reload took it away: what waits or runs for it ends by then; -1 for a model that stays.
        self.retires_ns = -1

    @property
    def waiting_count(self) -> int:
        """Requests that wait for it."""
        return len(self.queue)

    @property
    def bytes_needed(self) -> int:
        """What a replica books from its load on."""
        return max(self.spec.bytes_needed, self.learned_bytes)

    @property
    def bytes_to_add(self) -> int:
        """What bringing up a replica books beyond what its sleeper has."""
        sleeper = self.sleeper()
        return self.bytes_needed - (sleeper.booked_bytes if sleeper else 0)

    @property
    def load_ns(self) -> int:
        """What a load is expected to take, ns: what the last one took; 0 where nobody knows."""
        return self.last_load_ns if self.last_load_ns >= 0 else self.spec.load_ns

    @property
    def wake_ns(self) -> int:
        """The same of a wake; of a model that cannot sleep, what a load takes."""
        if not self.spec.sleep_level:
            return self.load_ns
        return self.last_wake_ns if self.last_wake_ns >= 0 else self.spec.wake_ns

    @property
    def deep_wake_ns(self) -> int:
        """The same from level 2; 0 for a model that has no choice of levels."""
        if not self.spec.deep_wake_ns:
            return 0
        return self.last_deep_wake_ns if self.last_deep_wake_ns >= 0 else self.spec.deep_wake_ns

    @property
    def swap(self) -> Swap:
        """The most that any of those who want it may do to others."""
        return self.wishes.swap(len(self.queue))

    def sleeper(self) -> Replica | None:
        """The replica to wake where it is needed: that which was used last of those that sleep."""
        if not self.counts[ReplicaState.ASLEEP]:
            return None
        here = [one for one in self.replicas.values() if one.device is self.device]
        asleep = [one for one in here if one.state is ReplicaState.ASLEEP]
        return max(asleep, key=lambda one: (one.last_used_ns, one.id), default=None)

    def most_free(self) -> Replica | None:
        """The ready replica with most free places."""
        if len(self._ready) == 1:
            (only,) = self._ready.values()
            return self._by_free[only.free_places].get(only.id) if only.free_places > 0 else None
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

    def note_start(self, replica: Replica, request: Request) -> None:
        """Note which of its starts this is, and which prefix its replica reads."""
        replica.last_start = self.start_count
        self.start_count += 1
        if self.spec.replicas > 1 and request.prefix:
            self._readers[request.prefix] = replica.id
            self._readers.move_to_end(request.prefix)
            if len(self._readers) > _READERS_MAX:
                self._readers.popitem(last=False)

    def reader(self, prefix: str) -> str:
        """The replica that was last given a prompt with this prefix; empty if nobody knows."""
        return self._readers.get(prefix, "")

    def has_ready(self) -> bool:
        """Whether a replica is ready, be it full."""
        return bool(self._ready)

    def ready(self) -> list[Replica]:
        """Its ready replicas, by name."""
        return [self._ready[name] for name in sorted(self._ready)]

    def ready_count(self) -> int:
        """How many there are."""
        return len(self._ready)

    def some_ready(self, limit: int, named: Sequence[str] = ()) -> list[Replica]:
        """Those of the names that are ready, and of the others about `limit`, by name.

        Half of these have most free places, the others fewest, but one at least.
        """
        found = {name: self._ready[name] for name in named if name in self._ready}
        emptiest, most = range(self.spec.places, -1, -1), len(found) + limit // 2
        for order in (emptiest, range(1, self.spec.places + 1)):
            for free in order:
                for replica in self._by_free[free].values():
                    if len(found) >= most:
                        break
                    found[replica.id] = replica
            most += limit - limit // 2
        return [found[name] for name in sorted(found)]

    def waiting(self, limit: int) -> list[RequestRecord]:
        """Up to `limit` waiting requests, in order."""
        return self.queue.first(limit)

    @property
    def room(self) -> int:
        """Attempts that the device's window still admits."""
        return self.desk.room

    @property
    def beside(self) -> int:
        """Attempts of other models that run on its device; 0 for a model with a choice."""
        return max(self.device.running - self.running, 0) if len(self.devices) == 1 else 0

    def ready_at_ns(self, now_ns: int) -> int:
        """When a replica is ready, or would be if its load or wake began now, ns."""
        if self.has_ready():
            return now_ns
        begun = [
            one.since_ns + (self.load_ns if one.state is ReplicaState.LOADING else self.wake_ns)
            for one in self.replicas.values()
            if one.state in _COMING_STATES
        ]
        if begun:
            return max(min(begun), now_ns)
        asleep = self.in_state(ReplicaState.ASLEEP, ReplicaState.SLEEPING)
        return now_ns + (self.wake_ns if asleep else self.load_ns)

    def in_state(self, *states: ReplicaState) -> bool:
        """Whether any replica is in one of the states."""
        return any(self.counts[state] for state in states)

    def is_resident(self) -> bool:
        """Whether a replica is ready, or will be without being asked."""
        return self.in_state(ReplicaState.READY, ReplicaState.LOADING, ReplicaState.WAKING)

    def may_grow(self) -> bool:
        """Whether it may have another replica, be it one that sleeps."""
        size = self.sizing.size
        if size != UNSIZED and self.up_count() >= max(size, 1):
            return False
        return len(self.replicas) < self.spec.replicas or self.in_state(ReplicaState.ASLEEP)

    def up_count(self) -> int:
        """Replicas that serve, or come up."""
        return sum([self.counts[state] for state in _UP_STATES])

    def standing_on(self) -> Mapping[str, int]:
        """How many of its replicas are on each device that has any, leaving ones too."""
        return Counter(one.device.spec.id for one in self.replicas.values())

    def is_short(self) -> bool:
        """Whether it has fewer replicas than was decided."""
        return self.up_count() < self.sizing.size

    def waiting_requests(self, limit: int) -> list[Request]:
        """Up to `limit` waiting requests, in order."""
        return [record.request for record in self.queue.first(limit)]

    def index(self, replica: Replica) -> None:
        """Enter a ready replica in the routing index."""
        self._by_free[replica.free_places][replica.id] = replica
        self._ready[replica.id] = replica

    def unindex(self, replica: Replica) -> None:
        """Take a replica out of the routing index, if it is there."""
        self._by_free[replica.free_places].pop(replica.id, None)
        self._ready.pop(replica.id, None)

    def running_count(self) -> int:
        """Attempts on all its replicas."""
        return self.running

    def __repr__(self) -> str:
        return f"Model({self.spec.id}, waiting={len(self.queue)}, replicas={len(self.replicas)})"


class State:
    """Everything the scheduler knows."""

    def __init__(self, models: tuple[ModelSpec, ...], devices: tuple[DeviceSpec, ...]) -> None:
        self.now_ns = -1
        self.devices = {spec.id: Device(spec, rank) for rank, spec in enumerate(devices)}
        for device in self.devices.values():
            if device.spec.host:
                device.host = self.devices[device.spec.host]
                device.host.tenants.append(device)
        self.models = {
            spec.id: Model(spec, tuple(self.devices[name] for name in spec.homes))
            for spec in models
        }
        #: Models with a choice of devices.
        self.roamers = [model for model in self.models.values() if len(model.devices) > 1]
        bring_up_at_start(self.models.values())
        self.requests: dict[str, RequestRecord] = {}
        #: (key, model, name) -> the newest request of those that replace each other.
        self.newest: dict[tuple[str, str, str], str] = {}
        #: What plans, or None where heads are admitted one by one.
        self.planner: Planner | None = None
        #: The same planner if it looks at models that are not loaded, and those to show it.
        self.foreseer: Foreseeing | None = None
        self.unready: dict[str, Model] = {}
        #: What learns whom to keep in memory, or None where candidates alone decide.
        self.keeper: Keeper | None = None
        #: The same keeper if it is asked what to bring up before anybody waits for it.
        self.forerunner: LooksAhead | None = None
        #: Heap of (time, model id) at which planners want to be asked; stale ones are dropped.
        self.looks: list[tuple[int, str]] = []
        #: Heap of (time, model id) at which wishes fall due; stale ones are dropped.
        self.lapses: list[tuple[int, str]] = []
        #: Waiting requests, longest present wait first (expiry).
        self.waiting: OrderedDict[str, RequestRecord] = OrderedDict()
        #: Attempts that hold a place, longest silent first.
        self.attempts: OrderedDict[tuple[str, int], Attempt] = OrderedDict()
        self.untold: dict[tuple[str, int], Attempt] = {}  # told tokens of, planners not yet
        #: Models with fewer replicas than was decided; they grow where memory comes free.
        self.short: dict[str, Model] = {}
        self.is_sized = False  # whether a scaling policy wants to know of arrivals
        #: When it is asked next, or -1, and when it was last: long before any clock's time.
        self.resize_ns = 0
        self.resized_ns = -(1 << 62)
        #: Number of the last replica life.
        self.epoch = 0
        #: Devices whose residency must be looked at again in this reconcile.
        self.dirty: dict[str, Device] = dict(self.devices)
        #: Devices on which something may fall due, and those with a runnable heap: passes look at
        #: these only, because a fleet has many that neither load nor wait.
        self.timed: dict[str, Device] = {}
        self.offering: dict[str, Device] = {}
        #: Models that a reload took away, until nothing is left of them.
        self.retiring: dict[str, Model] = {}
        #: Deadline of a requested drain, or -1.
        self.drain_deadline_ns = -1
        self.drain_reported = False
        #: Time of the timer that is set, or -1.
        self.timer_ns = -1
        #: Chains that are not over.
        self.chains = ChainBook()
        self.counters: Counter[str] = Counter()

    def replica(self, replica_id: str, epoch: int) -> Replica | None:
        """The replica in exactly this life, or None (a stale fence, which is counted)."""
        model = self.models.get(replica_id.rpartition("#")[0])
        found = model.replicas.get(replica_id) if model else None
        if found is None or found.epoch != epoch:
            self.counters["stale_events"] += 1
            return None
        return found

    def is_turn(self, replica: Replica, turn: int) -> bool:
        """Whether an event answers the replica's last sleep or wake; a stale one is counted."""
        if turn != replica.turn:
            self.counters["stale_events"] += 1
        return turn == replica.turn

    def all_replicas(self) -> Iterator[Replica]:
        """Every replica, device by device."""
        for device in self.devices.values():
            yield from device.replicas.values()

    def __repr__(self) -> str:
        return (
            f"State(requests={len(self.requests)}, waiting={len(self.waiting)}, "
            f"attempts={len(self.attempts)})"
        )
