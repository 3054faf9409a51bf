"""What a new request meets: the request it replaces, a model that serves it, or a refusal.

Owns the reasons for which waiting could not help. Decides nothing about requests that wait: those
are the reconcile's. Called by `transitions`, and by `scheduler` for questions.
"""

from dataclasses import dataclass, replace

from slalom.core.actions import ModelChosen, Outcome, Reason
from slalom.core.chain_life import join_chain
from slalom.core.choosing import WHY, choose
from slalom.core.ending import end, enqueue, leave_queue, refuse, tell
from slalom.core.entities import RequestRecord
from slalom.core.events import RequestArrived
from slalom.core.planning import Moment
from slalom.core.request import Alternatives, Request
from slalom.core.room import does_not_fit, most_room, needs_swap
from slalom.core.state import Model, State
from slalom.core.step import Step


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request cannot even wait."""

    reason: Reason
    retry_after_ns: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Placing:
    """A request with the model that is to serve it."""

    request: Request
    refusal: Refusal | None = None
    #: Those of its models that come before and do not serve it, and why.
    passed: tuple[tuple[str, str], ...] = ()


def on_request_arrived(step: Step, event: RequestArrived) -> None:
    """Queue a request, or refuse it at once where waiting could not help."""
    state = step.state
    if event.request.id in state.requests:
        state.counters["duplicate_events"] += 1
        return
    older = _superseded(state, event.request)
    placing = place(step, event.request, older)
    request, refusal = placing.request, placing.refusal
    if refusal is not None:
        if older is not None:
            end(state, older, Outcome.SUPERSEDED, step.actions)
        refuse(
            state,
            request,
            refusal.reason,
            step.actions,
            retry_after_ns=refusal.retry_after_ns,
            detail=refusal.detail,
        )
        return
    if request.alternatives is not None:
        state.counters["models_chosen"] += 1
        state.counters["models_passed"] += len(placing.passed)
        step.actions.append(ModelChosen(request.id, request.model, placing.passed))
    order = step.policies.ordering.key(request, step.params.default_deadline_ns)
    record = RequestRecord(request, (order, request.arrived_ns, request.id), state.now_ns)
    state.requests[request.id] = record
    if request.link is not None:
        join_chain(state, step.params, record, request.link)
    if request.supersedes:
        state.newest[request.key, request.asked, request.supersedes] = request.id
    enqueue(state, record)
    if older is not None:  # only now, so that what it wanted is wanted without a break
        end(state, older, Outcome.SUPERSEDED, step.actions)
    tell(state, Moment.ARRIVED, record)


def place(step: Step, request: Request, older: RequestRecord | None = None) -> Placing:
    """Find the model that serves a request, or why none does; changes nothing.

    Args:
        step: What is known.
        request: New.
        older: The live request whose place it takes.
    """
    how = request.alternatives
    if how is None:
        return Placing(request, refusal_of(step, request, older))
    candidates = [replace(request, model=name) for name in how.models]
    refusals = [refusal_of(step, candidate, older, picky=True) for candidate in candidates]
    if None not in refusals:
        refusals = [refusal_of(step, candidate, older) for candidate in candidates]
    able = [index for index, refusal in enumerate(refusals) if refusal is None]
    if not able:
        return Placing(candidates[0], refusals[0])
    chosen = able[choose(step, [candidates[index] for index in able], how)]
    passed = tuple(
        (name, refusal.reason.value if refusal is not None else WHY[how.choice].value)
        for name, refusal in zip(how.models[:chosen], refusals[:chosen], strict=True)
    )
    return Placing(candidates[chosen], passed=passed)


def hand_over(step: Step, model: Model) -> None:
    """A model has failed to load: who waits for it, and may be served by another one, is.

    Each of its models is left once at most, so that nobody is sent round and round. Where no other
    is able, its requests wait on.
    """
    for record in model.queue.entries():
        how = record.request.alternatives
        if how is None or record.first_token_ns >= 0:
            continue
        record.failed_models = (*record.failed_models, model.spec.id)
        left = [name for name in how.models if name not in record.failed_models]
        candidates = [replace(record.request, model=name) for name in left]
        able = [one for one in candidates if refusal_of(step, one, record, picky=True) is None]
        if able:
            _move(step, record, able[choose(step, able, how)], how)


def _move(step: Step, record: RequestRecord, request: Request, how: Alternatives) -> None:
    """Let a waiting request wait for another of its models."""
    state = step.state
    leave_queue(state, record)
    record.request = request
    passed = tuple(
        (name, (Reason.LOAD_BACKOFF if name in record.failed_models else WHY[how.choice]).value)
        for name in how.models[: how.models.index(request.model)]
    )
    state.counters["handed_over"] += 1
    step.actions.append(ModelChosen(request.id, request.model, passed))
    enqueue(state, record)
    tell(state, Moment.ARRIVED, record)


def _superseded(state: State, request: Request) -> RequestRecord | None:
    """The request that this one replaces, waiting or running."""
    if not request.supersedes:
        return None
    name = (request.key, request.asked, request.supersedes)
    return state.requests.get(state.newest.get(name, ""))


def refusal_of(
    step: Step, request: Request, older: RequestRecord | None, *, picky: bool = False
) -> Refusal | None:
    """Why a request cannot even wait for its model.

    Args:
        step: What is known.
        request: New, or about to be handed over.
        older: The live request whose place it takes.
        picky: Others may serve it: no model will do that rests after a failed load.
    """
    state = step.state
    if state.drain_deadline_ns >= 0:
        return Refusal(Reason.DRAINING, max(state.drain_deadline_ns - state.now_ns, 0))
    model = state.models.get(request.model)
    if model is None:
        return Refusal(Reason.UNKNOWN_MODEL)
    if model.retires_ns >= 0:
        return Refusal(Reason.UNKNOWN_MODEL, detail="It was removed by a reload.")
    if not model.is_resident():
        if (room := most_room(model)) < model.bytes_needed:
            return Refusal(Reason.DOES_NOT_FIT, detail=does_not_fit(model, room))
        if needs_swap(model, request):
            detail = f"others would have to give way to model {model.spec.id}"
            return Refusal(Reason.SWAP_NOT_ALLOWED, step.params.swap_patience_ns, detail)
        gave_up = picky or model.failures >= step.params.load_failures_max
        if gave_up and state.now_ns < model.backoff_until_ns:
            wait_ns = model.backoff_until_ns - state.now_ns
            return Refusal(Reason.LOAD_BACKOFF, wait_ns, model.last_failure)
    waiting = len(state.waiting) - (older is not None and older.in_queue)
    if waiting >= step.params.queue_max:
        return Refusal(Reason.QUEUE_FULL, step.params.swap_patience_ns)
    return None
