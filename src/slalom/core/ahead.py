"""Reconcile pass: models come up before anybody asks for them, where nobody waits for memory.

Owns when that may be, and which models are looked at: those that were asked for last, or that
chains announce. Whether it pays, and who gives way to it, is the keeper's. Called by `residency`
once the needs of a device are served.
"""

from itertools import islice

from slalom.core.device import Device
from slalom.core.giving_way import candidates_on, evict, record_decision
from slalom.core.keeping import Absent, LooksAhead, Need, Selection
from slalom.core.leaving import may_sleep
from slalom.core.raising import bring_up
from slalom.core.request import Swap
from slalom.core.room import rivals, room_for
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step
from slalom.units import MS

#: A device is looked at no more often than this.
_PAUSE_NS = 500 * MS
#: Idle replicas that may give way, least recently used first.
_IDLE_MAX = 64
#: Nothing else is begun while a replica is in one of these states.
_MOVING = (
    ReplicaState.LOADING,
    ReplicaState.WAKING,
    ReplicaState.SLEEPING,
    ReplicaState.DRAINING,
    ReplicaState.UNLOADING,
)


def look_ahead(step: Step, device: Device, forerunner: LooksAhead) -> None:
    """Bring up one model ahead of its requests, or make room for it, if that pays."""
    state = step.state
    if not _is_quiet(step, device):
        return
    wanted, device.room_made_for = device.room_made_for, ""
    absent = {one.spec.id: one for one in reversed(device.recent.values()) if _may_come(step, one)}
    absent = {name: one for name, one in absent.items() if one.device is device}
    if wanted in absent and device.free_bytes >= absent[wanted].bytes_to_add:
        _bring(step, absent[wanted])
        return
    if not absent:
        return
    if state.now_ns < device.ahead_ns:
        _look_again(step, device, device.ahead_ns)
        return
    device.ahead_ns = state.now_ns + _PAUSE_NS
    idle = list(islice(candidates_on(step, device, urgent=False, overdue=False), _IDLE_MAX))
    for replica in idle:
        replica.sleeps = may_sleep(step, replica)
    found = forerunner.ahead(
        [_absent(one) for one in absent.values()], idle, device.free_bytes, state.now_ns
    )
    model = absent.get(found.model_id)
    if found.look_ns > state.now_ns:
        _look_again(step, device, found.look_ns)
    if model is None:
        return
    victims = [one for one in idle if one.id in {victim.id for victim in found.victims}]
    shortfall = model.bytes_to_add - device.free_bytes
    if shortfall <= 0:
        _bring(step, model)
    elif sum(one.freed_bytes for one in victims) >= shortfall and model.spec.swap is Swap.NORMAL:
        need = Need(model.spec, shortfall, state.now_ns)
        selection = Selection(victims, found.scores)
        record_decision(step, device, need, victims, selection, gain=found.gain)
        device.room_made_for = model.spec.id
        for replica in victims:
            evict(step, replica)


def _is_quiet(step: Step, device: Device) -> bool:
    """Whether nobody waits for memory here, and none of it is on its way."""
    waits = device.wanting or (device.host is not None and device.host.wanting)
    moving = any(device.in_state[state] for state in _MOVING)
    return not (waits or moving or device.free_bytes < 0 or step.state.drain_deadline_ns >= 0)


def _may_come(step: Step, model: Model) -> bool:
    """Whether a model is absent, and neither resting after a failure nor kept away by others."""
    resting = step.state.now_ns < model.backoff_until_ns
    gone = all(one.state is ReplicaState.ASLEEP for one in model.replicas.values())
    fits = room_for(model) >= model.bytes_needed > 0
    stays = model.retires_ns < 0
    return gone and fits and stays and not resting and not rivals(model)


def _absent(model: Model) -> Absent:
    sleeper = model.sleeper()
    takes_ns = model.load_ns if sleeper is None else sleeper.wake_ns
    return Absent(model.spec, model.bytes_to_add, takes_ns, model.announced)


def _bring(step: Step, model: Model) -> None:
    step.state.counters["ahead"] += 1
    bring_up(step, model, ahead=True)


def _look_again(step: Step, device: Device, at_ns: int) -> None:
    if device.look_ns < 0 or at_ns < device.look_ns:
        device.look_ns = at_ns
    step.state.timed[device.spec.id] = device
