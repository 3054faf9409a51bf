"""Engines that an earlier scheduler left behind: which of them may stay."""

from dataclasses import replace

from slalom.core.actions import Dispatch, LoadReplica
from slalom.core.events import ReplicaFound
from slalom.testing.recorder import Recorder
from tests.core.stories import arrive, loaded, model, only, ready, watched


def found(recorder: Recorder, *names: str) -> list[str]:
    """What is brought up for them."""
    return loaded(recorder.tell(*(ReplicaFound(name) for name in names)))


def test_what_has_room_comes_up_though_nobody_asked_and_serves_at_once() -> None:
    recorder = watched(model(replicas=2))
    actions = recorder.tell(ReplicaFound("a"), ReplicaFound("a"))
    assert [one.ahead for one in actions if isinstance(one, LoadReplica)] == [True, True]
    ready(recorder)
    (dispatch,) = only(arrive(recorder, "r1"), Dispatch)
    assert dispatch.replica_id == "a#0"


def test_no_more_stay_than_the_model_may_have_and_than_fit() -> None:
    assert found(watched(model(replicas=2)), "a", "a", "a") == ["a#0", "a#1"]
    assert found(watched(model("a", 4), model("b", 7)), "a", "b") == ["a#0"]


def test_unknown_models_and_devices_are_not_answered() -> None:
    recorder = watched()
    assert not recorder.tell(ReplicaFound("other"), ReplicaFound("a", "elsewhere"))


def test_models_that_must_be_apart_stay_apart() -> None:
    first, second = model("a", 2), model("b", 2)
    recorder = watched(replace(first, apart=("g",)), replace(second, apart=("g",)))
    assert found(recorder, "a", "b") == ["a#0"]


def test_a_pinned_model_takes_what_was_found_instead_of_loading_again() -> None:
    recorder = watched(model(pinned=True))
    assert found(recorder, "a") == ["a#0"]
    assert not loaded(ready(recorder))
