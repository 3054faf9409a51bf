"""How requests leave: the one place that makes `EndRequest`, and so the one terminal outcome.

Also owns joining a queue, because whoever fails an attempt either ends the request here or queues
it again here. Called by transitions and by the reconcile passes.
"""

import heapq
from typing import TypedDict

from slalom.core.actions import AbortAttempt, Action, Dispatch, EndRequest, Outcome, Reason
from slalom.core.chain import Link
from slalom.core.chain_life import leave_chain
from slalom.core.entities import Attempt, RequestRecord
from slalom.core.placing import settle
from slalom.core.planning import Moment, Observation
from slalom.core.request import Request, Swap
from slalom.core.state import Model, State

#: Stands for the dispatch of a request that never had one.
_NEVER = Dispatch("", 0, "", 0)


class _Place(TypedDict, total=False):
    chain: str
    step: int
    steps: int
    chain_left_ns: int


def touch(state: State, model: Model) -> None:
    """Look at a model whose queue or places changed; offer its head, or note its need.

    The only way into a device's runnable heap and into its lists of models that want memory.
    """
    head = model.queue.peek()
    if head is None:
        return
    device = model.desk
    has_place = model.most_free() is not None
    is_ready = has_place or model.has_ready()
    may_run = has_place or (state.planner is not None and is_ready)
    if not is_ready and state.foreseer is not None:
        state.unready[model.spec.id] = model
    if may_run and model.offered != head.key:
        model.offered = head.key
        heapq.heappush(device.runnable, (head.key, model.spec.id))
        state.offering[device.spec.id] = device
    if not has_place:
        want_replica(state, model)


def want_replica(state: State, model: Model) -> None:
    """Note that a model has waiting requests and no place: it needs a replica, or another one."""
    device = model.device
    if not model.is_resident():
        if model.spec.id not in device.wanting:
            settle(model)
            device = model.device
            device.wanting[model.spec.id] = model
            if model.bytes_needed == 0:
                device.wanting.move_to_end(model.spec.id, last=False)
            model.wanted_ns = state.now_ns
            state.dirty[device.spec.id] = device
        elif model.held_until_ns > state.now_ns:  # there is more to weigh now
            state.dirty[device.spec.id] = device
    elif model.spec.id in device.growing or model.spec.id in state.short:
        return  # it is noted already, and looked at wherever memory comes free
    elif model.may_grow():
        if model.spec.id not in device.wanting:
            settle(model, grows=True)
            device = model.device
        device.growing[model.spec.id] = model
        state.dirty[device.spec.id] = device


def look_at_devices(state: State, model: Model) -> None:
    """Look again at the devices where something of a model is, or is to be."""
    state.dirty[model.device.spec.id] = model.device
    if len(model.devices) > 1:
        for replica in model.replicas.values():
            state.dirty[replica.device.spec.id] = replica.device


def tell(
    state: State,
    moment: Moment,
    record: RequestRecord,
    attempt: Attempt | None = None,
    *,
    finished: bool = False,
) -> None:
    """Let those learn from what happened who do."""
    if state.planner is None and state.keeper is None:
        return
    seen = Observation(moment, record.request, attempt, finished)
    if state.planner is not None:
        state.planner.observe(seen, state.models[record.request.model], state.now_ns)
    if state.keeper is not None:
        state.keeper.observe(seen, state.now_ns)


def enqueue(state: State, record: RequestRecord) -> None:
    """Let a request wait for its model; one that ran before keeps its old place in line."""
    model = state.models[record.request.model]
    model.queue.push(record)
    if not record.attempts and state.is_sized:
        model.sizing.arrived(record.request, state.now_ns)
    if state.forerunner is not None:
        model.device.remember(model)
    if record.request.allow_swap is not Swap.NORMAL or model.spec.swap is not Swap.NORMAL:
        model.wishes.limit(record.request, model.spec.swap)
    record.waits_since_ns = state.now_ns
    state.waiting[record.request.id] = record
    touch(state, model)


