"""Engines that an earlier scheduler left running: whether each may go on under this one.

Owns the one case in which something is brought up because it is up already. It must have room as
if it were to be loaded, and nobody gives way to it. Called by `transitions`.
"""

from slalom.core.events import ReplicaFound
from slalom.core.raising import bring_up
from slalom.core.room import rivals
from slalom.core.step import Step


def on_replica_found(step: Step, event: ReplicaFound) -> None:
    """Bring it up where it is; what may not be is not answered."""
    state = step.state
    model = state.models.get(event.model)
    if model is None or state.drain_deadline_ns >= 0:
        return
    where = event.device or model.spec.device
    device = next((one for one in model.devices if one.spec.id == where), None)
    waits = model.spec.id in model.device.wanting
    if device is None or (waits and device is not model.device) or not model.may_grow():
        return
    model.device = device
    if device.free_bytes >= model.bytes_to_add and not rivals(model):
        state.counters["replicas_found"] += 1
        bring_up(step, model, ahead=True)
