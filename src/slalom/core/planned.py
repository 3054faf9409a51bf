"""Reconcile pass where a planner admits: ask it, model by model, and apply what it answers.

Owns the asking, and the rules that no plan can break: a start needs a waiting request and a free
place, a pause an answer that can be continued. What no longer fits is left out and counted.
Called by `dispatching` and by `timing`.
"""

import heapq
from dataclasses import replace

from slalom.core.actions import Outcome
from slalom.core.device import Device
from slalom.core.ending import abort, end, touch, want_replica
from slalom.core.entities import Attempt, RequestRecord
from slalom.core.planning import Plan, Planner, Start
from slalom.core.snapshot import ReplicaState
from slalom.core.starting import start_attempt
from slalom.core.state import Model, State
from slalom.core.step import Step

#: Added to the order of a demoted request: behind every other, whatever its deadline.
DEMOTED = 1 << 62
#: Pauses of one request; it then runs to its end, whatever plans say.
PAUSES_MAX = 16
#: Stale looks below this number are never worth a rebuild.
_LOOKS_SLACK = 64


def plan_for(step: Step, device: Device, model: Model, planner: Planner) -> None:
    """Ask the planner about a model with waiting requests and a ready replica, and obey it.

    The model is then left alone until something happens to it, or its look is due.
    """
    device.held[model.spec.id] = model
    _apply(step, model, planner.plan(model, step.state.now_ns))
    model.offered = None
    if not model.waiting_count:
        device.held.pop(model.spec.id, None)
    elif model.most_free() is None:
        want_replica(step.state, model)


def foresee(step: Step) -> None:
    """Ask about every model that was touched and is not loaded, before memory is given out.

    So that nothing is loaded for requests that would be late all the same.
    """
    state = step.state
    while state.unready and state.foreseer is not None:
        _, model = state.unready.popitem()
        if model.waiting_count and not model.has_ready():
            plan = state.foreseer.foresee(model, state.now_ns)
            _apply(step, model, replace(plan, starts=(), pauses=()))


def ask_due_planners(step: Step) -> None:
    """Offer the models whose planner wanted to be asked by now."""
    state = step.state
    while state.looks and state.looks[0][0] <= state.now_ns:
        at_ns, model_id = heapq.heappop(state.looks)
        model = state.models[model_id]
        if model.look_ns == at_ns:
            model.look_ns = -1
            touch(state, model)


def _apply(step: Step, model: Model, plan: Plan) -> None:
    state = step.state
    for refusal in plan.refusals:
        record = _its(state, model, refusal.request_id)
        if record is None or record.first_token_ns >= 0:
            state.counters["plan_misfits"] += 1
            continue
        end(
            state,
            record,
            Outcome.REJECTED,
            step.actions,
            reason=refusal.reason,
            retry_after_ns=refusal.retry_after_ns,
            detail=refusal.detail,
        )
    for request_id in plan.demotions:
        _demote(step, model, request_id)
    for request_id in plan.pauses:
        _pause(step, model, request_id)
    for start in plan.starts:
        _start(step, model, start)
    model.look_when_read = plan.look_when_read
    _look_later(state, model, plan.look_ns)


def _its(state: State, model: Model, request_id: str) -> RequestRecord | None:
    """A live request of the model that was planned for; a plan cannot touch others."""
    record = state.requests.get(request_id)
    return record if record and record.request.model == model.spec.id else None


def _demote(step: Step, model: Model, request_id: str) -> None:
    record = _its(step.state, model, request_id)
    if record is None or not record.in_queue or record.demoted:
        step.state.counters["plan_misfits"] += 1
        return
    model.queue.remove(record)
    record.demoted = True
    record.demoted_ns = step.state.now_ns
    record.key = (record.key[0] + DEMOTED, *record.key[1:])
    model.queue.push(record)
    step.state.counters["demotions"] += 1


def _pause(step: Step, model: Model, request_id: str) -> None:
    """Tell an attempt to stop; once it has, its request waits and goes on later."""
    record = _its(step.state, model, request_id)
    attempt = record.attempt if record else None
    if record is None or attempt is None or not _may_pause(record, attempt):
        step.state.counters["plan_misfits"] += 1
        return
    abort(attempt, step.actions, pause=True)


def _may_pause(record: RequestRecord, attempt: Attempt) -> bool:
    resumable = record.request.resumable and record.pauses < PAUSES_MAX
    return resumable and not attempt.aborting


def _start(step: Step, model: Model, start: Start) -> None:
    record = _its(step.state, model, start.request_id)
    replica = model.replicas.get(start.replica_id or _routed(step, model, record))
    fits = (
        record is not None
        and record.in_queue
        and (start.max_tokens == 0 or start.max_tokens > record.produced_tokens)
        and replica is not None
        and replica.state is ReplicaState.READY
        and replica.free_places > 0
        and replica.device.has_room()
    )
    if not fits or record is None or replica is None:
        step.state.counters["plan_misfits"] += 1
        return
    start_attempt(step, record, model, replica, start)


def _routed(step: Step, model: Model, record: RequestRecord | None) -> str:
    """Where the routing policy sends it, since its planner does not mind."""
    if record is None or not record.in_queue or model.most_free() is None:
        return ""
    picked = step.policies.routing.pick(record, model, step.state.now_ns)
    return picked.id if picked is not None else ""


def _look_later(state: State, model: Model, look_ns: int) -> None:
    if look_ns <= state.now_ns or look_ns == model.look_ns:
        return
    model.look_ns = look_ns
    heapq.heappush(state.looks, (look_ns, model.spec.id))
    if len(state.looks) > _LOOKS_SLACK + 2 * len(state.models):
        state.looks = [
            (model.look_ns, name) for name, model in state.models.items() if model.look_ns >= 0
        ]
        heapq.heapify(state.looks)
