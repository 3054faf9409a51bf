"""A small model's answer is doubted: who answers then, once, and what is kept."""

from dataclasses import replace

import pytest

from slalom.core.actions import (
    AbortAttempt,
    Action,
    AnswerKept,
    Dispatch,
    EndRequest,
    ModelChosen,
    Outcome,
    Passed,
)
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    AttemptFinished,
    DrainRequested,
    FailureKind,
    FirstToken,
    RequestArrived,
    RequestCancelled,
    Verdict,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import Alternatives, Choice, Request, Sla, StepCost
from slalom.testing.recorder import Recorder
from slalom.units import MS, SECOND
from tests.core.stories import model, only, ready, request, watched

#: A token of either takes 1 ms and 10 ms.
SMALL = model("small", gib=1, step_cost=StepCost(1.0 * MS))
LARGE = model("large", gib=4, step_cost=StepCost(10.0 * MS))


def wanted(name: str = "r", sla: Sla | None = None, **more: object) -> Request:
    """A completion of 20 tokens for the small model, from which the large one may take over."""
    how = Alternatives(("small", "large"), Choice.CONFIDENT)
    asked = request(name, "small", 0, sla)
    return replace(asked, alternatives=how, predicted_tokens=20, **more)  # type: ignore[arg-type]


def both_up(**params: int) -> Recorder:
    """Both models are ready and idle."""
    story = watched(SMALL, LARGE, params=SchedulerParams(**params)) if params else watched(
        SMALL, LARGE
    )  # fmt: skip
    for name in ("small", "large"):
        story.tell(RequestArrived(request(f"up-{name}", name, story.now_ns)))
        (sent,) = only(ready(story), Dispatch)
        story.tell(AttemptFinished(sent.request_id, sent.attempt, 3))
    return story


def begun(story: Recorder, asked: Request) -> Dispatch:
    """It arrives, runs on the small model and has its first token."""
    at_ns = story.now_ns
    asked = replace(asked, arrived_ns=at_ns)
    (sent,) = only(story.tell(RequestArrived(asked)), Dispatch)
    assert sent.replica_id.startswith("small#")
    story.tell(FirstToken(sent.request_id, sent.attempt), after_ns=MS)
    return sent


def judged(story: Recorder, sent: Dispatch, verdict: Verdict) -> list[Action]:
    return story.tell(AnswerJudged(sent.request_id, sent.attempt, verdict))


def over(story: Recorder, sent: Dispatch) -> list[Action]:
    """Its attempt has stopped as it was told to."""
    failed = AttemptFailed(sent.request_id, sent.attempt, FailureKind.ABORTED, delivered=False)
    return story.tell(failed)


@pytest.mark.parametrize("verdict", [Verdict.UNSURE, Verdict.BROKEN])
def test_the_large_model_takes_over_once_the_small_one_has_stopped(verdict: Verdict) -> None:
    story = both_up()
    sent = begun(story, wanted())
    assert only(judged(story, sent, verdict), AbortAttempt) == [AbortAttempt("r", sent.attempt)]
    actions = over(story, sent)
    (choice,) = only(actions, ModelChosen)
    assert choice == ModelChosen("r", "large", (("small", Passed(verdict.value)),))
    (again,) = only(actions, Dispatch)
    assert again.replica_id.startswith("large#")
    (end,) = only(story.tell(AttemptFinished("r", again.attempt, 20)), EndRequest)
    assert (end.outcome, end.model, end.attempts) == (Outcome.DONE, "large", 2)
    assert end.first_token_ns == -1, "nothing of the small one's counts"


def test_a_trusted_answer_reaches_its_client_when_it_is_trusted() -> None:
    story = both_up()
    sent = begun(story, wanted(sla=Sla(ttft_ns=3 * MS)))
    at_ns = story.now_ns + 50 * MS
    actions = story.tell(AnswerJudged("r", sent.attempt, Verdict.TRUSTED), after_ns=50 * MS)
    assert not only(actions, AbortAttempt)
    (end,) = only(story.tell(AttemptFinished("r", sent.attempt, 20)), EndRequest)
    assert (end.model, end.first_token_ns, end.good) == ("small", at_ns, False)


