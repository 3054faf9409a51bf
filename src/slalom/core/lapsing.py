"""What falls due of people's wishes: models that idle leave, asks that came to nothing are told.

Owns these times, in one heap. What leaves goes as any victim does (`leaving`). Called by
`transitions` whenever something happens to a model that has wishes, and by `timing`.
"""

import heapq
from collections.abc import Iterator

from slalom.core.actions import Reason, UnloadCause
from slalom.core.entities import Attempt, Replica
from slalom.core.events import ReplicaAsleep
from slalom.core.giving_way import residency_ns
from slalom.core.leaving import fall_asleep, may_sleep, order_away, unload
from slalom.core.room import refuse_ask
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step

#: Stale entries below this number are never worth a rebuild.
_SLACK = 64


def note_use(step: Step, attempt: Attempt, *, tool_calls: bool) -> None:
    """An attempt is over: what it says of how long its model is kept holds from here."""
    model, now_ns = attempt.replica.model, step.state.now_ns
    spec, wishes, keep_ns = model.spec, model.wishes, attempt.request.keep_ns
    stay_ns = max(keep_ns, spec.hold_ns if tool_calls else 0)
    if stay_ns > 0:
        wishes.kept_until_ns = max(wishes.kept_until_ns, now_ns + stay_ns)
        for replica in model.replicas.values():
            replica.device.kept[spec.id] = model
    if keep_ns >= 0 or wishes.leaves_ns >= 0:
        wishes.leaves_ns = max(now_ns + keep_ns, wishes.kept_until_ns) if keep_ns >= 0 else -1
        watch(step, model)
    elif spec.idle_sleep_ns or spec.idle_unload_ns:
        watch(step, model)


def watch(step: Step, model: Model) -> None:
    """Note when something that stands in a model's wishes falls due."""
    state, wishes = step.state, model.wishes
    due_ns = min((at_ns for at_ns, _ in _due(step, model)), default=-1)
    if due_ns >= 0:
        due_ns = max(due_ns, state.now_ns + 1)
    if due_ns == wishes.due_ns:
        return
    wishes.due_ns = due_ns
    if due_ns < 0:
        return
    heapq.heappush(state.lapses, (due_ns, model.spec.id))
    if len(state.lapses) > _SLACK + 2 * len(state.models):
        state.lapses = [
            (one.wishes.due_ns, name) for name, one in state.models.items() if one.wishes.due_ns > 0
        ]
        heapq.heapify(state.lapses)


def on_replica_asleep(step: Step, event: ReplicaAsleep) -> None:
    """A replica sleeps; it may not do so for ever."""
    model = step.state.models.get(event.replica_id.rpartition("#")[0])
    fall_asleep(step, event)
    if model is not None:
        watch(step, model)


def end_lapsed(step: Step) -> None:
    """Act on what is due by now."""
    state = step.state
    while state.lapses and state.lapses[0][0] <= state.now_ns:
        at_ns, model_id = heapq.heappop(state.lapses)
        model = state.models[model_id]
        if model.wishes.due_ns != at_ns:
            continue
        model.wishes.due_ns = -1
        for due_ns, replica in list(_due(step, model)):
            if due_ns > state.now_ns:
                continue
            if replica is None:
                _give_up(step, model)
            else:
                _send_away(step, replica)
        watch(step, model)


def _due(step: Step, model: Model) -> Iterator[tuple[int, Replica | None]]:
    """What falls due and when: a replica that is to leave, or None for the ask."""
    state, spec, wishes = step.state, model.spec, model.wishes
    if wishes.ask is not None and wishes.ask.ask_id:
        yield wishes.ask.until_ns, None
    if model.waiting_count or wishes.stays or state.drain_deadline_ns >= 0:
        return
    may_nap_ns, may_end_ns = spec.idle_sleep_ns, spec.idle_unload_ns
    if not may_nap_ns and not may_end_ns and wishes.leaves_ns < 0:
        return
    for replica in model.replicas.values():
        is_up = replica.state is ReplicaState.READY
        if replica.running or not (is_up or replica.state is ReplicaState.ASLEEP):
            continue
        if is_up and model.up_count() <= model.sizing.size:  # decided by others
            continue
        times = []
        if may_end_ns:
            times.append(replica.last_used_ns + may_end_ns)
        if is_up and may_nap_ns and may_sleep(step, replica):
            times.append(replica.last_used_ns + may_nap_ns)
        if is_up and wishes.leaves_ns >= 0:
            times.append(wishes.leaves_ns)
        if times:
            least_ns = max(wishes.kept_until_ns, replica.ready_ns + residency_ns(step))
            yield max(min(times), least_ns), replica


def _send_away(step: Step, replica: Replica) -> None:
    """An idle replica ends if it idled for long enough, else it sleeps if it can."""
    model, now_ns = replica.model, step.state.now_ns
    ends_ns = model.spec.idle_unload_ns
    sleeps = not (ends_ns and replica.last_used_ns + ends_ns <= now_ns)
    step.state.counters["idle_departures"] += 1
    replica.device.recent.pop(model.spec.id, None)
    if replica.state is ReplicaState.ASLEEP:
        unload(step, replica, UnloadCause.IDLE)
    else:
        order_away(step, replica, UnloadCause.IDLE, sleeps=sleeps)


def _give_up(step: Step, model: Model) -> None:
    """A load that was asked for did not come about in time."""
    ask, model.wishes.ask = model.wishes.ask, None
    if ask is not None:
        detail = "there was no room for it, or it did not come up, in the time a request may wait"
        refuse_ask(step, model, ask, Reason.QUEUE_TIMEOUT, detail)
        step.state.dirty[model.device.spec.id] = model.device
