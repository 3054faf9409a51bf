"""A memory domain: its ledger of bytes, its window of attempts, and who stands in line for it.

Owns the data and its sums. `books` keeps its parts consistent, and nothing here decides. Part of
`state`.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from slalom.core.entities import Replica
from slalom.core.queue import Key
from slalom.core.request import DeviceSpec
from slalom.core.snapshot import ReplicaState

if TYPE_CHECKING:
    from slalom.core.state import Model

#: Models whose last requests are remembered.
_RECENT_MAX = 32
#: Room of a device without a window.
_UNBOUNDED = 1 << 30
#: When a device falls due that nobody has looked at since it changed, or where nothing will.
UNKNOWN, NEVER = -1, 1 << 62
#: States that a replica should leave by itself within a bounded time.
_TIMED_STATES = (
    ReplicaState.LOADING,
    ReplicaState.DRAINING,
    ReplicaState.SLEEPING,
    ReplicaState.WAKING,
    ReplicaState.UNLOADING,
)
#: States in which bytes of a device come free.
LEAVING_STATES = (ReplicaState.DRAINING, ReplicaState.SLEEPING, ReplicaState.UNLOADING)


class Device:
    """A ledger of bytes and, where set, a window of attempts."""

    __slots__ = (
        "ahead_ns",
        "booked_bytes",
        "busy",
        "due_ns",
        "foreign_bytes",
        "foreign_ns",
        "growing",
        "guests",
        "held",
        "host",
        "idle",
        "in_state",
        "is_overdue",
        "kept",
        "look_ns",
        "pinned",
        "puts_to_sleep",
        "rank",
        "recent",
        "replicas",
        "room_made_for",
        "runnable",
        "running",
        "spec",
        "tenants",
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
        #: Models that a request or a call of tools lets stay for a while.
        self.kept: dict[str, Model] = {}
        #: Whether any of its models can sleep: where none can, nobody looks for sleepers.
        self.puts_to_sleep = False
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
        #: When one of its replicas has taken too long for its state; and whether one has, which is
        #: looked at in each call: it waits for host memory to sleep in.
        self.due_ns = UNKNOWN
        self.is_overdue = False
        #: The ledger that pays for what sleeps here, if there is one.
        self.host: Device | None = None
        #: Devices whose sleepers this ledger pays for, and those sleepers.
        self.tenants: list[Device] = []
        self.guests: dict[str, Replica] = {}
        #: Bytes of the budget that other processes hold, and when that was measured.
        self.foreign_bytes = 0
        self.foreign_ns = -1

        #: Models that were asked for or announced last, the last one behind; a bounded number, and
        #: kept only where somebody looks ahead.
        self.recent: OrderedDict[str, Model] = OrderedDict()
        #: No looking ahead before then, and the model for which room was made that way.
        self.ahead_ns = 0
        self.room_made_for = ""

    def remember(self, model: "Model") -> None:
        """A model was asked for, or announced."""
        self.recent[model.spec.id] = model
        self.recent.move_to_end(model.spec.id)
        if len(self.recent) > _RECENT_MAX:
            self.recent.popitem(last=False)

    @property
    def id(self) -> str:
        """Its name."""
        return self.spec.id

    @property
    def is_wanted(self) -> bool:
        """Whether a model waits for its first replica to come up here."""
        return bool(self.wanting)

    @property
    def free_bytes(self) -> int:
        """Bytes that nothing has booked and nobody else holds.

        Negative after a measurement above the estimate, or of memory that others took.
        """
        return self.spec.budget_bytes - self.foreign_bytes - self.booked_bytes

    def is_timed(self) -> bool:
        """Whether anything on it falls due by the passage of time alone."""
        return self.look_ns >= 0 or any(self.in_state[state] for state in _TIMED_STATES)

    def is_ripe(self, now_ns: int) -> bool:
        """Whether anything on it may be due now."""
        return self.due_ns <= now_ns or self.is_overdue or 0 <= self.look_ns <= now_ns

    def has_room(self) -> bool:
        """Whether another attempt may start."""
        return self.spec.window == 0 or self.running < self.spec.window

    @property
    def room(self) -> int:
        """How many more attempts may start; a large number where nothing bounds them."""
        return self.spec.window - self.running if self.spec.window else _UNBOUNDED

    def book(self, replica: Replica, count: int) -> None:
        """Set what the ledger pays for a replica."""
        self.booked_bytes += count - replica.booked_bytes
        replica.booked_bytes = count

    def lodge(self, guest: Replica, count: int) -> None:
        """Set what this ledger pays for a replica that sleeps off another device."""
        self.booked_bytes += count - guest.host_bytes
        guest.host_bytes = count
        if count:
            self.guests[guest.id] = guest
        else:
            self.guests.pop(guest.id, None)

    def leaving_bytes(self) -> int:
        """Bytes that will be free once what gives way has gone, and what wakes is awake."""
        own = sum(
            one.freed_bytes for state in LEAVING_STATES for one in self.in_state[state].values()
        )
        return own + sum(
            guest.host_bytes
            for guest in self.guests.values()
            if guest.state in {ReplicaState.UNLOADING, ReplicaState.WAKING}
        )

    def __repr__(self) -> str:
        return f"Device({self.spec.id}, booked={self.booked_bytes}/{self.spec.budget_bytes})"
