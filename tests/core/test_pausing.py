"""Pauses: what was produced is kept, what races with a pause, and what bounds it."""

from dataclasses import replace

import pytest

from slalom.core.actions import AbortAttempt, Dispatch, EndRequest, Outcome
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    DrainRequested,
    FailureKind,
    FirstToken,
    Progress,
    ReplicaGone,
    RequestCancelled,
)
from slalom.core.params import SchedulerParams
from slalom.core.planned import PAUSES_MAX
from slalom.core.planning import (
    Plan,
    Start,
)
from slalom.testing.recorder import Recorder
from slalom.units import SECOND
from tests.core.plans import Script, aborted, end_of, planned, resumable
from tests.core.stories import (
    arrive,
    dispatched,
    model,
    only,
)


def pausing(tokens: int = 5, **params: int) -> tuple[Recorder, Script]:
    """`r1` runs on the only place, has produced something, and is told to pause for `r2`."""
    script = Script()
    story = planned(script, model(places=1), params=SchedulerParams(**params))
    story.tell(resumable("r1"), after_ns=SECOND)
    if tokens:
        story.tell(FirstToken("r1", 1), after_ns=SECOND)
    script.plans = [Plan(pauses=["r1"])]
    actions = story.tell(resumable("r2", story.now_ns))
    assert only(actions, AbortAttempt) == [AbortAttempt("r1", 1, pause=True)]
    assert dispatched(actions) == [], "its place stays taken until it has stopped"
    return story, script


def test_what_was_paused_goes_on_behind_its_tokens() -> None:
    story, script = pausing(attempts_max=1)
    first_ns = story.now_ns
    script.plans = [Plan([Start("r2", "a#0")])]
    assert dispatched(story.tell(aborted("r1", 5), after_ns=SECOND)) == ["r2"]
    (waiting,) = story.scheduler.state.models["a"].waiting(9)
    assert (waiting.produced_tokens, waiting.pauses) == (5, 1)
    assert waiting.first_token_ns == first_ns
    actions = story.tell(AttemptFinished("r2", 1, 1), after_ns=SECOND)
    assert only(actions, Dispatch) == [Dispatch("r1", 2, "a#0", 1, resumed_tokens=5)]
    story.tell(FirstToken("r1", 2), after_ns=SECOND)
    story.tell(AttemptFinished("r1", 2, 7), after_ns=SECOND)
    end = end_of(story, "r1")
    assert (end.outcome, end.output_tokens, end.pauses) == (Outcome.DONE, 12, 1)
    assert (end.attempts, end.first_token_ns) == (2, first_ns)


def test_pauses_do_not_count_as_attempts_that_failed() -> None:
    story, script = pausing(attempts_max=2)
    script.plans = [Plan([Start("r1", "a#0")])]
    story.tell(aborted("r1", 5))
    crash = AttemptFailed("r1", 2, FailureKind.CRASHED, delivered=False)
    script.plans = [Plan([Start("r1", "a#0")])]
    assert dispatched(story.tell(crash)) == ["r1"], "its second attempt of two"
    story.tell(AttemptFailed("r1", 3, FailureKind.CRASHED, delivered=False))
    assert end_of(story, "r1").outcome is Outcome.FAILED


def test_an_answer_that_is_whole_before_it_could_pause_is_done() -> None:
    story, _ = pausing()
    assert dispatched(story.tell(AttemptFinished("r1", 1, 6))) == ["r2"]
    end = end_of(story, "r1")
    assert (end.outcome, end.output_tokens, end.pauses) == (Outcome.DONE, 6, 0)


@pytest.mark.parametrize(
    ("tokens", "kind", "outcome"),
    [
        (5, FailureKind.CRASHED, Outcome.FAILED),
        (5, FailureKind.ENGINE_ERROR, Outcome.FAILED),
        (0, FailureKind.REFUSED, Outcome.FAILED),
        (0, FailureKind.CRASHED, None),
    ],
)
def test_what_fails_while_it_is_to_pause_has_failed(
    tokens: int, kind: FailureKind, outcome: Outcome | None
) -> None:
    story, _ = pausing(tokens)
    story.tell(AttemptFailed("r1", 1, kind, tokens > 0, tokens))
    ended = [end.outcome for end in story.actions(EndRequest) if end.request_id == "r1"]
    assert ended == ([outcome] if outcome else [])
    assert story.counter("pauses") == 0
    assert story.counter("retries") == (outcome is None)


def test_a_client_that_leaves_while_its_attempt_pauses_ends_it_for_good() -> None:
    story, _ = pausing()
    actions = story.tell(RequestCancelled("r1"))
    assert only(actions, AbortAttempt) == [AbortAttempt("r1", 1)]
    assert end_of(story, "r1").outcome is Outcome.CANCELLED
    assert dispatched(story.tell(aborted("r1", 5))) == ["r2"]


def test_what_leaves_already_is_not_paused_again_and_nothing_is_paused_for_ever() -> None:
    story, script = pausing()
    script.plans = [Plan(pauses=["r1"])]
    arrive(story, "r3")
    assert story.counter("plan_misfits") == 1
    for number in range(1, PAUSES_MAX + 1):
        script.plans = [Plan([Start("r1", "a#0")]), Plan(pauses=["r1"])]
        story.tell(aborted("r1", 1, number))
        arrive(story, f"s{number}")
    assert story.counter("pauses") == PAUSES_MAX
    assert story.counter("plan_misfits") == 2
    assert not story.scheduler.state.requests["r1"].pausing


@pytest.mark.parametrize("how", ["event", "process", "silence"])
def test_a_resumed_attempt_that_gave_nothing_is_tried_again(how: str) -> None:
    """What the client got came from an earlier attempt: nothing of this one is lost."""
    story, script = pausing()
    first_ns = story.now_ns
    script.plans = [Plan([Start("r1", "a#0")])]
    story.tell(aborted("r1", 5))
    script.plans = [Plan(), Plan()]
    if how == "event":
        story.tell(AttemptFailed("r1", 2, FailureKind.CRASHED, delivered=False))
    elif how == "process":
        story.tell(ReplicaGone("a#0", 1))
    else:
        limit_ns = story.scheduler.params.attempt_silence_ns
        story.scheduler.params = replace(story.scheduler.params, queue_timeout_ns=2 * limit_ns)
        story.checker = None
        story.tell(after_ns=limit_ns)
    record = story.scheduler.state.requests["r1"]
    assert record.in_queue
    assert (record.first_token_ns, record.produced_tokens) == (first_ns, 5)


@pytest.mark.parametrize("how", ["queue_timeout", "draining"])
def test_half_an_answer_that_waits_too_long_has_failed_and_is_not_refused(how: str) -> None:
    story, script = pausing()
    script.plans = [Plan([Start("r2", "a#0")])]
    story.tell(aborted("r1", 5))
    if how == "draining":
        story.tell(DrainRequested(story.now_ns + SECOND))
        story.tell(after_ns=SECOND)
    else:
        script.plans = [Plan()] * 3
        arrive(story, "r3")
        story.tell(Progress("r2", 1, 1), after_ns=story.scheduler.params.queue_timeout_ns)
        assert end_of(story, "r3").outcome is Outcome.REJECTED
    end = end_of(story, "r1")
    assert (end.outcome, end.reason, end.output_tokens) == (Outcome.FAILED, how, 5)