def leave_queue(state: State, record: RequestRecord) -> None:
    """Take a waiting request out of line; a load that only it wanted is looked at again."""
    model = state.models[record.request.model]
    model.queue.remove(record)
    del state.waiting[record.request.id]
    model.wishes.limited.pop(record.request.id, None)
    touch(state, model)
    if not model.queue:
        look_at_devices(state, model)
        if not model.wishes.stays:
            model.device.wanting.pop(model.spec.id, None)


def end(
    state: State,
    record: RequestRecord,
    outcome: Outcome,
    actions: list[Action],
    *,
    reason: str = "",
    retry_after_ns: int = 0,
    detail: str = "",
    attempt: Attempt | None = None,
) -> None:
    """End a request wherever it stands, aborting its running attempt.

    `attempt` is the attempt that just ended, for its replica and its tokens.
    """
    if record.in_queue:
        leave_queue(state, record)
    if record.attempt is not None:
        attempt, record.attempt = record.attempt, None
        abort(attempt, actions)
    del state.requests[record.request.id]
    request = record.request
    _forget_newest(state, request)
    tokens = record.produced_tokens + (attempt.output_tokens if attempt else 0)
    first = record.first_dispatch or _NEVER
    if record.chain is not None:
        leave_chain(state, record, done=outcome is Outcome.DONE)
    if outcome is Outcome.DONE and state.is_sized:
        state.models[request.model].sizing.answered(request, tokens)
    good = outcome is Outcome.DONE and request.was_good(record.first_token_ns, state.now_ns, tokens)
    state.counters[f"ended_{outcome.value}"] += 1
    actions.append(
        EndRequest(
            request_id=request.id,
            outcome=outcome,
            reason=reason,
            model=request.model,
            task=request.task,
            key=request.key,
            arrived_ns=request.arrived_ns,
            first_dispatch_ns=record.first_dispatch_ns,
            dispatch_ns=record.dispatch_ns,
            first_token_ns=record.first_token_ns,
            ended_ns=state.now_ns,
            prompt_tokens=request.prompt_tokens,
            output_tokens=tokens,
            attempts=record.attempts,
            replica_id=attempt.replica.id if attempt else "",
            good=good,
            retry_after_ns=retry_after_ns,
            detail=detail,
            pauses=record.pauses,
            clamped_tokens=record.clamped_tokens,
            expected_first_ns=first.expected_first_ns,
            expected_end_ns=first.expected_end_ns,
            chance=first.chance,
            demoted_ns=record.demoted_ns,
            **_place_in_chain(request.link, state.now_ns),
        )
    )


def _place_in_chain(link: Link | None, now_ns: int) -> _Place:
    if link is None:
        return {}
    left_ns = link.deadline_ns - now_ns if link.has_deadline else 0
    return {"chain": link.chain, "step": link.step, "steps": link.steps, "chain_left_ns": left_ns}


def _forget_newest(state: State, request: Request) -> None:
    if request.supersedes:
        name = (request.key, request.asked, request.supersedes)
        if state.newest.get(name) == request.id:
            del state.newest[name]


def refuse(
    state: State,
    request: Request,
    reason: Reason,
    actions: list[Action],
    *,
    retry_after_ns: int = 0,
    detail: str = "",
) -> None:
    """End a request that was never queued."""
    record = RequestRecord(request, (0, request.arrived_ns, request.id), state.now_ns)
    state.requests[request.id] = record
    end(
        state,
        record,
        Outcome.REJECTED,
        actions,
        reason=reason,
        retry_after_ns=retry_after_ns,
        detail=detail,
    )


def abort(attempt: Attempt, actions: list[Action], *, pause: bool = False) -> None:
    """Ask once for the end of an attempt; it keeps its place until that is confirmed.

    One that was only to pause, and may have chosen to run on, can still be told to end.
    """
    record = attempt.record
    if attempt.aborting and (pause or not record.pausing):
        return
    attempt.aborting = True
    record.pausing = pause
    actions.append(AbortAttempt(attempt.request_id, attempt.number, pause))
