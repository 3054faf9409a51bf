"""Copies the state into a `Snapshot`: the only way the outside sees it.

Owns the view of a model in the state of its best replica. Called through `Scheduler.snapshot`.
"""

from slalom.core.device import Device
from slalom.core.entities import Replica
from slalom.core.planning import Learned, Learner
from slalom.core.snapshot import (
    DeviceSnapshot,
    ModelSnapshot,
    ModelState,
    ReplicaSnapshot,
    ReplicaState,
    Snapshot,
)
from slalom.core.state import Model, State

#: A model is shown in the state of its best replica; best first.
_BEST_FIRST = (
    ReplicaState.READY,
    ReplicaState.WAKING,
    ReplicaState.LOADING,
    ReplicaState.DRAINING,
    ReplicaState.SLEEPING,
    ReplicaState.ASLEEP,
    ReplicaState.UNLOADING,
)


def take_snapshot(state: State) -> Snapshot:
    """A copy of everything there is to see."""
    oldest = next(iter(state.waiting.values()), None)
    return Snapshot(
        now_ns=state.now_ns,
        draining=state.drain_deadline_ns >= 0,
        waiting=len(state.waiting),
        running=len(state.attempts),
        oldest_wait_ns=state.now_ns - oldest.waits_since_ns if oldest else 0,
        models=tuple(model_snapshot(state, model) for model in state.models.values()),
        devices=tuple(_device(device) for device in state.devices.values()),
        counters=tuple(sorted(state.counters.items())),
        learned=learned(state),
    )


def learned(state: State) -> tuple[Learned, ...]:
    """What the planner has learned of the engines; nothing where none learns."""
    planner: object = state.planner
    return tuple(planner.learned()) if isinstance(planner, Learner) else ()


def model_snapshot(state: State, model: Model) -> ModelSnapshot:
    """One model, with its replicas by name."""
    replicas = sorted(model.replicas.values(), key=lambda replica: replica.id)
    loading = [r.load_fraction for r in replicas if r.state is ReplicaState.LOADING]
    return ModelSnapshot(
        id=model.spec.id,
        state=model_state(state, model),
        waiting=model.waiting_count,
        running=model.running_count(),
        load_fraction=max(loading, default=0.0),
        ready_in_ns=ready_in_ns(state, model),
        backoff_until_ns=model.backoff_until_ns,
        last_failure=model.last_failure,
        replicas=tuple(_replica(replica) for replica in replicas),
    )


#: Progress below this says too little to be extrapolated.
_FRACTION_MIN = 0.1


def ready_in_ns(state: State, model: Model) -> int:
    """Expected time until the model's loading or waking replica is ready, ns; -1 if unknown.

    The duration of the last load or wake, less what has passed; before there was one, the
    progress of a load so far goes on at its pace.
    """
    if model.in_state(ReplicaState.READY):
        return -1
    expected: list[int] = []
    for replica in model.replicas.values():
        passed_ns = state.now_ns - replica.since_ns
        if replica.state is ReplicaState.WAKING and replica.wake_ns > 0:
            expected.append(max(replica.wake_ns - passed_ns, 0))
        if replica.state is not ReplicaState.LOADING:
            continue
        if model.last_load_ns >= 0:
            expected.append(max(model.last_load_ns - passed_ns, 0))
        elif replica.load_fraction >= _FRACTION_MIN:
            whole_ns = round(passed_ns / replica.load_fraction)
            expected.append(max(whole_ns - passed_ns, 0))
    return min(expected, default=-1)


def model_state(state: State, model: Model) -> ModelState:
    """The state users see."""
    for best in _BEST_FIRST:
        if model.in_state(best):
            return ModelState(best.value)
    return ModelState.FAILED if state.now_ns < model.backoff_until_ns else ModelState.COLD


def _replica(replica: Replica) -> ReplicaSnapshot:
    return ReplicaSnapshot(
        id=replica.id,
        epoch=replica.epoch,
        state=replica.state,
        running=replica.running_count,
        booked_bytes=replica.booked_bytes,
        measured_bytes=replica.measured_bytes,
        measured_ns=replica.measured_ns,
        load_fraction=replica.load_fraction,
        since_ns=replica.since_ns,
        host_bytes=replica.host_bytes,
        device=replica.device.spec.id,
    )


def _device(device: Device) -> DeviceSnapshot:
    return DeviceSnapshot(
        id=device.spec.id,
        budget_bytes=device.spec.budget_bytes,
        booked_bytes=device.booked_bytes,
        measured_bytes=sum(replica.measured_bytes for replica in device.replicas.values()),
        running=device.running,
        foreign_bytes=device.foreign_bytes,
    )
