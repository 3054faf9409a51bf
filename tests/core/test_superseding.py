"""Newer requests of a client take the place of older ones, waiting or running."""

from dataclasses import replace
from typing import Any

import pytest

from slalom.core.actions import AbortAttempt, EndRequest, Outcome
from slalom.core.events import (
    AttemptFinished,
    RequestArrived,
)
from slalom.core.params import SchedulerParams
from slalom.core.snapshot import ModelState
from slalom.units import MS
from tests.core.plans import aborted, end_of
from tests.core.stories import (
    arrive,
    dispatched,
    model,
    only,
    ready,
    request,
    resident,
    watched,
)


def typed(name: str, **other: object) -> RequestArrived:
    given: dict[str, Any] = {"key": "ann", "supersedes": "file.py", **other}
    return RequestArrived(replace(request(name), **given))


def test_a_newer_request_takes_the_place_of_the_one_that_waits() -> None:
    story = watched()
    story.tell(typed("r1"))
    story.tell(typed("r2"))
    assert end_of(story, "r1").outcome is Outcome.SUPERSEDED
    assert dispatched(ready(story)) == ["r2"]


def test_a_newer_request_aborts_the_one_that_runs_and_its_place_stays_taken_until_then() -> None:
    story = watched(model(places=1))
    story.tell(typed("r1"))
    ready(story)
    actions = story.tell(typed("r2"))
    assert only(actions, AbortAttempt) == [AbortAttempt("r1", 1)]
    assert end_of(story, "r1").outcome is Outcome.SUPERSEDED
    assert dispatched(actions) == []
    assert dispatched(story.tell(aborted("r1"))) == ["r2"]


@pytest.mark.parametrize(
    "other", [{"key": "bob"}, {"model": "b"}, {"supersedes": "other.py"}, {"supersedes": ""}]
)
def test_only_requests_of_one_key_one_model_and_one_name_replace_each_other(
    other: dict[str, str],
) -> None:
    story = watched(model("a"), model("b"))
    story.tell(typed("r1"))
    story.tell(typed("r2", **other))
    assert story.actions(EndRequest) == []


def test_the_newest_is_forgotten_when_it_ends() -> None:
    story = watched(model(places=4))
    story.tell(typed("r1"))
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1))
    assert not story.scheduler.state.newest
    story.tell(typed("r2"), typed("r3"), typed("r4"))
    outcomes = {end.request_id: end.outcome for end in story.actions(EndRequest)}
    assert outcomes == {
        "r1": Outcome.DONE,
        "r2": Outcome.SUPERSEDED,
        "r3": Outcome.SUPERSEDED,
    }


def test_who_types_on_wants_the_model_since_the_first_key() -> None:
    """Patience counts from the first of the requests that replace each other, not from the last."""
    story = watched(model("a", 8), model("b", 8))
    resident(story, "b")
    arrive(story, "busy", of="b")
    for number in range(12):
        story.tell(typed(f"r{number}", model="a"), after_ns=200 * MS)
    states = {found.id: found.state for found in story.scheduler.snapshot().models}
    assert states == {"a": ModelState.COLD, "b": ModelState.DRAINING}


def test_a_full_queue_takes_what_replaces_one_of_its_own() -> None:
    story = watched(params=SchedulerParams(queue_max=1))
    story.tell(typed("r1"))
    story.tell(typed("r2"))
    assert [end.outcome for end in story.actions(EndRequest)] == [Outcome.SUPERSEDED]
    story.tell(typed("r3", supersedes="other.py"))
    assert end_of(story, "r3").reason == "queue_full"
