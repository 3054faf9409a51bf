"""What the scheduler tells the outside about itself: plain copies, never live state.

Owns the read-only picture used by `/v1/models`, `/ready`, `/metrics`, `explain` and the page.
"""

from dataclasses import dataclass
from enum import StrEnum

from slalom.core.planning import Learned


class ReplicaState(StrEnum):
    """Where a replica is in its life."""

    LOADING = "loading"
    READY = "ready"
    #: Chosen to give way: takes nothing new, finishes what runs.
    DRAINING = "draining"
    #: Falls asleep; its device's bytes are still booked.
    SLEEPING = "sleeping"
    #: Its process lives, its weights are in host memory or dropped.
    ASLEEP = "asleep"
    WAKING = "waking"
    #: Its process is being ended; its bytes are still booked.
    UNLOADING = "unloading"


class ModelState(StrEnum):
    """State of a model as users see it: that of its best replica."""

    COLD = "cold"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    SLEEPING = "sleeping"
    ASLEEP = "asleep"
    WAKING = "waking"
    UNLOADING = "unloading"
    #: The last load failed; not tried again before its back-off has passed.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One replica."""

    id: str
    epoch: int
    state: ReplicaState
    running: int
    booked_bytes: int
    #: Last measurement and its time; 0 and -1 where there is none.
    measured_bytes: int
    measured_ns: int
    load_fraction: float
    since_ns: int
    #: What the ledger of its host memory pays while it sleeps.
    host_bytes: int = 0
    #: Whose ledger pays for it.
    device: str = ""


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One model with its replicas and its queue."""

    id: str
    state: ModelState
    waiting: int
    running: int
    load_fraction: float
    #: Expected time until a loading or waking replica is ready, ns; -1 where nothing tells.
    ready_in_ns: int
    #: End of the back-off after a failed load; -1 if there is none.
    backoff_until_ns: int
    last_failure: str
    replicas: tuple[ReplicaSnapshot, ...]


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """One ledger."""

    id: str
    budget_bytes: int
    booked_bytes: int
    measured_bytes: int
    running: int
    #: Of the budget, what other processes were measured to hold.
    foreign_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole scheduler at one instant."""

    now_ns: int
    draining: bool
    waiting: int
    running: int
    oldest_wait_ns: int
    models: tuple[ModelSnapshot, ...]
    devices: tuple[DeviceSnapshot, ...]
    #: Named counters: stale events, evictions, loads, drift alarms …
    counters: tuple[tuple[str, int], ...]
    #: What the planner has learned of the engines, if one learns.
    learned: tuple[Learned, ...] = ()
