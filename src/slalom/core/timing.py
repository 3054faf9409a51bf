"""Reconcile pass: what the passage of time brings, and the one timer that wakes us for it.

Owns every time-out of the core. Each list it looks at is kept in the order in which its members
fall due, so that a pass costs the members that are due, not the members.
"""

from collections.abc import Iterator

from slalom.core.actions import DrainComplete, Outcome, Reason, SetTimer, UnloadCause, UnloadReplica
from slalom.core.chaining import close_due_chains
from slalom.core.device import NEVER, UNKNOWN, Device
from slalom.core.ending import abort, end
from slalom.core.entities import Replica, RequestRecord
from slalom.core.events import FailureKind
from slalom.core.lapsing import end_lapsed
from slalom.core.params import SchedulerParams
from slalom.core.planned import ask_due_planners
from slalom.core.resizing import resize_due
from slalom.core.snapshot import ReplicaState
from slalom.core.step import Step
from slalom.core.transitions import fail_attempt, fail_replica


def fire_due(step: Step) -> None:
    """Apply every time-out that is due now."""
    ask_due_planners(step)
    resize_due(step)
    _expire_waiting(step)
    end_lapsed(step)
    close_due_chains(step)
    _fail_silent_attempts(step)
    now_ns = step.state.now_ns
    ripe = [device for device in step.state.timed.values() if device.is_ripe(now_ns)]
    for device in sorted(ripe, key=lambda device: device.rank):
        _check_replicas(step, device)
        device.due_ns = UNKNOWN
        if 0 <= device.look_ns <= step.state.now_ns:
            device.look_ns = -1
            step.state.dirty[device.spec.id] = device
        if not device.is_timed():
            del step.state.timed[device.spec.id]
    _enforce_drain_deadline(step)


def _expire_waiting(step: Step) -> None:
    limit_ns = step.state.now_ns - step.params.queue_timeout_ns
    while step.state.waiting:
        record = next(iter(step.state.waiting.values()))
        if record.waits_since_ns > limit_ns:
            return
        end(
            step.state,
            record,
            _unserved(record),
            step.actions,
            reason=Reason.QUEUE_TIMEOUT,
            retry_after_ns=step.params.swap_patience_ns,
        )


def _fail_silent_attempts(step: Step) -> None:
    """The last resort: live, the runtime's watchdog is far quicker."""
    limit_ns = step.state.now_ns - step.params.attempt_silence_ns
    while step.state.attempts:
        attempt = next(iter(step.state.attempts.values()))
        if attempt.heard_ns > limit_ns:
            return
        delivered = attempt.first_ns >= 0
        fail_attempt(step, attempt, FailureKind.STALLED, delivered=delivered)


def _coming(params: SchedulerParams) -> tuple[tuple[ReplicaState, int, str], ...]:
    """States that an engine ends by a word: how long they may take, and what is said if not."""
    return (
        (ReplicaState.LOADING, params.load_timeout_ns, "it was not ready in time"),
        (ReplicaState.WAKING, params.load_timeout_ns, "it was not awake in time"),
        (ReplicaState.SLEEPING, params.sleep_timeout_ns, "it was not asleep in time"),
    )


def _stalled_ns(replica: Replica, params: SchedulerParams) -> int:
    """When a load is given up that does not get on; -1 for never.

    One that has told nothing yet, or that it is through, is bounded by its whole time alone.
    """
    if not params.load_stall_ns or replica.advanced_ns < 0 or replica.load_fraction >= 1.0:
        return -1
    return replica.advanced_ns + params.load_stall_ns


def _drained_by_ns(replica: Replica, params: SchedulerParams) -> int:
    """When a drain's patience is over, ns."""
    if replica.leaves_by_ns >= 0:
        return replica.leaves_by_ns
    return replica.since_ns + params.swap_drain_timeout_ns


def _check_replicas(step: Step, device: Device) -> None:
    """Loads, wakes, sleeps, drains and unloads that take too long."""
    now_ns, params = step.state.now_ns, step.params
    for into, timeout_ns, late in _coming(params):
        for replica in list(device.in_state[into].values()):
            if replica.since_ns + timeout_ns > now_ns:
                break
            fail_replica(step, replica, FailureKind.LOAD_TIMEOUT, late)
    for replica in list(device.in_state[ReplicaState.LOADING].values()):
        if 0 <= _stalled_ns(replica, params) <= now_ns:
            told = f"it stood still at {replica.load_fraction:.0%}"
            fail_replica(step, replica, FailureKind.LOAD_STALLED, told)
    for replica in device.in_state[ReplicaState.DRAINING].values():
        if _drained_by_ns(replica, params) > now_ns:
            continue
        if not replica.running:  # it waits for host memory to sleep in
            step.state.dirty[device.spec.id] = device
        for attempt in replica.running.values():
            step.state.counters["drain_aborts"] += not attempt.aborting
            abort(attempt, step.actions)
    for replica in list(device.in_state[ReplicaState.UNLOADING].values()):
        if replica.unload_asked_ns + params.unload_timeout_ns > now_ns:
            break
        replica.unload_asked_ns = now_ns
        device.in_state[ReplicaState.UNLOADING].move_to_end(replica.id)
        step.state.counters["unloads_asked_again"] += 1
        step.actions.append(UnloadReplica(replica.id, replica.epoch, UnloadCause.FAILED))


