"""What each event does to the state: one function per event, joined in one table.

Owns the application of events, with their fences. Takes no decisions about waiting requests:
those are the reconcile's (see `dispatching`, `residency`, `timing`). A stale fence changes
nothing and is counted.
"""

from collections.abc import Callable
from typing import Any

from slalom.core.actions import Outcome, UnloadCause
from slalom.core.arriving import hand_over, on_request_arrived
from slalom.core.asking import on_model_asked
from slalom.core.books import close_for_work, forget, leave_host, open_for_work, vacate
from slalom.core.chaining import CHAIN_TRANSITIONS
from slalom.core.device import UNKNOWN, Device
from slalom.core.doubting import move_on, on_answer_judged
from slalom.core.ending import end, enqueue, tell, touch, want_replica
from slalom.core.entities import Attempt, Replica, RequestRecord
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    AttemptFinished,
    ConfigChanged,
    DeviceSampled,
    DrainRequested,
    FailureKind,
    FirstToken,
    LoadProgress,
    MemorySampled,
    ModelAsked,
    Progress,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaFound,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.finding import on_replica_found
from slalom.core.lapsing import note_use, on_replica_asleep, watch
from slalom.core.leaving import backoff, fail_sleep, on_device_sampled, unload
from slalom.core.planning import Moment
from slalom.core.reloading import on_config_changed
from slalom.core.room import refuse_ask
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model, State
from slalom.core.step import Step

#: States that end in a replica's being ready, or in a failed load.
_COMING_UP = (ReplicaState.LOADING, ReplicaState.WAKING)
#: States in which a measurement tells what a replica takes that has slept before.
_AWAKE = (ReplicaState.READY, ReplicaState.DRAINING)


def on_request_cancelled(step: Step, event: RequestCancelled) -> None:
    """The client is gone: free the place in line, abort what runs."""
    record = step.state.requests.get(event.request_id)
    if record is None:
        step.state.counters["stale_events"] += 1
        return
    end(step.state, record, Outcome.CANCELLED, step.actions)


def _heard(step: Step, request_id: str, number: int) -> Attempt | None:
    """The attempt with this fence, marked as alive; None (counted) if the fence is stale."""
    state = step.state
    attempt = state.attempts.get((request_id, number))
    if attempt is None:
        state.counters["stale_events"] += 1
        return None
    attempt.heard_ns = state.now_ns
    state.attempts.move_to_end(attempt.fence)
    return attempt


def on_first_token(step: Step, event: FirstToken) -> None:
    """Stamp the first token."""
    attempt = _heard(step, event.request_id, event.attempt)
    record = step.state.requests.get(event.request_id)
    if attempt is None or record is None or record.attempt is not attempt:
        return
    if attempt.first_ns < 0:
        attempt.first_ns = step.state.now_ns
        attempt.output_tokens = max(attempt.output_tokens, 1)
    if record.first_token_ns < 0 and not record.request.stand_in:  # else its client waits on
        record.first_token_ns = step.state.now_ns
    step.state.untold[attempt.fence] = attempt
    if attempt.replica.model.look_when_read:
        touch(step.state, attempt.replica.model)


def on_progress(step: Step, event: Progress) -> None:
    """Note how far an attempt is; tokens never go back."""
    attempt = _heard(step, event.request_id, event.attempt)
    if attempt is not None:
        attempt.output_tokens = max(attempt.output_tokens, event.output_tokens)
        step.state.untold[attempt.fence] = attempt


def on_attempt_finished(step: Step, event: AttemptFinished) -> None:
    """The answer is complete: the request is done."""
    attempt = _heard(step, event.request_id, event.attempt)
    if attempt is None:
        return
    attempt.output_tokens = event.output_tokens
    if event.cached_tokens >= 0 and event.prompt_tokens > 0:  # in tokens as its size was estimated
        share = min(event.cached_tokens / event.prompt_tokens, 1.0)
        attempt.cached_tokens = int(share * attempt.request.prompt_tokens)
    record = _release(step, attempt, finished=True, tool_calls=event.tool_calls)
    if record is not None:
        end(step.state, record, Outcome.DONE, step.actions, attempt=attempt)


def on_attempt_failed(step: Step, event: AttemptFailed) -> None:
    """Try again elsewhere while nothing was delivered and attempts are left; else fail."""
    attempt = _heard(step, event.request_id, event.attempt)
    if attempt is None:
        return
    attempt.output_tokens = event.output_tokens
    fail_attempt(step, attempt, event.kind, delivered=event.delivered)


