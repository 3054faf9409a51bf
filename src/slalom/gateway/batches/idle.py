"""Room for lines of batches: the places that nobody else needs now.

Owns the rule by which a batch takes what clients leave idle and gives it back when they wait. A
function of the scheduler's snapshot, apart from the memory of when others were last seen.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.core.snapshot import ModelSnapshot, ReplicaState, Snapshot
from slalom.units import MS, SECOND

#: Others must have been there this long before lines give way to them: one that starts at the
#: next turn of the scheduler is not helped by it.
PATIENCE_NS = 30 * MS
#: A device whose client has just been answered is taken for used so long: people who type and
#: agents who work ask again.
RECENT_NS = SECOND
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
    #: Share of a model's places that lines may hold on a device that clients use; one at least,
    #: and none for 0.
    beside_share: float = 0.125
    _present_since_ns: dict[str, int] = field(default_factory=dict)
    _waiting_since_ns: dict[str, int] = field(default_factory=dict)
    _used_ns: dict[str, int] = field(default_factory=dict)

    def seen(self, model_id: str, now_ns: int) -> None:
        """A client's request for a model has ended."""
        if (place := self.models.get(model_id)) is not None:
            self._use(place.device, now_ns)

    def rooms(
        self, snapshot: Snapshot, ours: Mapping[str, int], clients: int, now_ns: int
    ) -> dict[str, int]:
        """How many lines may start, by model; below 0, how many are to give way.

        Args:
            snapshot: The scheduler's present state.
            ours: Lines under way, for every model of interest.
            clients: Requests of clients in the server, whatever their model. Without any, what the
                snapshot has beside the lines are lines that have just ended.
            now_ns: The time; a snapshot's own is that of the scheduler's last decision.
        """
        models = {model.id: model for model in snapshot.models}
        waiting, blocking = self._others(models, ours, clients, now_ns)
        left = self._left(snapshot, models, ours)
        rooms: dict[str, int] = {}
        for name, running in ours.items():
            model, place = models.get(name), self.models.get(name)
            if model is None or place is None:
                rooms[name] = 1 - running  # it will be told that it is not there
            elif waiting[place.device]:
                late = blocking[place.device]
                late += self._late(now_ns, model, running) if clients else 0
                rooms[name] = -min(running, max(late, self._surplus(place, running, now_ns)))
            elif surplus := self._surplus(place, running, now_ns):
                rooms[name] = -surplus
            else:
                room = self._room(snapshot, model, running, now_ns)
                rooms[name] = max(0, min(room, left.get(place.device, room)))
                if place.device in left:
                    left[place.device] -= rooms[name]
        return rooms

    def _use(self, device: str, now_ns: int) -> None:
        if not self._is_used(device, now_ns):
            self._present_since_ns[device] = now_ns
        self._used_ns[device] = now_ns

    def _is_used(self, device: str, now_ns: int) -> bool:
        used_ns = self._used_ns.get(device)
        return used_ns is not None and now_ns - used_ns < RECENT_NS

    def _others(
        self,
        models: Mapping[str, ModelSnapshot],
        ours: Mapping[str, int],
        clients: int,
        now_ns: int,
    ) -> "tuple[Counter[str], Counter[str]]":
        """By device: others that wait, and those among them whose model needs its memory."""
        waiting: Counter[str] = Counter()
        blocking: Counter[str] = Counter()
        for name, place in self.models.items():
            model = models.get(name)
            if model is None:
                continue
            if clients and model.running + model.waiting > ours.get(name, 0):
                self._use(place.device, now_ns)
            others = min(clients, _waiting_others(model, ours.get(name, 0)))
            if not others:
                self._waiting_since_ns.pop(name, None)
                continue
            since_ns = self._waiting_since_ns.setdefault(name, now_ns)
            waiting[place.device] += others
            absent = not any(replica.state is ReplicaState.READY for replica in model.replicas)
            if absent and now_ns - since_ns >= PATIENCE_NS:
                blocking[place.device] += others
        return waiting, blocking

    def _beside(self, place: ModelPlace) -> int:
        return max(1, int(self.beside_share * place.places)) if self.beside_share else 0

    def _surplus(self, place: ModelPlace, running: int, now_ns: int) -> int:
        """Lines beyond what may run beside clients, once these have come to stay."""
        if not self._is_used(place.device, now_ns):
            return 0
        if now_ns - self._present_since_ns[place.device] < PATIENCE_NS:
            return 0
        return max(0, running - self._beside(place))

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
        room = free - spare - model.waiting
        if self._is_used(place.device, now_ns):
            room = min(room, self._beside(place) - running)
        return room

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
