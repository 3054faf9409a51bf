"""What time alone brings: every time-out, and the one timer that wakes the scheduler for it."""

from slalom.core.actions import (
    AbortAttempt,
    EndRequest,
    LoadReplica,
    Reason,
    SetTimer,
    UnloadCause,
    UnloadReplica,
)
from slalom.core.events import (
    AttemptFailed,
    FailureKind,
    FirstToken,
    LoadProgress,
    Progress,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.units import SECOND
from tests.core.stories import (
    arrive,
    dispatched,
    gone,
    loaded,
    model,
    only,
    ready,
    resident,
    unloaded,
    watched,
)


def test_a_request_tried_again_starts_a_new_wait_and_hides_no_older_one() -> None:
    story = watched(model(places=1), params=SchedulerParams(queue_timeout_ns=10 * SECOND))
    arrive(story, "r1")
    ready(story)
    arrive(story, "r2", after_ns=4 * SECOND)
    # r1 fails at 8 s and is tried again at once; r2 has waited since 4 s and is due at 14 s.
    actions = story.tell(
        AttemptFailed("r1", 1, FailureKind.ENGINE_ERROR, delivered=False), after_ns=4 * SECOND
    )
    assert dispatched(actions) == ["r1"]
    assert story.scheduler.state.timer_ns <= 14 * SECOND
    actions = story.tell(TimerFired(), after_ns=6 * SECOND)
    assert [end.request_id for end in only(actions, EndRequest)] == ["r2"]


def test_a_timer_lies_ahead_even_after_a_late_retry() -> None:
    params = SchedulerParams(queue_timeout_ns=2 * SECOND)
    story = watched(model(places=1), params=params)
    arrive(story, "r1", "r2")
    ready(story)
    actions = story.tell(
        AttemptFailed("r1", 1, FailureKind.ENGINE_ERROR, delivered=False), after_ns=2 * SECOND
    )
    assert dispatched(actions) == ["r1"]
    assert all(timer.at_ns > story.now_ns for timer in only(actions, SetTimer))


def test_what_waits_too_long_is_refused_in_the_order_of_its_waiting() -> None:
    story = watched(model(places=1), params=SchedulerParams(queue_timeout_ns=5 * SECOND))
    arrive(story, "r1")
    ready(story)
    arrive(story, "r2", after_ns=SECOND)
    arrive(story, "r3", after_ns=SECOND)
    assert only(story.tell(TimerFired(), after_ns=4 * SECOND - 1), EndRequest) == []
    end = only(story.tell(TimerFired(), after_ns=1), EndRequest)
    assert [(e.request_id, e.reason) for e in end] == [("r2", Reason.QUEUE_TIMEOUT)]
    assert end[0].retry_after_ns > 0


def test_a_silent_attempt_is_stalled_and_its_replica_is_replaced() -> None:
    story = watched(params=SchedulerParams(attempt_silence_ns=5 * SECOND))
    arrive(story, "r1", "r2")
    ready(story)
    story.tell(FirstToken("r2", 1), after_ns=3 * SECOND)
    actions = story.tell(TimerFired(), after_ns=2 * SECOND)
    assert unloaded(actions) == [("a#0", "failed")]
    assert loaded(actions) == ["a#1"]
    story.tell(Progress("r1", 1, 7))
    assert story.counter("stale_events") == 1
    assert dispatched(ready(story)) == ["r1"], "r2 still runs on the old one, as far as we know"
    gone(story)
    assert story.actions(EndRequest)[-1].request_id == "r2"


def test_a_load_that_never_ends_is_given_up() -> None:
    story = watched(params=SchedulerParams(load_timeout_ns=9 * SECOND, load_failures_max=1))
    arrive(story, "r1")
    actions = story.tell(TimerFired(), after_ns=9 * SECOND)
    assert unloaded(actions) == [("a#0", "failed")]
    assert only(actions, EndRequest)[0].reason == FailureKind.LOAD_TIMEOUT


def test_a_load_that_stands_still_is_given_up() -> None:
    params = SchedulerParams(load_stall_ns=5 * SECOND, load_failures_max=1)
    story = watched(params=params)
    (load,) = only(arrive(story, "r1"), LoadReplica)
    fence = (load.replica_id, load.epoch)
    assert not unloaded(story.tell(TimerFired(), after_ns=30 * SECOND)), "nothing was told yet"
    story.tell(LoadProgress(*fence, 0.2))
    story.tell(LoadProgress(*fence, 0.6), after_ns=4 * SECOND)
    story.tell(LoadProgress(*fence, 0.6), after_ns=4 * SECOND)
    actions = story.tell(TimerFired(), after_ns=1 * SECOND)
    assert unloaded(actions) == [("a#0", "failed")]
    (end,) = only(actions, EndRequest)
    assert end.reason == FailureKind.LOAD_STALLED
    assert "stood still at 60%" in end.detail


def test_a_load_that_gets_on_or_is_through_is_not() -> None:
    story = watched(params=SchedulerParams(load_stall_ns=5 * SECOND))
    (load,) = only(arrive(story, "r1"), LoadReplica)
    fence = (load.replica_id, load.epoch)
    for tenth in range(1, 11):
        assert not unloaded(story.tell(LoadProgress(*fence, tenth / 10), after_ns=4 * SECOND))
    assert not unloaded(story.tell(TimerFired(), after_ns=60 * SECOND))


def test_an_unload_that_is_not_confirmed_is_asked_for_again_and_again() -> None:
    story = watched(params=SchedulerParams(unload_timeout_ns=7 * SECOND))
    arrive(story, "r1")
    story.tell(RequestCancelled("r1"))
    for _ in range(3):
        actions = story.tell(TimerFired(), after_ns=7 * SECOND)
        assert only(actions, UnloadReplica) == [UnloadReplica("a#0", 1, UnloadCause.FAILED)]
    assert story.counter("unloads_asked_again") == 3


def test_a_timer_that_fires_early_or_for_nothing_is_set_again() -> None:
    story = watched(params=SchedulerParams(queue_timeout_ns=5 * SECOND))
    arrive(story, "r1")
    assert story.scheduler.state.timer_ns == 5 * SECOND
    assert only(story.tell(TimerFired(), after_ns=SECOND), SetTimer) == [SetTimer(5 * SECOND)]


def test_a_timer_is_replaced_only_by_an_earlier_one() -> None:
    story = watched(params=SchedulerParams(queue_timeout_ns=5 * SECOND))
    arrive(story, "r1")
    assert only(arrive(story, "r2", after_ns=SECOND), SetTimer) == []
    assert len(story.actions(SetTimer)) == 1


def test_with_nothing_to_wait_for_no_timer_is_set() -> None:
    story = watched()
    resident(story, "a")
    story.tell(TimerFired(), after_ns=1_000 * SECOND)
    assert story.scheduler.state.timer_ns == -1
    assert only(story.handle(), AbortAttempt) == []