def fail_attempt(step: Step, attempt: Attempt, kind: FailureKind, *, delivered: bool) -> None:
    """An attempt is over and was no success."""
    state = step.state
    if kind is FailureKind.STALLED:
        fail_replica(step, attempt.replica, kind, "an attempt on it gave no sign of life")
    record = _release(step, attempt)
    if record is None:
        return
    pausing, record.pausing = record.pausing, False
    if pausing and kind is FailureKind.ABORTED:
        record.pauses += 1
        record.produced_tokens += attempt.output_tokens
        state.counters["pauses"] += 1
        enqueue(state, record)
        return
    if record.moves is not None and kind is FailureKind.ABORTED:
        move_on(step, record)
        return
    record.moves = None
    final = delivered or kind is FailureKind.REFUSED
    if final or record.tries >= step.params.attempts_max:
        end(state, record, Outcome.FAILED, step.actions, reason=kind, attempt=attempt)
        return
    state.counters["retries"] += 1
    if not record.produced_tokens:
        record.first_token_ns = -1
    enqueue(state, record)


def _release(
    step: Step, attempt: Attempt, *, finished: bool = False, tool_calls: bool = False
) -> RequestRecord | None:
    """Free an attempt's place; its request if that still lives and this was its attempt."""
    vacate(step.state, attempt)
    step.state.untold.pop(attempt.fence, None)
    note_use(step, attempt, tool_calls=tool_calls)
    tell(step.state, Moment.OVER, attempt.record, attempt, finished=finished)
    touch(step.state, attempt.replica.model)
    _call_held(step.state, attempt.replica.device)
    record = step.state.requests.get(attempt.request_id)
    if record is None or record.attempt is not attempt:
        return None
    record.attempt = None
    return record


def _call_held(state: State, device: Device) -> None:
    """A place on a device is free: look at those whose head was held back and whom that concerns.

    Of models with a choice of devices only those with a replica there: many may stand in line at
    one desk, and an end on a device that they do not use is no news to them.
    """
    called = {name: model for name, model in device.held.items() if len(model.devices) == 1}
    called.update((one.model.spec.id, one.model) for one in device.replicas.values())
    for name, model in called.items():
        if model.desk.held.pop(name, None) is not None:
            touch(state, model)


def on_load_progress(step: Step, event: LoadProgress) -> None:
    """Note how far a load is."""
    replica = step.state.replica(event.replica_id, event.epoch)
    if replica is not None and event.fraction > replica.load_fraction:
        replica.load_fraction = min(event.fraction, 1.0)
        replica.advanced_ns = step.state.now_ns
        replica.device.due_ns = UNKNOWN


def on_replica_ready(step: Step, event: ReplicaReady) -> None:
    """A load or a wake is over: the replica takes work."""
    state = step.state
    replica = state.replica(event.replica_id, event.epoch)
    if replica is None or not state.is_turn(replica, event.turn):
        return
    if replica.state not in _COMING_UP:
        return
    model = replica.model
    model.failures = 0
    model.backoff_until_ns = -1
    if replica.state is ReplicaState.WAKING:
        took_ns = state.now_ns - replica.since_ns
        if replica.is_deep:
            model.last_deep_wake_ns = took_ns
        else:
            model.last_wake_ns = took_ns
        state.counters["wakes_done"] += 1
        leave_host(state, replica)
    else:
        model.last_load_ns = state.now_ns - replica.since_ns
        state.counters["loads_done"] += 1
    replica.ready_ns = state.now_ns
    replica.load_fraction = 1.0
    replica.device.due_ns = UNKNOWN
    open_for_work(state, replica)
    _measure(state, replica, event.measured_bytes, state.now_ns)
    state.dirty[replica.device.spec.id] = replica.device
    touch(state, model)
    watch(step, model)


def _measure(state: State, replica: Replica, measured_bytes: int, as_of_ns: int) -> None:
    """Book what a replica really takes, never less than was estimated."""
    if measured_bytes <= 0 or as_of_ns < replica.measured_ns:
        return
    replica.measured_bytes = measured_bytes
    replica.measured_ns = as_of_ns
    if replica.turn and replica.state not in _AWAKE:
        return
    model = replica.model
    if measured_bytes > replica.booked_bytes:
        state.counters["ledger_drift"] += 1
        replica.device.book(replica, measured_bytes)
        state.dirty[replica.device.spec.id] = replica.device
    model.learned_bytes = max(model.learned_bytes, measured_bytes)


def on_memory_sampled(step: Step, event: MemorySampled) -> None:
    """A fresh measurement of a replica."""
    replica = step.state.replica(event.replica_id, event.epoch)
    if replica is not None:
        _measure(step.state, replica, event.measured_bytes, event.as_of_ns)


def on_replica_failed(step: Step, event: ReplicaFailed) -> None:
    """A replica is no use any more: reap it and think about the load."""
    replica = step.state.replica(event.replica_id, event.epoch)
    if replica is not None:
        fail_replica(step, replica, event.kind, event.detail)


