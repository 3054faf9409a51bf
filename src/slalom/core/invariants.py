"""What must hold after every `handle`, checked from inside.

Owns `check`. Tests call it after each step; the swarm also uses an independent checker that
looks from outside (`slalom.testing`). Numbers are those of docs/explanation/invariants.md.
"""

from slalom.core.device import Device
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model, State
from slalom.errors import InvariantError

#: States in which attempts may hold places (one whose end was never told may linger), and those in
#: which host memory may be booked.
_MAY_RUN = (ReplicaState.READY, ReplicaState.DRAINING, ReplicaState.UNLOADING)
_MAY_LODGE = (
    ReplicaState.SLEEPING,
    ReplicaState.ASLEEP,
    ReplicaState.WAKING,
    ReplicaState.UNLOADING,
)


def check(state: State) -> None:
    """Check the state's own consistency.

    Raises:
        InvariantError: A rule does not hold; the message names it and the object.
    """
    _check_requests(state)
    for device in state.devices.values():
        _check_ledger(device)
        known = not device.is_timed() or device.spec.id in state.timed
        _require(known, "14 (what falls due is looked at)", device)
        known = not device.runnable or device.spec.id in state.offering
        _require(known, "8 (what may run is looked at)", device)
    for model in state.models.values():
        _check_index(model)
        _check_places(model)
        _check_work_conservation(state, model)


def _require(holds: bool, rule: str, what: object) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise InvariantError(f"invariant {rule}: {what!r}")


def _check_requests(state: State) -> None:
    queued = {
        record.request.id for model in state.models.values() for record in model.queue.entries()
    }
    for request_id, record in state.requests.items():
        waits, runs = record.in_queue, record.attempt is not None
        _require(waits != runs, "1 (a live request either waits or runs)", record)
        _require((request_id in queued) == waits, "1 (waits = stands in its queue)", record)
        _require((request_id in state.waiting) == waits, "1 (waits = stands in line)", record)
        if record.attempt is not None:
            fence = record.attempt.fence
            held = state.attempts.get(fence) is record.attempt
            _require(held, "1 (a running attempt holds a place)", record)
    known = sum(record.in_queue for record in state.requests.values())
    orphans = len(queued) - known or len(state.waiting) - known
    _require(not orphans, "1 (no queued request without a record)", state)
    for attempt in state.attempts.values():
        place = attempt.replica.running.get(attempt.fence)
        _require(place is attempt, "1 (an attempt stands on its replica)", attempt)


def _check_ledger(device: Device) -> None:
    booked = sum(replica.booked_bytes for replica in device.replicas.values())
    lodged = sum(guest.host_bytes for guest in device.guests.values())
    booked += lodged
    _require(booked == device.booked_bytes, "4 (the ledger adds up)", device)
    planned = sum(
        min(replica.booked_bytes, replica.spec.bytes_needed) for replica in device.replicas.values()
    )
    planned += lodged
    _require(planned <= device.spec.budget_bytes, "4 (bytes within the budget)", device)
    running = sum(len(replica.running) for replica in device.replicas.values())
    _require(running == device.running, "1 (attempts add up)", device)
    if device.spec.window:
        _require(device.running <= device.spec.window, "12 (device window)", device)
    for replica_state, members in device.in_state.items():
        for replica in members.values():
            _require(replica.state is replica_state, "4 (the index by state)", replica)
    for index in (device.idle, device.busy):
        used = [replica.last_used_ns for replica in index.values()]
        _require(used == sorted(used), "10 (least recently used first)", device)
    for replica in device.replicas.values():
        _require(replica.id in device.in_state[replica.state], "4 (the index by state)", replica)
        _require(len(replica.running) <= replica.spec.places, "12 (places)", replica)
        idle = replica.state is ReplicaState.READY and not replica.running
        _require(idle == (replica.id in device.idle), "10 (idle means idle)", replica)
        busy = replica.state is ReplicaState.READY and bool(replica.running)
        _require(busy == (replica.id in device.busy), "10 (busy means busy)", replica)
        if replica.state not in _MAY_RUN:
            _require(not replica.running, "10 (nothing runs while it loads or sleeps)", replica)
        if replica.state not in _MAY_LODGE:
            _require(not replica.host_bytes, "4 (who is awake takes no host memory)", replica)
        lodged_at = device.host.guests if device.host else {}
        _require(
            bool(replica.host_bytes) == (lodged_at.get(replica.id) is replica),
            "4 (host memory has one ledger)",
            replica,
        )


def _check_places(model: Model) -> None:
    """A replica is on a device of its model, and a need stands in line once."""
    for replica in model.replicas.values():
        here = replica.device in model.devices or replica.is_outdated
        _require(here, "4 (where its model may be)", replica)
        listed = replica.device.replicas.get(replica.id) is replica
        _require(listed, "4 (a replica has one ledger)", replica)
    for device in model.devices if len(model.devices) > 1 else ():
        astray = device is not model.device and model.spec.id in device.wanting
        _require(not astray, "14 (a need stands in one line)", (model, device))


def _check_index(model: Model) -> None:
    for state, count in model.counts.items():
        found = sum(one.state is state for one in model.replicas.values())
        _require(found == count, "8 (replicas by state)", model)
    running = sum(len(one.running) for one in model.replicas.values())
    _require(running == model.running, "8 (attempts add up)", model)
    ready = [r for r in model.replicas.values() if r.state is ReplicaState.READY]
    best = max((replica.free_places for replica in ready), default=0)
    shown = model.most_free()
    _require((shown.free_places if shown else 0) == best, "8 (the routing index)", model)


def _check_work_conservation(state: State, model: Model) -> None:
    held = model.spec.id in model.desk.held
    could_run = model.waiting_count > 0 and model.most_free() is not None
    idle_for_no_reason = could_run and model.desk.has_room() and not held
    _require(not idle_for_no_reason, "8 (work conservation)", model)
    asleep = all(one.state is ReplicaState.ASLEEP for one in model.replicas.values())
    if model.waiting_count and asleep and state.drain_deadline_ns < 0:
        _require(model.spec.id in model.device.wanting, "14 (an unmet need is known)", model)
