"""Which models are loaded and what gives way: one small story for each rule of the pass."""

from slalom.core.events import (
    AttemptFinished,
    FailureKind,
    ReplicaFailed,
    ReplicaGone,
    RequestCancelled,
)
from slalom.core.params import SchedulerParams
from slalom.units import SECOND
from tests.core.stories import (
    arrive,
    dispatched,
    gone,
    loaded,
    model,
    ready,
    unloaded,
    watched,
)


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
    actions = story.tell(ReplicaGone("a#0", 1))
    assert loaded(actions) == []
    assert story.counter("ended_failed") == 1
    assert story.scheduler.state.models["a"].failures == 1


def test_a_model_that_takes_no_memory_never_waits_for_memory() -> None:
    story = watched(model("a", 8), model("b", 8), model("free", 0))
    arrive(story, "r1")
    ready(story)
    arrive(story, "r2", of="b")
    assert loaded(arrive(story, "r3", of="free")) == ["free#0"]


def test_a_drain_whose_need_has_gone_is_undone_rather_than_loaded_beside() -> None:
    story = watched(
        model("a", 4, places=1),
        model("b", 4, places=1),
        model("c", 8, places=1),
        params=SchedulerParams(swap_patience_ns=0, min_residency_ns=0),
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
