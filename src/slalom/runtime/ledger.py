"""The ledger held against reality: what it has booked, what was measured, what others hold.

Owns the arithmetic and what counts as an alarm. Pure: given a snapshot and measurements, it gives
readings. Called by `ledger_watch`, whose readings `/metrics` and `/admin/status` show.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from slalom.core.request import ModelSpec
from slalom.core.snapshot import DeviceSnapshot, ReplicaSnapshot, ReplicaState, Snapshot
from slalom.units import MIB, format_bytes

#: States in which a measurement shows what a replica takes while it works.
_WORKING = (ReplicaState.READY, ReplicaState.DRAINING)
_MOVING = (
    ReplicaState.LOADING,
    ReplicaState.WAKING,
    ReplicaState.SLEEPING,
    ReplicaState.UNLOADING,
)
#: Smaller differences are noise of the machine: of the budget, and at least so many bytes.
_NOISE_SHARE = 0.02
_NOISE_BYTES = 64 * MIB
#: Replicas that an error names.
_HOLDERS_MAX = 4


class AlarmKind(StrEnum):
    """What can be wrong with a ledger."""

    #: Others hold memory that the budget counts on.
    FOREIGN = "foreign_memory"
    #: Replicas were measured well above what was expected of their models.
    DRIFT = "drift"
    #: More is booked than the budget.
    OVERRUN = "budget_overrun"


@dataclass(frozen=True, slots=True)
class Reading:
    """One device at one time, bytes."""

    device: str
    budget_bytes: int
    booked_bytes: int
    #: Of replicas that work and were measured: their memory, and what was expected of them.
    measured_bytes: int
    expected_bytes: int
    #: None where the device cannot be measured.
    available_bytes: int | None
    #: What the ledger counts as free but is not there.
    foreign_bytes: int
    as_of_ns: int
    #: Whether replicas come or go: what they have taken is not known, and what is foreign may be
    #: more.
    is_moving: bool = False

    @property
    def drift_bytes(self) -> int:
        """Measured minus expected; above 0 the models need more than was thought."""
        return self.measured_bytes - self.expected_bytes

    @property
    def noise_bytes(self) -> int:
        """Differences up to this mean nothing."""
        return max(round(self.budget_bytes * _NOISE_SHARE), _NOISE_BYTES)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is wrong now."""

    device: str
    kind: AlarmKind
    bytes: int
    since_ns: int
    text: str


def read_device(
    device: DeviceSnapshot,
    replicas: Iterable[tuple[ReplicaSnapshot, int]],
    available_bytes: int | None,
    now_ns: int,
    *,
    dead_bytes: int = 0,
) -> Reading:
    """Hold one ledger against its device.

    Args:
        device: The ledger.
        replicas: Its replicas, each with the bytes that were expected of its model.
        available_bytes: What new processes could take now without what ours have mapped; None
            where that cannot be measured.
        now_ns: The time of the measurement.
        dead_bytes: Booked for loads that have just died: nothing is taken of it.
    """
    measured = expected = 0
    slack = dead_bytes
    moving = False
    for replica, needed in replicas:
        moving = moving or replica.state in _MOVING
        if replica.state in _WORKING and replica.measured_bytes:
            measured += replica.measured_bytes
            expected += needed
            # Booked for its growth, and not taken yet.
            slack += replica.booked_bytes - replica.measured_bytes
    foreign = 0
    if available_bytes is not None:
        # What is booked and cannot be measured, a load under way for one, counts as taken.
        counted_on = device.budget_bytes - device.booked_bytes + slack
        foreign = max(counted_on - available_bytes, 0)
    return Reading(
        device=device.id,
        budget_bytes=device.budget_bytes,
        booked_bytes=device.booked_bytes,
        measured_bytes=measured,
        expected_bytes=expected,
        available_bytes=available_bytes,
        foreign_bytes=foreign,
        as_of_ns=now_ns,
        is_moving=moving,
    )


