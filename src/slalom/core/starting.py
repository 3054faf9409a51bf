"""How a request begins to run: the one place that makes `Dispatch`.

Owns the numbering of attempts. Called by `dispatching` (heads admitted one by one) and by
`planned` (plans).
"""

from slalom.core.actions import Dispatch
from slalom.core.books import occupy
from slalom.core.ending import tell
from slalom.core.entities import Attempt, Replica, RequestRecord
from slalom.core.planning import Moment, Start
from slalom.core.state import Model
from slalom.core.step import Step


def start_attempt(
    step: Step,
    record: RequestRecord,
    model: Model,
    replica: Replica,
    chosen: Start | None = None,
) -> None:
    """Take a waiting request out of line and start its next attempt on a replica."""
    state = step.state
    model.queue.remove(record)
    del state.waiting[record.request.id]
    model.wishes.limited.pop(record.request.id, None)
    record.attempts += 1
    record.number += 1
    while (record.request.id, record.number) in state.attempts:
        record.number += 1
    attempt = Attempt(record, record.number, replica, state.now_ns)
    record.attempt = attempt
    record.dispatch_ns = state.now_ns
    dispatch = _dispatch(attempt, chosen)
    record.clamped_tokens = dispatch.max_tokens
    if record.first_dispatch_ns < 0:
        record.first_dispatch_ns = state.now_ns
    if record.first_dispatch is None:
        record.first_dispatch = dispatch
    occupy(state, attempt)
    model.note_start(replica, record.request)
    if record.chain is not None:
        record.chain.began(model.spec.id, replica.id)
    step.actions.append(dispatch)
    tell(state, Moment.STARTED, record, attempt)


def _dispatch(attempt: Attempt, chosen: Start | None) -> Dispatch:
    replica, resumed = attempt.replica, attempt.resumed_tokens
    fence = (attempt.request_id, attempt.number, replica.id, replica.epoch)
    if chosen is None:
        return Dispatch(*fence, resumed_tokens=resumed)
    expected = chosen.expected
    if expected is None:
        return Dispatch(*fence, chosen.priority, chosen.max_tokens, resumed)
    return Dispatch(
        *fence,
        priority=chosen.priority,
        max_tokens=chosen.max_tokens,
        resumed_tokens=resumed,
        expected_first_ns=expected.first_ns,
        expected_end_ns=expected.end_ns,
        chance=expected.chance,
        expected_rest_ns=expected.rest_ns,
    )
