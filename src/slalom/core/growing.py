"""Further replicas: of a busy model, or up to a decided size.

Owns when they come up. They go into free memory only: nobody gives way to them. Called by
`residency`.
"""

from slalom.core.device import Device
from slalom.core.placing import settle
from slalom.core.raising import bring_up
from slalom.core.room import rivals
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def grow(step: Step, device: Device) -> None:
    """Further replicas of busy models, and of those that are short of their size."""
    for model in step.state.short.values():
        waits = model.spec.id in model.device.wanting
        may = model.device is device or _has_room(device, model)
        if may and not waits and model.is_short():
            before = model.device
            settle(model, grows=True)
            model.device.growing[model.spec.id] = model
            if model.device is not before:
                step.state.dirty[model.device.spec.id] = model.device
    while device.growing:
        model = device.growing.pop(next(iter(device.growing)))
        if model.device is device and _may_grow(step, device, model):
            bring_up(step, model)
            if model.is_short():
                settle(model, grows=True)
                model.device.growing[model.spec.id] = model
                step.state.dirty[model.device.spec.id] = model.device


def _has_room(device: Device, model: Model) -> bool:
    """Whether another replica of a model could be brought up here, as far as memory goes."""
    sleeps = model.in_state(ReplicaState.ASLEEP)
    return device.spec.id in model.homes and (sleeps or device.free_bytes >= model.bytes_needed)


def _may_grow(step: Step, device: Device, model: Model) -> bool:
    short = model.is_short() and step.state.drain_deadline_ns < 0
    if model.in_state(ReplicaState.SLEEPING, ReplicaState.DRAINING):
        return False  # it is woken once it sleeps, and may be taken back while it drains
    if not short:
        coming = model.in_state(ReplicaState.LOADING, ReplicaState.WAKING)
        if coming or not model.waiting_count or model.most_free() is not None:
            return False
    if step.state.now_ns < model.backoff_until_ns or device.wanting or not model.may_grow():
        return False
    return device.free_bytes >= model.bytes_to_add and not rivals(model)
