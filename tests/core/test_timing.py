"""What time alone brings: every time-out, and the one timer that wakes the scheduler for it."""

from slalom.core.actions import EndRequest, SetTimer
from slalom.core.events import AttemptFailed, FailureKind, TimerFired
from slalom.core.params import SchedulerParams
from slalom.units import SECOND
from tests.core.stories import arrive, dispatched, model, only, ready, watched


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