def fail_replica(step: Step, replica: Replica, kind: FailureKind, detail: str) -> None:
    """Unload a failed replica; a failed load backs off, and may fail those who wait for it."""
    state = step.state
    if replica.state is ReplicaState.UNLOADING:
        return
    was = replica.state
    unload(step, replica, UnloadCause.FAILED)
    state.counters["replica_failures"] += 1
    if was in _COMING_UP:
        _fail_load(step, replica.model, kind, detail)
    elif was is ReplicaState.SLEEPING:
        fail_sleep(step, replica.model)
    touch(state, replica.model)


def _fail_load(step: Step, model: Model, kind: FailureKind, detail: str) -> None:
    """Back off; once it failed too often, those who wait for the model fail with it."""
    state, params = step.state, step.params
    model.failures += 1
    backoff_ns = backoff(params, model.failures)
    model.backoff_until_ns = state.now_ns + backoff_ns
    model.last_failure = f"{kind}: {detail}" if detail else str(kind)
    hopeless = kind is FailureKind.MODEL_UNUSABLE
    if hopeless:
        model.failures = max(model.failures, params.load_failures_max)
    if not model.is_resident():
        hand_over(step, model)
    if model.failures < params.load_failures_max or model.is_resident():
        return
    ask, model.wishes.ask = model.wishes.ask, None
    if ask is not None and ask.ask_id:
        refuse_ask(step, model, ask, kind, detail)
    for record in model.queue.entries():
        end(
            state,
            record,
            Outcome.FAILED,
            step.actions,
            reason=kind,
            retry_after_ns=0 if hopeless else backoff_ns,
            detail=detail,
        )


def on_replica_gone(step: Step, event: ReplicaGone) -> None:
    """The process has ended: free its bytes, and fail what was thought to run there."""
    state = step.state
    replica = state.replica(event.replica_id, event.epoch)
    if replica is None:
        return
    model, device = replica.model, replica.device
    was = replica.state
    if was is not ReplicaState.UNLOADING:
        close_for_work(state, replica, ReplicaState.UNLOADING)
    if was in _COMING_UP:
        _fail_load(step, model, FailureKind.CRASHED, "its process ended while it came up")
    elif was is ReplicaState.SLEEPING:
        fail_sleep(step, model)
    for attempt in list(replica.running.values()):
        delivered = attempt.first_ns >= 0
        fail_attempt(step, attempt, FailureKind.CRASHED, delivered=delivered)
    forget(state, replica)
    state.dirty[device.spec.id] = device
    if model.wishes.stays and state.drain_deadline_ns < 0:
        want_replica(state, model)
        if model.wishes.pinned and model.spec.id in model.device.wanting:
            model.device.wanting.move_to_end(model.spec.id, last=False)
    touch(state, model)


def on_timer_fired(step: Step, event: TimerFired) -> None:  # noqa: ARG001 - carries no data
    """The timer is used up; what is due is found by the reconcile's own look at the time."""
    step.state.timer_ns = -1


def on_drain_requested(step: Step, event: DrainRequested) -> None:
    """Take nothing new from here on; a second request may only bring the deadline forward."""
    state = step.state
    deadline = event.deadline_ns
    if state.drain_deadline_ns >= 0:
        deadline = min(deadline, state.drain_deadline_ns)
    state.drain_deadline_ns = deadline


def tell_progress(state: State) -> None:
    """Let planners learn of tokens, once for each attempt, and of none that is over by now."""
    for attempt in state.untold.values():
        tell(state, Moment.TOLD, attempt.record, attempt)
    state.untold.clear()


#: Event type -> what it does. The union `Event` and this table name the same types (tested).
TRANSITIONS: dict[type, Callable[[Step, Any], None]] = {
    RequestArrived: on_request_arrived,
    RequestCancelled: on_request_cancelled,
    FirstToken: on_first_token,
    Progress: on_progress,
    AnswerJudged: on_answer_judged,
    AttemptFinished: on_attempt_finished,
    AttemptFailed: on_attempt_failed,
    LoadProgress: on_load_progress,
    ReplicaReady: on_replica_ready,
    ReplicaAsleep: on_replica_asleep,
    ReplicaFailed: on_replica_failed,
    ReplicaGone: on_replica_gone,
    ReplicaFound: on_replica_found,
    MemorySampled: on_memory_sampled,
    DeviceSampled: on_device_sampled,
    ModelAsked: on_model_asked,
    **CHAIN_TRANSITIONS,
    ConfigChanged: on_config_changed,
    TimerFired: on_timer_fired,
    DrainRequested: on_drain_requested,
}
