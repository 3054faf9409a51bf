"""A model of several fails to load: who waits for it is served by the next one."""

from dataclasses import replace

import pytest

from slalom.core.actions import (
    Action,
    EndRequest,
    LoadReplica,
    ModelChosen,
    Outcome,
)
from slalom.core.events import (
    AttemptFinished,
    FailureKind,
    ReplicaFailed,
    ReplicaGone,
    RequestArrived,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import Alternatives, Choice, Request
from slalom.testing.recorder import Recorder
from slalom.units import MS, SECOND
from tests.core.stories import gpu, model, only, ready, request, watched

WIDE = gpu(100)
THREE = (model("a"), model("b"), model("c"))


def any_of(name: str, *models: str, choice: Choice = Choice.WARM_FIRST, at_ns: int = 0) -> Request:
    """A request that several models may serve."""
    return replace(request(name, models[0], at_ns), alternatives=Alternatives(models, choice))


def arrive(story: Recorder, *requests: Request) -> list[Action]:
    return story.tell(*(RequestArrived(one) for one in requests))


def fail(
    story: Recorder, kind: FailureKind = FailureKind.START_FAILED, *, of: str = ""
) -> list[Action]:
    """The last load (of a model) fails, and its process ends."""
    loads = [one for one in story.actions(LoadReplica) if of in {"", one.model}]
    load = loads[-1]
    actions = story.tell(ReplicaFailed(load.replica_id, load.epoch, kind, "no such port"))
    return [*actions, *story.tell(ReplicaGone(load.replica_id, load.epoch))]


@pytest.mark.parametrize("choice", list(Choice))
def test_the_next_one_serves_when_the_first_fails_to_load(choice: Choice) -> None:
    story = watched(*THREE, device=WIDE)
    arrive(story, any_of("r", "a", "b", choice=choice))
    actions = fail(story)
    (moved,) = only(actions, ModelChosen)
    assert (moved.request_id, moved.model) == ("r", "b")
    assert moved.passed == (("a", "model_load_backoff"),)
    assert [one.model for one in only(actions, LoadReplica)] == ["b"]
    ready(story)
    story.tell(AttemptFinished("r", 1, 3))
    (end,) = story.actions(EndRequest)
    assert (end.outcome, end.model) == (Outcome.DONE, "b")


def test_a_request_for_that_model_alone_waits_on() -> None:
    story = watched(*THREE, device=WIDE)
    arrive(story, any_of("either", "a", "b"), request("only"))
    fail(story)
    moved = {one.request_id: one.model for one in story.actions(ModelChosen)}
    assert moved == {"either": "b"}
    assert [one.request.id for one in story.scheduler.state.models["a"].queue.entries()] == ["only"]
    story.tell(TimerFired(), after_ns=2 * SECOND)
    assert [one.model for one in story.actions(LoadReplica)] == ["a", "b", "a"]


def test_what_rests_after_a_failed_load_is_passed_over_by_newcomers() -> None:
    story = watched(*THREE, device=WIDE)
    arrive(story, request("only"))
    fail(story)
    (told,) = only(arrive(story, any_of("r", "a", "b")), ModelChosen)
    assert (told.model, told.passed) == ("b", (("a", "model_load_backoff"),))


def test_it_is_the_first_again_once_it_has_loaded() -> None:
    story = watched(*THREE, device=WIDE)
    arrive(story, request("only"))
    fail(story)
    story.tell(TimerFired(), after_ns=2 * SECOND)
    ready(story)
    (told,) = only(arrive(story, any_of("r", "a", "b", at_ns=story.now_ns)), ModelChosen)
    assert told.model == "a"


def test_where_all_have_failed_it_ends_as_it_would_with_one() -> None:
    story = watched(*THREE, device=WIDE, params=SchedulerParams(load_failures_max=1))
    arrive(story, any_of("r", "a", "b", "c"))
    fail(story, of="a")
    fail(story, of="b")
    assert not story.actions(EndRequest)
    fail(story, of="c")
    (end,) = story.actions(EndRequest)
    assert (end.outcome, end.reason, end.model) == (Outcome.FAILED, "engine_start_failed", "c")
    assert [one.model for one in story.actions(ModelChosen)] == ["a", "b", "c"]


def test_nobody_is_sent_round_and_round() -> None:
    """Each model is left once: while `b` fails again and again, `a` is not tried once more."""
    story = watched(*THREE, device=WIDE, params=SchedulerParams(load_failures_max=3))
    arrive(story, any_of("r", "a", "b"))
    fail(story, of="a")
    for _ in range(3):
        fail(story, of="b")
        story.tell(TimerFired(), after_ns=10 * SECOND)
    assert [one.model for one in story.actions(ModelChosen)] == ["a", "b"]
    (end,) = story.actions(EndRequest)
    assert end.model == "b"


def test_a_newcomer_waits_where_everything_rests_but_is_not_given_up() -> None:
    story = watched(*THREE, device=WIDE, params=SchedulerParams(load_failures_max=5))
    arrive(story, request("x", "a"), request("y", "b"))
    fail(story, of="a")
    fail(story, of="b")
    (told,) = only(arrive(story, any_of("r", "a", "b")), ModelChosen)
    assert told.model == "a"


def test_one_that_cannot_even_wait_is_no_successor() -> None:
    story = watched(model("a"), model("b", gib=400), model("c"), device=WIDE)
    arrive(story, any_of("r", "a", "b", "c"))
    (moved,) = only(fail(story), ModelChosen)
    assert moved.model == "c"
    assert dict(moved.passed)["a"] == "model_load_backoff"


def test_those_whose_answer_has_begun_are_left() -> None:
    """A paused answer goes on where it began: another model would go on in other words."""
    story = watched(*THREE, device=WIDE)
    arrive(story, any_of("r", "a", "b"))
    story.scheduler.state.requests["r"].first_token_ns = 0
    assert not only(fail_quietly(story), ModelChosen)


def fail_quietly(story: Recorder) -> list[Action]:
    """As `fail`, unseen by the checker, which has not seen a first token."""
    story.checker = None
    return fail(story)


def test_a_load_that_stalls_or_ends_by_itself_hands_over_too() -> None:
    story = watched(*THREE, device=WIDE)
    arrive(story, any_of("r", "a", "b"))
    (load,) = story.actions(LoadReplica)
    actions = story.tell(ReplicaGone(load.replica_id, load.epoch), after_ns=5 * MS)
    assert [one.model for one in only(actions, ModelChosen)] == ["b"]