def _enforce_drain_deadline(step: Step) -> None:
    state = step.state
    if not 0 <= state.drain_deadline_ns <= state.now_ns:
        return
    for record in list(state.requests.values()):
        state.counters["drain_unfinished"] += 1
        end(state, record, _unserved(record), step.actions, reason=Reason.DRAINING)


def _unserved(record: RequestRecord) -> Outcome:
    """How a request ends whose time is up: refused, unless it runs or its client got a part."""
    begun = record.first_token_ns >= 0 or not record.in_queue
    return Outcome.FAILED if begun else Outcome.REJECTED


def complete_drain(step: Step) -> None:
    """Say once that a requested drain is over."""
    state = step.state
    if state.drain_deadline_ns < 0 or state.drain_reported or state.requests:
        return
    if any(device.replicas for device in state.devices.values()):
        return
    state.drain_reported = True
    step.actions.append(DrainComplete(unfinished=state.counters["drain_unfinished"]))


def arm(step: Step) -> None:
    """Set the timer if none is set, or if something falls due before the one that is."""
    state = step.state
    due_ns = _due_ns(step)
    if due_ns < NEVER and (state.timer_ns < 0 or due_ns < state.timer_ns):
        state.timer_ns = due_ns
        step.actions.append(SetTimer(due_ns))


def _due_ns(step: Step) -> int:
    """When the first of anything falls due that `fire_due` sees to; asked in each call."""
    state, params, due_ns = step.state, step.params, NEVER
    if state.waiting:
        due_ns = next(iter(state.waiting.values())).waits_since_ns + params.queue_timeout_ns
    if state.attempts:
        heard_ns = next(iter(state.attempts.values())).heard_ns
        due_ns = min(due_ns, heard_ns + params.attempt_silence_ns)
    if state.looks:
        due_ns = min(due_ns, state.looks[0][0])
    if state.lapses:
        due_ns = min(due_ns, state.lapses[0][0])
    if state.resize_ns > state.now_ns:
        due_ns = min(due_ns, state.resize_ns)
    if state.drain_deadline_ns > state.now_ns:
        due_ns = min(due_ns, state.drain_deadline_ns)
    if state.chains:
        due_ns = min(due_ns, state.chains.due_ns(params.chain_idle_ns))
    for model in state.retiring.values():
        if model.retires_ns > state.now_ns:
            due_ns = min(due_ns, model.retires_ns)
    return min(due_ns, _due_on_devices_ns(step)) if state.timed else due_ns


def _due_on_devices_ns(step: Step) -> int:
    """The same of all devices."""
    now_ns, due_ns = step.state.now_ns, NEVER
    for device in step.state.timed.values():
        if device.due_ns == UNKNOWN:
            note_due(device, now_ns, step.params)
        due_ns = min(due_ns, device.due_ns)
        if device.look_ns > now_ns:
            due_ns = min(due_ns, device.look_ns)
    return due_ns


def note_due(device: Device, now_ns: int, params: SchedulerParams) -> None:
    """Find out when a replica of a device is to be looked at next: until one changes its state."""
    device.due_ns = min(_due_on(device, now_ns, params), default=NEVER)
    drains = next(iter(device.in_state[ReplicaState.DRAINING].values()), None)
    overdue_ns = now_ns - params.swap_drain_timeout_ns
    device.is_overdue = drains is not None and drains.since_ns <= overdue_ns


def _due_on(device: Device, now_ns: int, params: SchedulerParams) -> Iterator[int]:
    """The due times of one device's replicas."""
    for into, timeout_ns, _ in _coming(params):
        for replica in device.in_state[into].values():
            yield replica.since_ns + timeout_ns
            break
    for replica in device.in_state[ReplicaState.LOADING].values():
        if (due_ns := _stalled_ns(replica, params)) >= 0:
            yield due_ns
    for replica in device.in_state[ReplicaState.UNLOADING].values():
        yield replica.unload_asked_ns + params.unload_timeout_ns
        break
    for replica in device.in_state[ReplicaState.DRAINING].values():
        if (due_ns := _drained_by_ns(replica, params)) > now_ns:
            yield due_ns
