"""Each event, on its own: what it changes, and that a stale fence changes nothing."""

from typing import get_args

import pytest

from slalom.core.actions import AbortAttempt, Dispatch, DrainComplete, EndRequest, Outcome, Reason
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    DrainRequested,
    Event,
    FailureKind,
    FirstToken,
    LoadProgress,
    MemorySampled,
    Progress,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Sla
from slalom.core.scheduler import Scheduler
from slalom.core.transitions import TRANSITIONS
from slalom.errors import ConfigError, InvariantError
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import GIB, SECOND
from tests.core.stories import (
    GPU,
    arrive,
    dispatched,
    gone,
    loaded,
    model,
    only,
    ready,
    request,
    resident,
    unloaded,
    watched,
)


def running(*names: str, **spec: object) -> Recorder:
    """A story in which requests run on model `a`."""
    story = watched(model(**spec))  # type: ignore[arg-type]
    arrive(story, *names)
    ready(story, after_ns=SECOND)
    return story


def ends(story: Recorder) -> dict[str, tuple[Outcome, str]]:
    return {end.request_id: (end.outcome, end.reason) for end in story.actions(EndRequest)}


def test_every_event_has_its_transition() -> None:
    assert set(get_args(Event)) == set(TRANSITIONS)


# -- requests ---------------------------------------------------------------------------------


def test_an_arrival_loads_its_model_and_is_dispatched_once_that_is_ready() -> None:
    story = watched()
    assert loaded(arrive(story, "r1", "r2")) == ["a#0"]
    actions = ready(story)
    assert dispatched(actions) == ["r1", "r2"]
    assert only(actions, Dispatch)[0] == Dispatch("r1", 1, "a#0", 1)


def test_many_first_requests_cause_one_load() -> None:
    story = watched()
    for index in range(20):
        arrive(story, f"r{index}", after_ns=1)
    assert story.counter("loads") == 1


def test_an_arrival_told_twice_is_counted_and_nothing_else() -> None:
    story = running("r1")
    assert story.tell(RequestArrived(request("r1"))) == []
    assert story.counter("duplicate_events") == 1


@pytest.mark.parametrize(
    ("of", "reason"), [("nobody", Reason.UNKNOWN_MODEL), ("huge", Reason.DOES_NOT_FIT)]
)
def test_what_can_never_run_is_refused_at_once(of: str, reason: Reason) -> None:
    story = watched(model(), model("huge", 11))
    end = only(arrive(story, "r1", of=of), EndRequest)[0]
    assert (end.outcome, end.reason) == (Outcome.REJECTED, reason)


def test_a_full_queue_refuses_with_advice() -> None:
    story = watched(params=SchedulerParams(queue_max=2))
    actions = arrive(story, "r1", "r2", "r3")
    end = only(actions, EndRequest)[0]
    assert (end.request_id, end.reason) == ("r3", Reason.QUEUE_FULL)
    assert end.retry_after_ns > 0


def test_pinned_models_leave_less_room_for_the_others() -> None:
    story = watched(model("pin", 4, pinned=True), model("b", 7))
    end = only(arrive(story, "r1", of="b"), EndRequest)[0]
    assert end.reason == Reason.DOES_NOT_FIT
    assert "4.0 GiB" not in end.detail
    assert "6.0 GiB" in end.detail


def test_cancelling_what_waits_frees_its_place_in_line() -> None:
    story = watched(params=SchedulerParams(queue_max=1))
    arrive(story, "r1")
    story.tell(RequestCancelled("r1"))
    assert ends(story) == {"r1": (Outcome.CANCELLED, "")}
    arrive(story, "r2")
    assert "r2" not in ends(story)


def test_cancelling_what_runs_aborts_it_and_its_place_stays_taken_until_that_is_confirmed() -> None:
    story = running("r1", places=1)
    assert only(story.tell(RequestCancelled("r1")), AbortAttempt) == [AbortAttempt("r1", 1)]
    assert dispatched(arrive(story, "r2")) == []
    aborted = AttemptFailed("r1", 1, FailureKind.ABORTED, delivered=False)
    assert dispatched(story.tell(aborted)) == ["r2"]


