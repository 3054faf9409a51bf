"""The inside check can fail: each rule notices the one thing that it is there for."""

from collections.abc import Callable

import pytest

from slalom.core.invariants import check
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import ReplicaState
from slalom.core.state import State
from slalom.errors import InvariantError
from slalom.testing.recorder import Recorder
from tests.core.stories import arrive, model, ready, resident, watched


def state() -> State:
    """One model with a running and a waiting request, and an idle one."""
    story = watched(model("a", 4, places=1), model("b", 4))
    resident(story, "b")
    arrive(story, "r1", "r2")
    ready(story)
    return story.scheduler.state


def _replica(found: State, name: str) -> object:
    return next(replica for replica in found.all_replicas() if replica.id == name)


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        (lambda s: s.requests["r2"].__setattr__("in_queue", False), "1 "),
        (lambda s: s.waiting.clear(), "1 "),
        (lambda s: s.attempts.clear(), "1 "),
        (lambda s: s.devices["gpu"].__setattr__("booked_bytes", 1), "4 "),
        (lambda s: s.devices["gpu"].__setattr__("running", 9), "1 "),
        (lambda s: s.devices["gpu"].idle.clear(), "10 "),
        (lambda s: s.devices["gpu"].busy.clear(), "10 "),
        (lambda s: _replica(s, "b#0").__setattr__("state", ReplicaState.LOADING), "4 "),
        (lambda s: s.models["b"]._by_free[2].clear(), "8 "),
        (lambda s: s.requests.pop("r2"), "1 "),
    ],
)
def test_harm_is_noticed(harm: Callable[[State], object], rule: str) -> None:
    harmed = state()
    check(harmed)
    harm(harmed)
    with pytest.raises(InvariantError, match=f"invariant {rule}"):
        check(harmed)


def test_the_recorder_looks_from_inside_and_from_outside() -> None:
    story = watched()
    arrive(story, "r1")
    story.scheduler.state.waiting.clear()
    with pytest.raises(InvariantError):
        story.handle()
    assert isinstance(story.scheduler, Scheduler)
    assert Recorder(story.scheduler, outside=False).checker is None
