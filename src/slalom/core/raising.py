"""How a replica comes up: its bytes are booked, and it is woken or loaded.

Owns the only makers of `LoadReplica` and `WakeReplica`. Whether there is room, and for whom, is
decided by `residency` and `ahead`, which call this.
"""

from slalom.core.actions import LoadReplica, WakeReplica
from slalom.core.books import enter, move
from slalom.core.entities import Replica
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def bring_up(step: Step, model: Model, *, ahead: bool = False) -> None:
    """Wake what sleeps; load where nothing does."""
    sleeper = model.sleeper()
    if sleeper is None:
        _load(step, model, ahead=ahead)
    else:
        _wake(step, sleeper, ahead=ahead)


def _wake(step: Step, replica: Replica, *, ahead: bool) -> None:
    """Book the bytes again and wake a replica; what it has in host memory stays booked till then.

    A wake goes on even if nobody waits for it any more: engines cannot break it off.
    """
    move(step.state, replica, ReplicaState.WAKING)
    replica.device.book(replica, replica.model.bytes_needed)
    replica.turn += 1
    replica.ahead = ahead
    step.state.counters["wakes"] += 1
    step.actions.append(WakeReplica(replica.id, replica.epoch, replica.turn, ahead))


def _load(step: Step, model: Model, *, ahead: bool) -> None:
    """Book the bytes and bring up a replica under the first free name."""
    state, device = step.state, model.device
    where = device.spec.id if len(model.devices) > 1 else ""
    index = 0
    while f"{model.spec.id}#{index}" in model.replicas:
        index += 1
    state.epoch += 1
    replica = Replica(f"{model.spec.id}#{index}", state.epoch, model, state.now_ns)
    replica.ahead = ahead
    device.book(replica, model.bytes_needed)
    enter(state, replica)
    state.counters["loads"] += 1
    step.actions.append(LoadReplica(replica.id, replica.epoch, model.spec.id, where, ahead))
