"""Room for lines of batches: the places that nobody else needs now.

Owns the rule by which a batch takes what clients leave idle and gives it back when they wait. A
function of the scheduler's snapshot, apart from the memory of when others were last seen.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.core.snapshot import ModelSnapshot, ReplicaState, Snapshot
from slalom.units import MS, SECOND

#: Others must have waited this long before lines give way to them: one that starts at the next
#: turn of the scheduler is not helped by it.
PATIENCE_NS = 30 * MS
#: A model that is not resident is loaded for a batch when its device was left alone so long, or
#: has the memory to spare.
QUIET_NS = 10 * SECOND


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model is served."""

    device: str
    #: Attempts that one replica runs at a time.
    places: int
    bytes_needed: int = 0


@dataclass(slots=True)
class IdlePlaces:
    """Looks for room."""

    models: Mapping[str, ModelPlace]
    #: Attempts in flight that a device runs at a time, where that is bounded.
    windows: Mapping[str, int]
    #: Places of a model that lines leave free, for the next client.
    spare: int = 1
    _waiting_since_ns: dict[str, int] = field(default_factory=dict)
    _used_ns: dict[str, int] = field(default_factory=dict)

    def rooms(self, snapshot: Snapshot, ours: Mapping[str, int], now_ns: int) -> dict[str, int]:
        """How many lines may start, by model; below 0, how many are to give way.

        Args:
            snapshot: The scheduler's present state.
            ours: Lines under way, for every model of interest.
            now_ns: The time; a snapshot's own is that of the scheduler's last decision.
        """
        models = {model.id: model for model in snapshot.models}
        waiting, blocking = self._others(models, ours, now_ns)
        left = self._left(snapshot, models, ours)
        rooms: dict[str, int] = {}
        for name, running in ours.items():
            model, place = models.get(name), self.models.get(name)
            if model is None or place is None:
                rooms[name] = 1 - running  # it will be told that it is not there
            elif waiting[place.device]:
                late = blocking[place.device] + self._late(now_ns, model, running)
                rooms[name] = -min(running, late)
            else:
                room = self._room(snapshot, model, running, now_ns)
                rooms[name] = max(0, min(room, left.get(place.device, room)))
                if place.device in left:
                    left[place.device] -= rooms[name]
        return rooms

    def _others(
        self, models: Mapping[str, ModelSnapshot], ours: Mapping[str, int], now_ns: int
    ) -> "tuple[Counter[str], Counter[str]]":
        """By device: others that wait, and those among them whose model needs its memory."""
        waiting: Counter[str] = Counter()
        blocking: Counter[str] = Counter()
        for name, place in self.models.items():
            model = models.get(name)
            if model is None:
                continue
            others = _waiting_others(model, ours.get(name, 0))
            if model.running + model.waiting > ours.get(name, 0):
                self._used_ns[place.device] = now_ns
            if not others:
                self._waiting_since_ns.pop(name, None)
                continue
            since_ns = self._waiting_since_ns.setdefault(name, now_ns)
            waiting[place.device] += others
            absent = not any(replica.state is ReplicaState.READY for replica in model.replicas)
            if absent and now_ns - since_ns >= PATIENCE_NS:
                blocking[place.device] += others
        return waiting, blocking

    def _late(self, now_ns: int, model: ModelSnapshot, running: int) -> int:
        """Others who have waited for a place of this model for long enough."""
        since_ns = self._waiting_since_ns.get(model.id, now_ns)
        return _waiting_others(model, running) if now_ns - since_ns >= PATIENCE_NS else 0

    def _left(
        self,
        snapshot: Snapshot,
        models: Mapping[str, ModelSnapshot],
        ours: Mapping[str, int],
    ) -> dict[str, int]:
        """What is left of the devices' windows."""
        left = {}
        for device in snapshot.devices:
            if window := self.windows.get(device.id, 0):
                left[device.id] = window - min(self.spare, window - 1) - device.running
        for name, count in ours.items():
            place, model = self.models.get(name), models.get(name)
            if place is not None and model is not None and place.device in left:
                left[place.device] -= max(0, count - model.running)
        return left

    def _room(self, snapshot: Snapshot, model: ModelSnapshot, running: int, now_ns: int) -> int:
        place = self.models[model.id]
        ready = [replica for replica in model.replicas if replica.state is ReplicaState.READY]
        if not ready:
            # One line asks for the model; the others come when it is there.
            return 1 - running if self._may_load(snapshot, place, now_ns) else 0
        free = sum(max(0, place.places - replica.running) for replica in ready)
        spare = min(self.spare, place.places * len(ready) - 1)
        return free - spare - model.waiting

    def _may_load(self, snapshot: Snapshot, place: ModelPlace, now_ns: int) -> bool:
        """Whether loading a model costs nobody theirs."""
        used_ns = self._used_ns.get(place.device)
        if used_ns is None or now_ns - used_ns >= QUIET_NS:
            return True
        return any(
            device.id == place.device
            and device.budget_bytes - device.booked_bytes >= place.bytes_needed
            for device in snapshot.devices
        )


def _waiting_others(model: ModelSnapshot, ours: int) -> int:
    """Requests that wait and are not lines; ours count as running first."""
    return max(0, model.waiting - max(0, ours - model.running))