def read_ledgers(
    snapshot: Snapshot,
    devices: Mapping[str, str],
    needed: Mapping[str, int],
    available: Mapping[str, int | None],
    now_ns: int,
    *,
    dead: str = "",
) -> tuple[Reading, ...]:
    """Hold every ledger against its device.

    Args:
        snapshot: The scheduler's.
        devices: Device of each model, where its replicas do not name theirs.
        needed: Bytes expected of each model.
        available: What the devices have left, bytes.
        now_ns: The time.
        dead: Model whose load has just died, though its bytes are still booked.
    """
    by_device: dict[str, list[tuple[ReplicaSnapshot, int]]] = {}
    dead_bytes: dict[str, int] = {}
    for model in snapshot.models:
        for replica in model.replicas:
            device = replica.device or devices[model.id]
            by_device.setdefault(device, []).append((replica, needed[model.id]))
            if model.id == dead and replica.state is ReplicaState.LOADING:
                dead_bytes[device] = dead_bytes.get(device, 0) + replica.booked_bytes
    return tuple(
        read_device(
            ledger,
            by_device.get(ledger.id, ()),
            available.get(ledger.id),
            now_ns,
            dead_bytes=dead_bytes.get(ledger.id, 0),
        )
        for ledger in snapshot.devices
    )


def alarms_of(reading: Reading) -> list[tuple[AlarmKind, int, str]]:
    """What is wrong with a reading: kind, bytes, and words."""
    found = []
    budget = format_bytes(reading.budget_bytes)
    if reading.foreign_bytes > reading.noise_bytes:
        text = (
            f"device {reading.device}: other processes hold "
            f"{format_bytes(reading.foreign_bytes)} that its budget of {budget} counts on; end "
            "them or lower the budget"
        )
        found.append((AlarmKind.FOREIGN, reading.foreign_bytes, text))
    if reading.drift_bytes > reading.noise_bytes:
        text = (
            f"device {reading.device}: its replicas take {format_bytes(reading.measured_bytes)}, "
            f"{format_bytes(reading.drift_bytes)} more than was expected of their models; run "
            "'slalom models profile' or write memory: for them"
        )
        found.append((AlarmKind.DRIFT, reading.drift_bytes, text))
    excess = reading.booked_bytes - reading.budget_bytes
    if excess > 0:
        text = (
            f"device {reading.device}: {format_bytes(excess)} more than its budget of {budget} is "
            "booked; replicas will have to go"
        )
        found.append((AlarmKind.OVERRUN, excess, text))
    return found


def shortage(spec: ModelSpec, reading: Reading, holders: Iterable[tuple[str, int]]) -> str:
    """What a model needs, what is free for it, and who holds the rest; for people.

    Args:
        spec: The model.
        reading: Of its device.
        holders: Other replicas on it, with the bytes that are booked for them.
    """
    held = sorted((count, name) for name, count in holders if count)
    free = reading.budget_bytes - sum(count for count, _ in held) - reading.foreign_bytes
    budget = format_bytes(reading.budget_bytes)
    says = [
        f"{spec.id} needs {format_bytes(spec.bytes_needed)} on device {reading.device}",
        f"{format_bytes(max(free, 0))} of its budget of {budget} are free",
    ]
    if reading.available_bytes is not None:
        says.append(f"the device has {format_bytes(max(reading.available_bytes, 0))} left")
    named = [f"{name} {format_bytes(count)}" for count, name in held[::-1][:_HOLDERS_MAX]]
    if len(held) > _HOLDERS_MAX:
        rest = sum(count for count, _ in held[:-_HOLDERS_MAX])
        named.append(f"{len(held) - _HOLDERS_MAX} others {format_bytes(rest)}")
    if reading.foreign_bytes:
        named.append(f"other processes {format_bytes(reading.foreign_bytes)}")
    if named:
        says.append(f"held by {', '.join(named)}")
    return "; ".join(says)
