"""What a journal says was loaded, running and waiting at each moment, without a scheduler.

Owns a small picture rebuilt from entries alone, so that it works from the middle of a journal
whose beginning has been deleted. Used by `explain`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.core.actions import (
    Dispatch,
    EndRequest,
    LoadReplica,
    ModelChosen,
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    ConfigChanged,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
)
from slalom.core.journal import Entry
from slalom.core.request import ModelSpec
from slalom.core.snapshot import ReplicaState

_BEST_FIRST = (
    ReplicaState.READY,
    ReplicaState.WAKING,
    ReplicaState.LOADING,
    ReplicaState.SLEEPING,
    ReplicaState.ASLEEP,
    ReplicaState.UNLOADING,
)


@dataclass(slots=True)
class SeenReplica:
    """One life of a replica as far as the journal tells."""

    id: str
    model: str
    epoch: int
    state: ReplicaState
    running: set[tuple[str, int]] = field(default_factory=set)


class Occupancy:
    """Follows entries; ask it between them.

    Args:
        models: The journal's models by id, for their places; those of reloads are added.
    """

    def __init__(self, models: Mapping[str, ModelSpec]) -> None:
        self._models = dict(models)
        self._replicas: dict[str, SeenReplica] = {}
        self._waiting: dict[str, str] = {}

    def events(self, entry: Entry) -> None:
        """Apply what happened."""
        for event in entry.events:
            match event:
                case RequestArrived(request):
                    self._waiting[request.id] = request.model
                case AttemptFinished(request_id, attempt) | AttemptFailed(request_id, attempt):
                    self._vacate(request_id, attempt)
                case ConfigChanged(added, replaced, adjusted):
                    for spec in (*added, *replaced, *adjusted):
                        self._models[spec.id] = spec
                case ReplicaReady(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.READY)
                case ReplicaAsleep(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.ASLEEP)
                case ReplicaFailed(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.UNLOADING)
                case ReplicaGone(replica_id, epoch):
                    found = self._replicas.get(replica_id)
                    if found is not None and found.epoch == epoch:
                        del self._replicas[replica_id]
                case _:
                    pass

    def actions(self, entry: Entry) -> None:
        """Apply what was decided."""
        for action in entry.actions:
            match action:
                case Dispatch(request_id, attempt, replica_id, epoch):
                    self._occupy(request_id, attempt, replica_id, epoch)
                case ModelChosen(request_id, model):
                    self._waiting[request_id] = model
                case EndRequest(request_id=request_id):
                    self._waiting.pop(request_id, None)
                case LoadReplica(replica_id, epoch, model):
                    self._replicas[replica_id] = SeenReplica(
                        replica_id, model, epoch, ReplicaState.LOADING
                    )
                case SleepReplica(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.SLEEPING)
                case WakeReplica(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.WAKING)
                case UnloadReplica(replica_id, epoch):
                    self._set(replica_id, epoch, ReplicaState.UNLOADING)
                case _:
                    pass

    def ready(self, model: str) -> list[SeenReplica]:
        """The model's replicas that can take requests."""
        return [r for r in self._of(model) if r.state is ReplicaState.READY]

    def state(self, model: str) -> ReplicaState | None:
        """State of the model's best replica; None where it has none."""
        states = {replica.state for replica in self._of(model)}
        for state in _BEST_FIRST:
            if state in states:
                return state
        return None

    def taken(self, model: str) -> tuple[int, int]:
        """(places taken, places in all) on the model's ready replicas."""
        ready = self.ready(model)
        spec = self._models.get(model)
        return sum(len(r.running) for r in ready), (spec.places if spec else 0) * len(ready)

    def waiting(self, model: str) -> int:
        """Requests that wait for the model."""
        return sum(wanted == model for wanted in self._waiting.values())

    def model_of(self, replica_id: str) -> str:
        """The model of a replica; its name up to the number if the journal never told."""
        found = self._replicas.get(replica_id)
        return found.model if found else replica_id.rpartition("#")[0]

    def homes(self, model: str) -> set[str]:
        """Devices that may hold the model; none if the journal never told."""
        spec = self._models.get(model)
        return set(spec.homes) if spec else set()

    def _of(self, model: str) -> list[SeenReplica]:
        return [replica for replica in self._replicas.values() if replica.model == model]

    def _set(self, replica_id: str, epoch: int, state: ReplicaState) -> None:
        found = self._replicas.get(replica_id)
        if found is None or found.epoch != epoch:
            model = replica_id.rpartition("#")[0]
            found = self._replicas[replica_id] = SeenReplica(replica_id, model, epoch, state)
        found.state = state

    def _occupy(self, request_id: str, attempt: int, replica_id: str, epoch: int) -> None:
        model = self._waiting.pop(request_id, None)
        found = self._replicas.get(replica_id)
        if found is None or found.epoch != epoch:
            name = model or replica_id.rpartition("#")[0]
            found = SeenReplica(replica_id, name, epoch, ReplicaState.READY)
            self._replicas[replica_id] = found
        found.running.add((request_id, attempt))

    def _vacate(self, request_id: str, attempt: int) -> None:
        for replica in self._replicas.values():
            replica.running.discard((request_id, attempt))