def test_cancelling_what_has_ended_is_stale() -> None:
    story = running("r1")
    story.tell(AttemptFinished("r1", 1, 5))
    assert story.tell(RequestCancelled("r1")) == []
    assert story.counter("stale_events") == 1


# -- attempts ---------------------------------------------------------------------------------


def test_the_record_of_a_finished_request_holds_its_stamps() -> None:
    story = running("r1")
    story.tell(FirstToken("r1", 1), after_ns=2 * SECOND)
    story.tell(Progress("r1", 1, 7), after_ns=SECOND)
    end = only(story.tell(AttemptFinished("r1", 1, 9, 10), after_ns=SECOND), EndRequest)[0]
    stamps = (end.arrived_ns, end.first_dispatch_ns, end.dispatch_ns, end.first_token_ns)
    assert stamps == (0, SECOND, SECOND, 3 * SECOND)
    assert (end.ended_ns, end.output_tokens, end.replica_id) == (5 * SECOND, 9, "a#0")
    assert (end.outcome, end.attempts, end.good) == (Outcome.DONE, 1, True)


@pytest.mark.parametrize(
    ("sla", "good"),
    [
        (Sla(ttft_ns=3 * SECOND), True),
        (Sla(ttft_ns=3 * SECOND - 1), False),
        (Sla(e2e_ns=5 * SECOND), True),
        (Sla(e2e_ns=5 * SECOND - 1), False),
        (Sla(tpot_ns=SECOND // 4), True),
        (Sla(tpot_ns=SECOND // 4 - 1), False),
    ],
)
def test_good_means_that_every_objective_held(sla: Sla, good: bool) -> None:
    story = watched()
    arrive(story, "r1", sla=sla)
    ready(story, after_ns=SECOND)
    story.tell(FirstToken("r1", 1), after_ns=2 * SECOND)
    end = only(story.tell(AttemptFinished("r1", 1, 9), after_ns=2 * SECOND), EndRequest)[0]
    assert end.good is good


@pytest.mark.parametrize(
    "event",
    [
        FirstToken("r1", 2),
        Progress("r1", 2, 5),
        AttemptFinished("r1", 2, 5),
        AttemptFailed("r1", 2, FailureKind.CRASHED, delivered=False),
        ReplicaReady("a#0", 7),
        ReplicaFailed("a#0", 7, FailureKind.CRASHED),
        ReplicaGone("a#0", 7),
        LoadProgress("a#0", 7, 0.5),
        MemorySampled("a#0", 7, 5 * GIB, 0),
        ReplicaGone("a#1", 1),
        ReplicaGone("nobody#0", 1),
        ReplicaGone("no name", 1),
    ],
    ids=repr,
)
def test_a_stale_fence_changes_nothing_and_is_counted(event: Event) -> None:
    story = running("r1")
    before = story.scheduler.snapshot()
    assert story.tell(event) == []
    after = story.scheduler.snapshot()
    assert (before.models, before.devices) == (after.models, after.devices)
    assert story.counter("stale_events") == 1


def test_a_failed_attempt_is_tried_again_ahead_of_those_who_came_later() -> None:
    story = running("r1", "r2", places=1)
    arrive(story, "r3", after_ns=1)
    error = AttemptFailed("r1", 1, FailureKind.ENGINE_ERROR, delivered=False)
    assert only(story.tell(error), Dispatch) == [Dispatch("r1", 2, "a#0", 1)]


def test_a_request_has_only_so_many_attempts() -> None:
    story = running("r1")
    for attempt in (1, 2, 3):
        story.tell(AttemptFailed("r1", attempt, FailureKind.ENGINE_ERROR, delivered=False))
    assert ends(story) == {"r1": (Outcome.FAILED, FailureKind.ENGINE_ERROR)}
    assert story.counter("retries") == 2


@pytest.mark.parametrize(
    ("kind", "delivered"), [(FailureKind.CRASHED, True), (FailureKind.REFUSED, False)]
)
def test_what_cannot_be_tried_again_fails(kind: FailureKind, delivered: bool) -> None:
    story = running("r1")
    story.tell(AttemptFailed("r1", 1, kind, delivered=delivered, output_tokens=3))
    assert ends(story) == {"r1": (Outcome.FAILED, kind)}
    assert story.actions(EndRequest)[0].output_tokens == 3


def test_a_stalled_attempt_takes_its_replica_with_it() -> None:
    story = running("r1")
    actions = story.tell(AttemptFailed("r1", 1, FailureKind.STALLED, delivered=False))
    assert unloaded(actions) == [("a#0", "failed")]
    assert loaded(actions) == ["a#1"], "there is room, so nobody waits for the hung process"


def test_an_attempt_that_finishes_after_it_was_cancelled_only_frees_its_place() -> None:
    story = running("r1", places=1)
    story.tell(RequestCancelled("r1"))
    arrive(story, "r2")
    assert dispatched(story.tell(AttemptFinished("r1", 1, 5))) == ["r2"]
    assert ends(story) == {"r1": (Outcome.CANCELLED, "")}


# -- replicas ---------------------------------------------------------------------------------


def test_progress_of_a_load_is_seen_and_never_goes_back() -> None:
    story = watched()
    arrive(story, "r1")
    story.tell(LoadProgress("a#0", 1, 0.6), LoadProgress("a#0", 1, 0.2), LoadProgress("a#0", 1, 9))
    seen = story.scheduler.model_snapshot("a")
    assert seen is not None
    assert (seen.state, seen.load_fraction) == ("loading", 1.0)


def test_a_measurement_above_the_estimate_is_booked_and_remembered() -> None:
    story = running("r1")
    story.tell(MemorySampled("a#0", 1, 6 * GIB, story.now_ns))
    assert story.scheduler.snapshot().devices[0].booked_bytes == 6 * GIB
    story.tell(AttemptFinished("r1", 1, 5), ReplicaFailed("a#0", 1, FailureKind.CRASHED))
    gone(story)
    arrive(story, "r2")
    assert story.scheduler.snapshot().devices[0].booked_bytes == 6 * GIB
    assert story.counter("ledger_drift") == 1


def test_an_older_measurement_does_not_replace_a_newer_one() -> None:
    story = running("r1")
    story.tell(MemorySampled("a#0", 1, 5 * GIB, 100), MemorySampled("a#0", 1, 6 * GIB, 50))
    assert story.scheduler.snapshot().devices[0].measured_bytes == 5 * GIB


def test_a_crashed_replica_fails_what_ran_there_and_is_replaced() -> None:
    story = running("r1", "r2")
    story.tell(FirstToken("r1", 1))
    crash = ReplicaFailed("a#0", 1, FailureKind.CRASHED)
    assert unloaded(story.tell(crash)) == [("a#0", "failed")]
    assert story.tell(crash) == [], "told twice"
    gone(story)
    assert ends(story) == {"r1": (Outcome.FAILED, FailureKind.CRASHED)}
    assert only(ready(story), Dispatch) == [Dispatch("r2", 2, "a#0", 2)]


def test_a_failed_load_backs_off_and_then_fails_those_who_wait() -> None:
    story = watched()
    arrive(story, "r1")
    story.tell(ReplicaFailed("a#0", 1, FailureKind.START_FAILED, "port taken"))
    assert loaded(gone(story)) == []
    assert loaded(story.tell(TimerFired(), after_ns=SECOND)) == ["a#0"]
    story.tell(ReplicaFailed("a#0", 2, FailureKind.START_FAILED, "port taken"))
    assert ends(story) == {"r1": (Outcome.FAILED, FailureKind.START_FAILED)}
    assert story.actions(EndRequest)[0].detail == "port taken"
    refused = only(arrive(story, "r2"), EndRequest)[0]
    assert (refused.reason, refused.retry_after_ns) == (Reason.LOAD_BACKOFF, 2 * SECOND)
    gone(story)
    assert loaded(arrive(story, "r3", after_ns=2 * SECOND)) == ["a#0"]


def test_a_file_that_is_no_model_fails_those_who_wait_at_once() -> None:
    story = watched()
    arrive(story, "r1")
    story.tell(ReplicaFailed("a#0", 1, FailureKind.MODEL_UNUSABLE, "not a GGUF"))
    end = story.actions(EndRequest)[0]
    assert (end.outcome, end.retry_after_ns) == (Outcome.FAILED, 0)


def test_a_replica_that_became_ready_too_late_is_not_resurrected() -> None:
    story = watched()
    arrive(story, "r1")
    story.tell(RequestCancelled("r1"))
    assert story.tell(ReplicaReady("a#0", 1)) == []
    # Another one comes up beside it, because there is room: the first stays a victim.
    assert loaded(arrive(story, "r2")) == ["a#1"]


def test_a_pinned_model_is_loaded_at_start_and_again_after_a_crash() -> None:
    story = watched(model(pinned=True))
    assert loaded(story.handle()) == ["a#0"]
    ready(story)
    story.tell(ReplicaFailed("a#0", 1, FailureKind.CRASHED))
    assert loaded(gone(story)) == ["a#0"]


# -- drain ------------------------------------------------------------------------------------


def test_a_drain_takes_nothing_new_finishes_what_is_here_and_says_so_once() -> None:
    story = running("r1", "r2", "r3", places=2)
    story.tell(DrainRequested(story.now_ns + 9 * SECOND))
    refused = only(arrive(story, "r4"), EndRequest)[0]
    assert (refused.reason, refused.retry_after_ns) == (Reason.DRAINING, 9 * SECOND)
    assert dispatched(story.tell(AttemptFinished("r1", 1, 5))) == ["r3"]
    story.tell(AttemptFinished("r2", 1, 5))
    assert unloaded(story.tell(AttemptFinished("r3", 1, 5))) == [("a#0", "shutdown")]
    actions = gone(story)
    assert [type(action).__name__ for action in actions] == ["DrainComplete"]
    assert only(story.tell(TimerFired(), after_ns=SECOND), DrainComplete) == []


def test_a_drain_that_takes_too_long_ends_everything() -> None:
    story = running("r1", "r2", "r3", places=2)
    story.tell(DrainRequested(story.now_ns + SECOND))
    actions = story.tell(TimerFired(), after_ns=SECOND)
    assert len(only(actions, AbortAttempt)) == 2
    assert {reason for _, reason in ends(story).values()} == {Reason.DRAINING}
    assert {outcome for outcome, _ in ends(story).values()} == {Outcome.REJECTED, Outcome.FAILED}
    gone(story)
    assert story.counter("drain_unfinished") == 3


def test_a_second_drain_can_only_hurry() -> None:
    story = running("r1")
    story.tell(DrainRequested(story.now_ns + 5 * SECOND))
    story.tell(DrainRequested(story.now_ns + 9 * SECOND))
    assert story.scheduler.state.drain_deadline_ns == story.now_ns + 5 * SECOND
    story.tell(DrainRequested(story.now_ns + SECOND))
    assert story.scheduler.state.drain_deadline_ns == story.now_ns + SECOND


# -- the door ---------------------------------------------------------------------------------


def test_time_must_not_run_backwards() -> None:
    story = running("r1")
    with pytest.raises(InvariantError, match="backwards"):
        story.scheduler.handle([], story.now_ns - 1)


@pytest.mark.parametrize(
    ("models", "devices", "message"),
    [
        ([model(), model()], [GPU], "same id"),
        ([model()], [GPU, GPU], "same id"),
        ([ModelSpec("a", "nowhere", 1, 1)], [GPU], "nowhere"),
        ([model(places=0)], [GPU], "at least 1"),
        ([model(replicas=0)], [GPU], "at least 1"),
        ([model(gib=-1)], [GPU], "at least 1"),
        ([model(gib=6, pinned=True), model("b", 6, pinned=True)], [GPU], "pin fewer"),
    ],
)
def test_impossible_worlds_are_refused(
    models: list[ModelSpec], devices: list[DeviceSpec], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheduler(models, devices, policies())


def test_things_say_what_they_hold() -> None:
    story = running("r1", places=1)
    arrive(story, "r2")
    resident(story)
    state = story.scheduler.state
    shown = [repr(story.scheduler), repr(state), repr(state.models["a"]), repr(state.devices)]
    shown += [repr(replica) for replica in state.all_replicas()]
    shown += [repr(record) for record in state.requests.values()]
    assert all("object at 0x" not in text for text in shown)
    assert "waiting=1" in shown[1]
