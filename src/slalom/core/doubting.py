"""Another model takes over from one whose answer is doubted, once, where it can be in time.

Owns that decision and the change of a request's model. What makes an answer doubtful is found out
where its text is known; here it is a verdict. Called by `transitions`.
"""

from dataclasses import replace

from slalom.core.actions import AnswerKept, ModelChosen, Passed
from slalom.core.arriving import refusal_of
from slalom.core.choosing import option_of
from slalom.core.ending import abort, enqueue, tell
from slalom.core.entities import RequestRecord
from slalom.core.events import AnswerJudged, Verdict
from slalom.core.planning import Moment
from slalom.core.step import Step


def on_answer_judged(step: Step, event: AnswerJudged) -> None:
    """A trusted answer goes to its client now; a doubted one waits for `settle_doubts`."""
    state = step.state
    record = _running(step, event)
    if record is None or record.attempt is None:
        state.counters["stale_events"] += 1
        return
    record.attempt.heard_ns = state.now_ns
    state.attempts.move_to_end(record.attempt.fence)
    if event.verdict is not Verdict.TRUSTED:
        step.doubts.append(event)
    elif record.request.streamed:
        record.first_token_ns = state.now_ns


def settle_doubts(step: Step) -> None:
    """Let doubted answers be made anew by the stand-in, or clients have those that are there.

    Numbered: (1) nobody else may answer; (2) the stand-in would refuse it; (3) the stand-in is not
    expected to be on time; (4) others wait for the stand-in, who have no answer at all; else the
    stand-in answers. An attempt that this instant brought to an end needs no decision.
    """
    state = step.state
    for event in step.doubts:
        record = _running(step, event)
        if record is None or record.attempt is None:
            continue
        state.counters[f"answers_{event.verdict.value}"] += 1
        if _may_move(step, record):
            abort(record.attempt, step.actions)
            record.moves = event.verdict
            continue
        state.counters["answers_kept"] += 1
        step.actions.append(AnswerKept(*record.attempt.fence))
        if record.request.streamed:
            record.first_token_ns = state.now_ns


def _running(step: Step, event: AnswerJudged) -> RequestRecord | None:
    """The request whose attempt was looked at, if that runs on."""
    record = step.state.requests.get(event.request_id)
    attempt = record.attempt if record is not None else None
    if attempt is None or attempt.number != event.attempt or attempt.aborting:
        return None
    return record


def _may_move(step: Step, record: RequestRecord) -> bool:
    request = record.request
    if record.moved or not request.stand_in:
        return False
    other = replace(request, model=request.stand_in)
    if refusal_of(step, other, None) is not None:
        return False
    option = option_of(step, other, step.state.models[other.model])
    if option.end_ns < 0:  # nobody knows when it would end
        return option.ready and not request.has_objectives
    # What waits there is late the sooner for each that is put before it.
    return option.holds and not (request.has_objectives and option.waiting)


def move_on(step: Step, record: RequestRecord) -> None:
    """The doubted attempt is over: from here on it is a request for the stand-in."""
    state, was = step.state, record.request
    verdict, record.moves = record.moves, None
    record.moved = True
    record.request = replace(was, model=was.stand_in)
    record.first_token_ns = -1
    # What was expected of the first model says nothing about the answer that is now to come.
    record.first_dispatch = None
    record.demoted = False
    state.counters["answers_moved"] += 1
    why = Passed(verdict.value) if verdict is not None else Passed.UNSURE
    passed = ((was.model, why.value),)
    step.actions.append(ModelChosen(was.id, record.request.model, passed))
    if state.is_sized:
        state.models[record.request.model].sizing.arrived(record.request, state.now_ns)
    enqueue(state, record)
    tell(state, Moment.ARRIVED, record)
