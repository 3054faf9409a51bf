"""How replicas come up: woken or loaded, for a need, for a busy model, or up to a decided size.

Owns the booking of their bytes. Further replicas go into free memory only: nobody gives way to
them. Called by `residency`.
"""

from slalom.core.actions import LoadReplica, WakeReplica
from slalom.core.books import enter, move
from slalom.core.device import Device
from slalom.core.entities import Replica
from slalom.core.placing import settle
from slalom.core.room import rivals
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def grow(step: Step, device: Device) -> None:
    """Further replicas of busy models, and of those that are short of their size."""
    for model in step.state.short.values():
        waits = model.spec.id in model.device.wanting
        if device in model.devices and not waits and model.is_short():
            settle(model, grows=True)
            model.device.growing[model.spec.id] = model
    while device.growing:
        model = device.growing.pop(next(iter(device.growing)))
        if model.device is device and _may_grow(step, device, model):
            bring_up(step, model)
            if model.is_short():
                settle(model, grows=True)
                model.device.growing[model.spec.id] = model
                step.state.dirty[model.device.spec.id] = model.device


def _may_grow(step: Step, device: Device, model: Model) -> bool:
    short = model.is_short() and step.state.drain_deadline_ns < 0
    if model.in_state(ReplicaState.SLEEPING):  # it is woken once it sleeps
        return False
    if not short:
        coming = model.in_state(ReplicaState.LOADING, ReplicaState.WAKING)
        if coming or not model.waiting_count or model.most_free() is not None:
            return False
    if step.state.now_ns < model.backoff_until_ns or device.wanting or not model.may_grow():
        return False
    return device.free_bytes >= model.bytes_to_add and not rivals(model)


def bring_up(step: Step, model: Model) -> None:
    """Wake what sleeps; load where nothing does."""
    sleeper = model.sleeper()
    if sleeper is None:
        load(step, model)
    else:
        _wake(step, sleeper)


def _wake(step: Step, replica: Replica) -> None:
    """Book the bytes again and wake a replica; what it has in host memory stays booked till then.

    A wake goes on even if nobody waits for it any more: engines cannot break it off.
    """
    move(step.state, replica, ReplicaState.WAKING)
    replica.device.book(replica, replica.model.bytes_needed)
    replica.turn += 1
    step.state.counters["wakes"] += 1
    step.actions.append(WakeReplica(replica.id, replica.epoch, replica.turn))


def load(step: Step, model: Model) -> None:
    """Book the bytes and bring up a replica under the first free name."""
    state, device = step.state, model.device
    where = device.spec.id if len(model.devices) > 1 else ""
    index = 0
    while f"{model.spec.id}#{index}" in model.replicas:
        index += 1
    state.epoch += 1
    replica = Replica(f"{model.spec.id}#{index}", state.epoch, model, state.now_ns)
    device.book(replica, model.bytes_needed)
    enter(state, replica)
    state.counters["loads"] += 1
    step.actions.append(LoadReplica(replica.id, replica.epoch, model.spec.id, where))