def test_it_is_doubted_once_and_not_tried_as_a_failure() -> None:
    story = both_up(attempts_max=1)
    sent = begun(story, wanted())
    judged(story, sent, Verdict.UNSURE)
    (again,) = only(over(story, sent), Dispatch)
    actions = judged(story, again, Verdict.UNSURE)
    assert not only(actions, AbortAttempt), "there is nobody behind the large one"
    assert only(actions, AnswerKept) == [AnswerKept("r", again.attempt)]


def test_what_the_large_one_cannot_do_in_time_stays_with_the_small_one() -> None:
    story = both_up()
    # 20 tokens of the large model take 200 ms.
    in_time = begun(story, wanted("in-time", Sla(e2e_ns=400 * MS)))
    assert only(judged(story, in_time, Verdict.UNSURE), AbortAttempt)
    late = begun(story, wanted("late", Sla(e2e_ns=100 * MS)))
    actions = judged(story, late, Verdict.BROKEN)
    assert not only(actions, AbortAttempt)
    assert only(actions, AnswerKept) == [AnswerKept("late", late.attempt)]
    (end,) = only(story.tell(AttemptFinished("late", late.attempt, 20)), EndRequest)
    assert (end.model, end.first_token_ns) == ("small", end.ended_ns)


def test_a_large_one_that_is_not_up_is_waited_for_by_those_without_objectives_if_it_is_known(
) -> None:  # fmt: skip
    unknown = watched(SMALL, LARGE)
    unknown.tell(RequestArrived(request("up", "small", 0)))
    (sent,) = only(ready(unknown), Dispatch)
    unknown.tell(AttemptFinished("up", sent.attempt, 3))
    doubted = begun(unknown, wanted())
    actions = judged(unknown, doubted, Verdict.UNSURE)
    assert only(actions, AnswerKept), "nobody knows what its load takes"


def test_nobody_takes_over_while_the_server_drains() -> None:
    story = both_up()
    sent = begun(story, wanted())
    story.tell(DrainRequested(story.now_ns + 10 * SECOND))
    assert only(judged(story, sent, Verdict.UNSURE), AnswerKept)


def test_a_client_that_leaves_between_doubt_and_stop_leaves_nothing() -> None:
    story = both_up()
    sent = begun(story, wanted())
    judged(story, sent, Verdict.UNSURE)
    (end,) = only(story.tell(RequestCancelled("r")), EndRequest)
    assert end.outcome is Outcome.CANCELLED
    assert not over(story, sent), "the attempt is over, and nothing follows"
    assert not only(judged(story, sent, Verdict.UNSURE), AnswerKept), "a stale fence"


def test_a_doubted_attempt_that_crashes_instead_is_tried_again_where_it_was() -> None:
    story = both_up()
    sent = begun(story, wanted())
    judged(story, sent, Verdict.UNSURE)
    crashed = AttemptFailed("r", sent.attempt, FailureKind.CRASHED, delivered=False)
    (again,) = only(story.tell(crashed), Dispatch)
    assert again.replica_id.startswith("small#")
    judged(story, again, Verdict.UNSURE)
    (third,) = only(over(story, again), Dispatch)
    assert third.replica_id.startswith("large#")


def test_a_doubted_answer_that_ends_after_all_is_done() -> None:
    story = both_up()
    sent = begun(story, wanted())
    judged(story, sent, Verdict.UNSURE)
    (end,) = only(story.tell(AttemptFinished("r", sent.attempt, 20)), EndRequest)
    assert (end.outcome, end.model) == (Outcome.DONE, "small")


def test_without_the_small_one_the_large_one_answers_and_is_not_doubted() -> None:
    story = watched(SMALL, LARGE)
    story.tell(RequestArrived(request("up", "large", 0)))
    (sent,) = only(ready(story), Dispatch)
    story.tell(AttemptFinished("up", sent.attempt, 3))
    actions = story.tell(RequestArrived(wanted()))
    (choice,) = only(actions, ModelChosen)
    assert choice == ModelChosen("r", "large", (("small", Passed.NOT_READY),))
    assert replace(wanted(), model="large").stand_in == ""
