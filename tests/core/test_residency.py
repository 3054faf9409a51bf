"""Which models are loaded and what gives way: one small story for each rule of the pass."""

import pytest

from slalom.core.actions import AbortAttempt, EndRequest, Reason
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    DeviceSampled,
    FailureKind,
    MemorySampled,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.snapshot import ModelState
from slalom.units import GIB, SECOND
from tests.core.stories import (
    AT_ONCE,
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

# -- loading ----------------------------------------------------------------------------------


def test_two_models_that_fit_are_loaded_side_by_side() -> None:
    story = watched(model("a", 4), model("b", 6))
    assert loaded(arrive(story, "r1")) + loaded(arrive(story, "r2", of="b")) == ["a#0", "b#0"]


def test_bytes_are_booked_before_the_load_and_free_only_when_the_process_is_gone() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    resident(story, "a")
    assert loaded(arrive(story, "r1", of="b", after_ns=1)) == []
    assert story.scheduler.snapshot().devices[0].booked_bytes == 6 * GIB
    assert loaded(gone(story)) == ["b#0"]


def test_a_load_that_nobody_waits_for_any_more_is_cancelled() -> None:
    story = watched()
    arrive(story, "r1", "r2")
    assert unloaded(story.tell(RequestCancelled("r1"))) == []
    assert unloaded(story.tell(RequestCancelled("r2"))) == [("a#0", "unwanted")]


def test_a_further_load_is_cancelled_once_the_model_has_nothing_left_to_do() -> None:
    story = watched(model("a", 4, places=1, replicas=2))
    arrive(story, "r1", "r2")
    assert loaded(ready(story)) == ["a#1"]
    assert dispatched(story.tell(AttemptFinished("r1", 1, 1))) == ["r2"]
    assert unloaded(story.tell(AttemptFinished("r2", 1, 1))) == [("a#1", "unwanted")]


def test_a_busy_model_grows_into_free_memory_only() -> None:
    story = watched(model("a", 4, places=1, replicas=3))
    arrive(story, "r1", "r2", "r3", "r4")
    assert loaded(ready(story)) == ["a#1"]
    assert loaded(ready(story)) == [], "8 of 10 GiB are taken"
    assert dispatched(story.tell(AttemptFinished("r1", 1, 1))) == ["r3"]


def test_growth_waits_for_models_that_have_no_replica_at_all() -> None:
    story = watched(model("a", 3, places=1, replicas=3), model("b", 7))
    arrive(story, "r1", "r2")
    arrive(story, "s1", of="b")
    assert loaded(ready(story)) == []
    assert story.scheduler.state.models["b"].replicas, "b was loaded first"


def test_a_growing_model_whose_further_load_failed_waits_out_its_back_off() -> None:
    story = watched(model(gib=2, places=1, replicas=2))
    arrive(story, "r1", "r2")
    assert loaded(ready(story)) == ["a#1"]
    actions = story.tell(ReplicaFailed("a#1", 2, FailureKind.START_FAILED))
    assert unloaded(actions) == [("a#1", "failed")]
    assert loaded(gone(story)) == []
    assert loaded(arrive(story, "r3", after_ns=SECOND // 2)) == []
    assert loaded(arrive(story, "r4", after_ns=SECOND)) == ["a#1"]


def test_a_process_that_ends_while_it_loads_is_a_failed_load() -> None:
    story = watched(params=SchedulerParams(load_failures_max=1))
    arrive(story, "r1")
    assert loaded(story.tell(ReplicaGone("a#0", 1))) == []
    assert story.counter("ended_failed") == 1
    assert story.scheduler.state.models["a"].failures == 1


def test_a_model_that_takes_no_memory_never_waits_for_memory() -> None:
    story = watched(model("a", 8), model("b", 8), model("free", 0))
    arrive(story, "r1")
    ready(story)
    arrive(story, "r2", of="b")
    assert loaded(arrive(story, "r3", of="free")) == ["free#0"]


# -- giving way -------------------------------------------------------------------------------


def test_the_least_recently_used_gives_way() -> None:
    story = watched(model("a", 5), model("b", 5), model("c", 5), params=AT_ONCE)
    resident(story, "a", "b")
    arrive(story, "r1", after_ns=1)
    story.tell(AttemptFinished("r1", 1, 1), after_ns=1)
    assert unloaded(arrive(story, "r2", of="c", after_ns=1)) == [("b#0", "evicted")]
    assert loaded(gone(story)) == ["c#0"]


def test_what_is_busy_gives_way_only_when_patience_has_run_out() -> None:
    params = SchedulerParams(swap_patience_ns=2 * SECOND, min_residency_ns=0)
    story = watched(model("a", 6), model("b", 6), params=params)
    resident(story, "a")
    arrive(story, "r1")
    arrive(story, "s1", of="b", after_ns=SECOND)
    assert dispatched(arrive(story, "r2", after_ns=SECOND)) == ["r2"]
    story.tell(TimerFired(), after_ns=SECOND)
    # From here on `a` drains: overlapping traffic can hold `b` up no longer.
    assert dispatched(arrive(story, "r3", after_ns=1)) == []
    story.tell(AttemptFinished("r1", 1, 1))
    assert unloaded(story.tell(AttemptFinished("r2", 1, 1))) == [("a#0", "evicted")]
    assert loaded(gone(story)) == ["b#0"]
    assert dispatched(ready(story)) == ["s1"]


def test_what_just_became_ready_stays_for_its_minimum_time() -> None:
    params = SchedulerParams(swap_patience_ns=0, min_residency_ns=3 * SECOND)
    story = watched(model("a", 6), model("b", 6), params=params)
    resident(story, "a")
    assert unloaded(arrive(story, "s1", of="b", after_ns=SECOND)) == []
    assert story.scheduler.state.timer_ns == 3 * SECOND
    assert unloaded(story.tell(TimerFired(), after_ns=2 * SECOND)) == [("a#0", "evicted")]


def test_pinned_models_never_give_way() -> None:
    story = watched(model("a", 5, pinned=True), model("b", 5), model("c", 5), params=AT_ONCE)
    story.handle()
    ready(story)
    resident(story, "b")
    assert unloaded(arrive(story, "r1", of="c", after_ns=SECOND)) == [("b#0", "evicted")]


def test_a_drain_that_takes_too_long_aborts_what_runs_and_counts_it() -> None:
    params = SchedulerParams(
        swap_patience_ns=0, min_residency_ns=0, swap_drain_timeout_ns=4 * SECOND
    )
    story = watched(model("a", 6), model("b", 6), params=params)
    resident(story, "a")
    arrive(story, "r1", "r2")
    arrive(story, "s1", of="b", after_ns=1)
    assert only(story.tell(TimerFired(), after_ns=3 * SECOND), AbortAttempt) == []
    assert len(only(story.tell(TimerFired(), after_ns=SECOND), AbortAttempt)) == 2
    assert story.counter("drain_aborts") == 2
    actions = story.tell(
        AttemptFailed("r1", 1, FailureKind.ABORTED, delivered=False),
        AttemptFailed("r2", 1, FailureKind.ABORTED, delivered=True),
    )
    assert unloaded(actions) == [("a#0", "evicted")]
    assert [end.request_id for end in only(actions, EndRequest)] == ["r2"], "r1 waits again"


def test_a_drain_is_undone_when_its_need_has_gone() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    resident(story, "a")
    arrive(story, "r1")
    arrive(story, "s1", of="b", after_ns=1)
    assert dispatched(arrive(story, "r2")) == []
    assert dispatched(story.tell(RequestCancelled("s1"))) == ["r2"]
    assert story.counter("evictions_undone") == 1


def test_what_unloads_is_never_resurrected() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    resident(story, "a")
    assert unloaded(arrive(story, "s1", of="b", after_ns=1)) == [("a#0", "evicted")]
    story.tell(RequestCancelled("s1"))
    assert dispatched(arrive(story, "r1")) == []
    assert dispatched(story.tell(ReplicaReady("a#0", 1))) == []
    assert loaded(gone(story)) == ["a#0"]


def test_a_drain_whose_need_has_gone_is_undone_rather_than_loaded_beside() -> None:
    story = watched(
        model("a", 4, places=1),
        model("b", 4, places=1),
        model("c", 8, places=1),
        params=AT_ONCE,
    )
    arrive(story, "a1")
    ready(story)
    arrive(story, "b1", of="b")
    ready(story)
    # c needs both to go; both are busy, so they drain and take nothing new.
    assert unloaded(arrive(story, "c1", of="c", after_ns=1)) == []
    assert dispatched(arrive(story, "a2", after_ns=1)) == []
    # b is done and unloads; then c's only request leaves, so there is room for a twice.
    story.tell(AttemptFinished("b1", 1, 5), after_ns=1)
    story.tell(RequestCancelled("c1"), ReplicaGone("b#0", 2), after_ns=1)
    assert story.counter("loads") == 2
    assert dispatched(story.tell(AttemptFinished("a1", 1, 5), after_ns=1)) == ["a2"]


def test_needs_are_served_in_the_order_in_which_they_arose() -> None:
    story = watched(model("a", 8), model("big", 9), model("small", 5), params=AT_ONCE)
    resident(story, "a")
    arrive(story, "r1", of="big", after_ns=1)
    assert unloaded(arrive(story, "r2", of="small", after_ns=1)) == []
    assert loaded(gone(story)) == ["big#0"], "a smaller need does not overtake"


def test_an_overrun_makes_room_at_once() -> None:
    story = watched(model("a", 5), model("b", 5))
    resident(story, "a", "b")
    actions = story.tell(MemorySampled("b#0", 2, 7 * GIB, 0))
    assert unloaded(actions) == [("a#0", "evicted")], "even before its minimum residency"
    assert story.counter("budget_overruns") == 1


def test_a_model_that_turns_out_too_large_for_its_device_is_refused() -> None:
    story = watched(model("a", 5))
    resident(story, "a")
    story.tell(MemorySampled("a#0", 1, 11 * GIB, 0), ReplicaFailed("a#0", 1, FailureKind.CRASHED))
    gone(story)
    end = only(arrive(story, "r1"), EndRequest)[0]
    assert end.reason == Reason.DOES_NOT_FIT


@pytest.mark.parametrize("count", [2, 30])
def test_two_models_that_do_not_fit_together_both_get_served(count: int) -> None:
    """Overlapping traffic on both: neither starves, and nothing runs past its bound."""
    story = watched(model("a", 6, places=1), model("b", 6, places=1), params=AT_ONCE)
    for index in range(count):
        arrive(story, f"a{index}", after_ns=1)
        arrive(story, f"b{index}", of="b", after_ns=1)
    for _ in range(20 * count):
        if not story.scheduler.state.requests:
            break
        ready(story, after_ns=1)
        assert story.checker is not None
        story.tell(*(AttemptFinished(*f, 1) for f in list(story.checker.books.attempts)))
        gone(story, after_ns=1)
    assert story.counter("ended_done") == 2 * count


def test_a_need_that_is_still_patient_does_not_keep_what_fits_now_from_loading() -> None:
    story = watched(model("busy", gib=6), model("large", gib=8), model("small", gib=2))
    arrive(story, "b", of="busy")
    ready(story)
    assert loaded(arrive(story, "l", of="large")) == []
    assert loaded(arrive(story, "s", of="small")) == ["small#0"]


def test_a_need_whose_patience_is_over_is_overtaken_no_more() -> None:
    story = watched(model("busy", gib=6), model("large", gib=8), model("small", gib=2))
    arrive(story, "b", of="busy")
    ready(story)
    arrive(story, "l", of="large")
    story.tell(TimerFired(), after_ns=story.scheduler.params.swap_patience_ns)
    assert loaded(arrive(story, "s", of="small")) == []


def test_what_an_overrun_drains_is_not_taken_back_while_it_lasts() -> None:
    story = watched(model("a", 4, places=1), model("b", 6), params=AT_ONCE)
    resident(story, "a")
    arrive(story, "r1", of="a")
    arrive(story, "r0", of="b")
    story.tell(MemorySampled("b#0", 2, 7 * GIB, story.now_ns))
    arrive(story, "r2", of="a")
    found = story.scheduler.model_snapshot("a")
    assert found is not None
    assert found.state is ModelState.DRAINING
    assert story.counter("evictions_undone") == 0
    assert unloaded(story.tell(AttemptFinished("r1", 1, 1))) == [("a#0", "evicted")]


def test_what_others_hold_is_not_there_for_models() -> None:
    story = watched(model("a", 6), params=AT_ONCE)
    story.tell(DeviceSampled("gpu", 5 * GIB, 0))
    assert loaded(arrive(story, "r")) == [], "10 GiB less 5 are too few for 6"
    assert loaded(story.tell(DeviceSampled("gpu", 4 * GIB, 1))) == ["a#0"]


def test_memory_that_others_take_makes_models_give_way_until_it_is_back() -> None:
    story = watched(model("a", 5), model("b", 5), params=AT_ONCE)
    resident(story, "a", "b")
    assert unloaded(story.tell(DeviceSampled("gpu", 1 * GIB, 0))) == [("a#0", "evicted")]
    gone(story)
    assert loaded(arrive(story, "r", of="a", after_ns=1)) == []
    assert story.scheduler.snapshot().devices[0].foreign_bytes == 1 * GIB
    assert loaded(story.tell(DeviceSampled("gpu", 0, 1))) == ["a#0"]


def test_an_old_measurement_and_an_unknown_device_change_nothing() -> None:
    story = watched(model("a", 6), params=AT_ONCE)
    story.tell(DeviceSampled("gpu", 0, 9), DeviceSampled("gpu", 5 * GIB, 8))
    story.tell(DeviceSampled("nowhere", 5 * GIB, 10))
    assert story.counter("stale_events") == 2
    assert loaded(arrive(story, "r")) == ["a#0"]
