"""Moves attempts and replicas between the books of the state, so that they always agree.

Owns the only functions that change places, states and the indices over them. Decides nothing.
Called by transitions and by the reconcile passes.
"""

from slalom.core.actions import UnloadCause
from slalom.core.device import UNKNOWN
from slalom.core.entities import Attempt, Replica
from slalom.core.snapshot import ReplicaState
from slalom.core.state import State


def occupy(state: State, attempt: Attempt) -> None:
    """Give an attempt its place."""
    replica = attempt.replica
    replica.model.unindex(replica)
    replica.running[attempt.fence] = attempt
    replica.model.running += 1
    replica.model.index(replica)
    replica.last_used_ns = state.now_ns
    if replica.ahead:
        replica.ahead = False
        state.counters["ahead_hits"] += 1
    device = replica.device
    device.running += 1
    device.idle.pop(replica.id, None)
    device.busy[replica.id] = replica
    device.busy.move_to_end(replica.id)
    state.attempts[attempt.fence] = attempt


def vacate(state: State, attempt: Attempt) -> None:
    """Take an attempt's place back; the replica may become idle."""
    replica = attempt.replica
    ready = replica.state is ReplicaState.READY
    if ready:
        replica.model.unindex(replica)
    del replica.running[attempt.fence]
    replica.model.running -= 1
    replica.last_used_ns = state.now_ns
    device = replica.device
    device.running -= 1
    if ready:
        replica.model.index(replica)
        device.busy.move_to_end(replica.id)
        if not replica.running:
            del device.busy[replica.id]
            device.idle[replica.id] = replica
    looks = state.forerunner is not None
    loading = device.in_state[ReplicaState.LOADING]
    if not replica.running and (device.wanting or loading or not ready or looks):
        state.dirty[device.spec.id] = device
    if len(replica.model.devices) > 1 and replica.model.in_state(ReplicaState.LOADING):
        for other in replica.model.replicas.values():
            if other.state is ReplicaState.LOADING:
                state.dirty[other.device.spec.id] = other.device
    del state.attempts[attempt.fence]


def enter(state: State, replica: Replica) -> None:
    """Put a replica that starts to load on its model's and its device's books."""
    replica.model.replicas[replica.id] = replica
    replica.model.counts[replica.state] += 1
    device = replica.device
    device.replicas[replica.id] = replica
    device.in_state[replica.state][replica.id] = replica
    device.due_ns = UNKNOWN
    replica.since_ns = state.now_ns
    state.timed[device.spec.id] = device


def forget(state: State, replica: Replica) -> None:
    """Take a replica that is gone off the books; its bytes are free."""
    device = replica.device
    leave_host(state, replica)
    device.book(replica, 0)
    del replica.model.replicas[replica.id]
    replica.model.counts[replica.state] -= 1
    del device.replicas[replica.id]
    del device.in_state[replica.state][replica.id]
    device.due_ns = UNKNOWN


def leave_host(state: State, replica: Replica) -> None:
    """Give back the host memory of a replica that sleeps no more, to whoever wants it."""
    host = replica.device.host
    if host is not None and replica.host_bytes:
        host.lodge(replica, 0)
        for device in (host, *host.tenants):
            state.dirty[device.spec.id] = device


def move(state: State, replica: Replica, into: ReplicaState) -> None:
    """Let a replica change its state, and no more than that."""
    device = replica.device
    del device.in_state[replica.state][replica.id]
    replica.model.counts[replica.state] -= 1
    replica.model.counts[into] += 1
    replica.state = into
    replica.since_ns = state.now_ns
    device.in_state[into][replica.id] = replica
    device.due_ns = UNKNOWN
    state.timed[device.spec.id] = device


def open_for_work(state: State, replica: Replica) -> None:
    """Make a replica ready: routable, idle or busy, and as good as just used."""
    move(state, replica, ReplicaState.READY)
    replica.last_used_ns = state.now_ns
    replica.leaves_as = UnloadCause.EVICTED
    replica.model.wishes.ask = None
    replica.model.index(replica)
    device = replica.device
    (device.busy if replica.running else device.idle)[replica.id] = replica


def close_for_work(state: State, replica: Replica, into: ReplicaState) -> None:
    """Take a replica out of routing: it drains, sleeps or unloads."""
    if replica.ahead:
        replica.ahead = False
        state.counters["ahead_misses"] += 1
    if replica.state is ReplicaState.READY:
        replica.model.unindex(replica)
        replica.device.idle.pop(replica.id, None)
        replica.device.busy.pop(replica.id, None)
    move(state, replica, into)
