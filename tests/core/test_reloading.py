"""A reload in the core: only the models that changed are touched, and nothing is lost."""

from dataclasses import replace

import pytest

from slalom.core.actions import (
    AbortAttempt,
    Action,
    AskRefused,
    Dispatch,
    EndRequest,
    LoadReplica,
    Outcome,
    Reason,
    UnloadCause,
    UnloadReplica,
)
from slalom.core.events import (
    Ask,
    AttemptFailed,
    AttemptFinished,
    ConfigChanged,
    FailureKind,
    ModelAsked,
    ReplicaFailed,
    ReplicaGone,
    TimerFired,
)
from slalom.core.following import FollowsModels
from slalom.core.policy import Policies
from slalom.core.reloading import ADJUSTABLE, needs_replicas
from slalom.core.request import ModelSpec, Swap
from slalom.errors import ConfigError
from slalom.policies.registry import POLICIES, policies
from slalom.testing.recorder import Recorder
from slalom.units import GIB, MS, SECOND
from tests.core.stories import arrive, gone, gpu, model, only, ready, watched

#: Room for all.
WIDE = gpu(100)


def up(*models: ModelSpec, **more: object) -> Recorder:
    """A scheduler whose models each run a request, named as they are."""
    story = watched(*models, device=WIDE, **more)  # type: ignore[arg-type]
    for one in models:
        arrive(story, f"on-{one.id}", of=one.id)
    ready(story)
    return story


def finish(story: Recorder, name: str, *, after_ns: int = 0) -> list[Action]:
    """Its last attempt ends well."""
    attempt = [one.attempt for one in story.actions(Dispatch) if one.request_id == name][-1]
    return story.tell(AttemptFinished(name, attempt, 1), after_ns=after_ns)


def ends(story: Recorder) -> dict[str, EndRequest]:
    return {end.request_id: end for end in story.actions(EndRequest)}


def test_a_model_that_is_not_named_is_left_alone() -> None:
    story = up(model("a"), model("b"), model("c"))
    before = story.scheduler.state.models["a"]
    lives = [(one.id, one.epoch) for one in before.replicas.values()]
    actions = story.tell(
        ConfigChanged(replaced=(model("b", gib=5),), removed=("c",), added=(model("d"),))
    )
    assert not only(actions, UnloadReplica) + only(actions, AbortAttempt)
    assert story.scheduler.state.models["a"] is before
    assert [(one.id, one.epoch) for one in before.replicas.values()] == lives
    finish(story, "on-a")
    assert ends(story)["on-a"].outcome is Outcome.DONE


def test_an_added_model_can_be_asked_for() -> None:
    story = up(model("a"))
    assert only(arrive(story, "early", of="d"), EndRequest)[0].reason == Reason.UNKNOWN_MODEL
    story.tell(ConfigChanged(added=(model("d"),)))
    assert only(arrive(story, "r", of="d"), LoadReplica)[0].model == "d"


def test_a_replaced_model_serves_on_with_another_engine() -> None:
    story = up(model("b", gib=4, places=4))
    actions = story.tell(ConfigChanged(replaced=(model("b", gib=6, places=1),)))
    assert not only(actions, UnloadReplica), "what runs on it ends first"
    (load,) = only(arrive(story, "next", of="b"), LoadReplica)
    assert load.replica_id == "b#1", "its successor comes up beside it"
    assert story.scheduler.state.devices["gpu"].booked_bytes == 10 * GIB
    ready(story)
    started = {one.request_id: one.replica_id for one in story.actions(Dispatch)}
    assert started == {"on-b": "b#0", "next": "b#1"}
    (leaves,) = only(finish(story, "on-b"), UnloadReplica)
    assert (leaves.replica_id, leaves.cause) == ("b#0", UnloadCause.REPLACED)
    gone(story)
    assert story.scheduler.state.devices["gpu"].booked_bytes == 6 * GIB


def test_an_idle_replica_of_a_replaced_model_leaves_at_once() -> None:
    story = up(model("a"), model("b"))
    finish(story, "on-b")
    (leaves,) = only(story.tell(ConfigChanged(replaced=(model("b", gib=6),))), UnloadReplica)
    assert (leaves.replica_id, leaves.cause) == ("b#0", UnloadCause.REPLACED)


def test_what_runs_on_a_replaced_engine_is_stopped_once_the_time_is_over() -> None:
    story = up(model("b"))
    story.tell(ConfigChanged(replaced=(model("b", gib=6),), drain_ns=5 * SECOND))
    assert not only(story.tell(after_ns=5 * SECOND - 1), AbortAttempt)
    (abort,) = only(story.tell(TimerFired(), after_ns=1), AbortAttempt)
    fence = (abort.request_id, abort.attempt)
    story.tell(AttemptFailed(*fence, FailureKind.ABORTED, delivered=False))
    ready(story)
    assert story.actions(Dispatch)[-1].request_id == "on-b", "nothing was delivered: it goes on"
    assert story.actions(Dispatch)[-1].replica_id != "b#0"


def test_what_waits_for_a_replaced_model_is_served_by_the_new_engine() -> None:
    story = watched(model("b"), device=WIDE)
    arrive(story, "r", of="b")
    actions = story.tell(ConfigChanged(replaced=(model("b", gib=6),)))
    assert [one.cause for one in only(actions, UnloadReplica)] == [UnloadCause.REPLACED]
    assert [one.epoch for one in only(actions, LoadReplica)] == [2], "the load begins anew"
    ready(story)
    finish(story, "r")
    assert ends(story)["r"].outcome is Outcome.DONE


def test_a_broken_model_that_is_replaced_is_tried_again_at_once() -> None:
    story = watched(model("b"), device=WIDE)
    arrive(story, "r", of="b")
    for _ in range(2):
        load = story.actions(LoadReplica)[-1]
        story.tell(_failed(load))
        story.tell(ReplicaGone(load.replica_id, load.epoch))
        story.tell(TimerFired(), after_ns=2 * SECOND)
    assert ends(story)["r"].reason == FailureKind.START_FAILED
    refused = only(arrive(story, "again", of="b"), EndRequest)
    loads = len(story.actions(LoadReplica))
    if refused:
        assert refused[0].reason == Reason.LOAD_BACKOFF
    story.tell(ConfigChanged(replaced=(model("b", gib=3),)))
    arrive(story, "mended", of="b")
    assert len(story.actions(LoadReplica)) > loads


def _failed(load: LoadReplica) -> ReplicaFailed:
    return ReplicaFailed(load.replica_id, load.epoch, FailureKind.START_FAILED)


def test_a_removed_model_ends_what_it_has_and_takes_nothing_new() -> None:
    story = up(model("a"), model("b", places=1))
    arrive(story, "waits", of="b")
    actions = story.tell(ConfigChanged(removed=("b",)))
    assert not only(actions, UnloadReplica) + only(actions, EndRequest)
    (refused,) = only(arrive(story, "late", of="b"), EndRequest)
    assert refused.reason == Reason.UNKNOWN_MODEL
    assert "removed by a reload" in refused.detail
    finish(story, "on-b")
    assert not only(finish(story, "waits"), EndRequest) or ends(story)["waits"].outcome == "done"
    assert ends(story)["on-b"].outcome is Outcome.DONE
    assert ends(story)["waits"].outcome is Outcome.DONE
    assert [one.cause for one in story.actions(UnloadReplica)] == [UnloadCause.REMOVED]
    gone(story)
    assert list(story.scheduler.state.models) == ["a"]
    assert story.scheduler.state.devices["gpu"].booked_bytes == 4 * GIB


def test_a_removed_models_time_is_bounded() -> None:
    story = up(model("b", places=1))
    arrive(story, "waits", of="b")
    story.tell(ConfigChanged(removed=("b",), drain_ns=3 * SECOND))
    actions = story.tell(TimerFired(), after_ns=3 * SECOND)
    told = {end.request_id: (end.outcome, end.reason) for end in only(actions, EndRequest)}
    assert told == {
        "on-b": (Outcome.FAILED, Reason.MODEL_REMOVED),
        "waits": (Outcome.REJECTED, Reason.MODEL_REMOVED),
    }
    (abort,) = only(actions, AbortAttempt)
    story.tell(AttemptFailed(abort.request_id, abort.attempt, FailureKind.ABORTED, delivered=True))
    gone(story)
    assert not story.scheduler.state.models


def test_a_removed_model_that_nobody_uses_is_gone_at_once() -> None:
    story = watched(model("a"), model("b"), device=WIDE)
    story.tell(ConfigChanged(removed=("b",), drain_ns=60 * SECOND))
    assert list(story.scheduler.state.models) == ["a"]
    story.tell(ConfigChanged(removed=("b", "nobody")))


def test_a_removed_model_may_come_back_while_it_leaves() -> None:
    story = up(model("b"))
    story.tell(ConfigChanged(removed=("b",)))
    story.tell(ConfigChanged(added=(model("b", gib=6),)))
    arrive(story, "next", of="b")
    ready(story)
    finish(story, "on-b")
    finish(story, "next")
    assert [end.outcome for end in ends(story).values()] == [Outcome.DONE] * 2
    assert "b" in story.scheduler.state.models


def test_what_only_the_scheduler_heeds_changes_without_another_process() -> None:
    story = up(model("a"))
    finish(story, "on-a")
    story.tell(ConfigChanged(adjusted=(model("a", idle_unload_ns=SECOND, swap=Swap.NEVER),)))
    assert story.scheduler.state.models["a"].is_resident()
    actions = story.tell(TimerFired(), after_ns=2 * SECOND)
    assert [one.cause for one in only(actions, UnloadReplica)] == [UnloadCause.IDLE]


def test_pins_follow_the_configuration() -> None:
    small = gpu(10)
    story = watched(model("a", gib=6, pinned=True), model("b", gib=6), device=small)
    ready(story)
    refused = only(arrive(story, "no", of="b"), EndRequest)
    assert refused[0].reason == Reason.DOES_NOT_FIT
    change = ConfigChanged(adjusted=(model("b", gib=6, pinned=True), model("a", gib=6)))
    story.scheduler.judge(change)
    story.tell(change)
    story.tell(TimerFired(), after_ns=5 * SECOND)
    gone(story)
    ready(story)
    models = story.scheduler.state.models
    assert models["b"].has_ready()
    assert not models["a"].is_resident()


def test_a_pin_that_finds_no_room_is_told() -> None:
    story = watched(model("a", gib=6), model("b", gib=6))
    story.tell(ModelAsked("a", Ask.PIN, "operator"))
    actions = story.tell(
        ConfigChanged(adjusted=(model("b", gib=6, pinned=True),), reload_id="reload-1")
    )
    (refused,) = only(actions, AskRefused)
    assert (refused.ask_id, refused.reason) == ("reload-1/b", Reason.DOES_NOT_FIT)


def test_a_pin_of_an_operator_outlives_another_engine() -> None:
    story = up(model("a"))
    story.tell(ModelAsked("a", Ask.PIN, "operator"))
    story.tell(ConfigChanged(replaced=(model("a", gib=5),)))
    assert story.scheduler.state.models["a"].wishes.pinned
    assert [one.replica_id for one in story.actions(LoadReplica)] == ["a#0", "a#1"]


def test_what_is_no_configuration_is_judged_before() -> None:
    story = watched(model("a", gib=6, pinned=True), model("b", gib=6))
    for change, says in (
        (ConfigChanged(adjusted=(model("b", gib=6, pinned=True),)), "pin fewer"),
        (ConfigChanged(added=(ModelSpec("c", "nowhere", GIB, 1),)), "does not exist"),
        (ConfigChanged(added=(model("c", places=0),)), "at least 1"),
    ):
        with pytest.raises(ConfigError, match=says):
            story.scheduler.judge(change)
    change = ConfigChanged(removed=("a",), adjusted=(model("b", gib=6, pinned=True),))
    story.scheduler.judge(change)


def test_every_field_of_a_model_is_adjustable_or_makes_another_replica() -> None:
    names = set(ModelSpec.__dataclass_fields__)
    assert names >= ADJUSTABLE
    old = model("a")
    for name, value in {"bytes_needed": 1, "places": 9, "sleep_level": 2, "device": "x"}.items():
        assert needs_replicas(old, replace(old, **{name: value}))  # type: ignore[arg-type]
    for name, value in {"pinned": True, "swap": Swap.IDLE, "hold_ns": 5}.items():
        assert not needs_replicas(old, replace(old, **{name: value}))  # type: ignore[arg-type]


def test_an_adjustment_that_needs_other_replicas_gets_them() -> None:
    story = up(model("a"))
    finish(story, "on-a")
    actions = story.tell(ConfigChanged(adjusted=(model("a", places=7),)))
    assert [one.cause for one in only(actions, UnloadReplica)] == [UnloadCause.REPLACED]


def test_fewer_replicas_leave_what_is_too_many() -> None:
    story = watched(model("a", places=1, replicas=2), device=WIDE)
    arrive(story, "one", "two")
    ready(story)
    ready(story)
    assert story.scheduler.state.models["a"].up_count() == 2
    finish(story, "one", after_ns=2 * SECOND)
    actions = story.tell(ConfigChanged(adjusted=(model("a", places=1, replicas=1),)))
    assert [one.cause for one in only(actions, UnloadReplica)] == [UnloadCause.SCALED]


def _tables_with(thing: object, key: str) -> list[str]:
    """Tables inside an object that have a row of this name."""
    found: list[str] = []
    slots = [getattr(kind, "__slots__", ()) for kind in type(thing).__mro__]
    names = [*getattr(thing, "__dict__", {}), *(name for row in slots for name in row)]
    for name in names:
        value = getattr(thing, name, None)
        if isinstance(value, dict) and key in value:
            found.append(f"{type(thing).__name__}.{name}")
        elif type(value).__name__ == "Lengths":
            continue  # of kinds of requests; the oldest of a bounded number are forgotten
        elif type(value).__module__.startswith("slalom.policies"):
            found += _tables_with(value, key)
    return found


def _slots() -> list[Policies]:
    admissions = [policies(admission=kind) for kind in POLICIES["admission"]]
    return [*admissions, *(policies(residency=kind) for kind in POLICIES["residency"])]


@pytest.mark.parametrize("chosen", _slots(), ids=lambda one: type(one.admission).__name__)
def test_every_policy_follows_models_that_come_and_go(chosen: Policies) -> None:
    story = watched(model("a"), model("b"), device=WIDE, policies=chosen)
    arrive(story, "r0", of="b")
    ready(story)
    story.tell(ConfigChanged(added=(model("c"),), replaced=(model("a", places=1),)))
    for name in ("a", "c"):
        arrive(story, f"for-{name}", of=name, after_ns=10 * MS)
        ready(story)
    story.tell(ConfigChanged(replaced=(model("b", gib=3, places=1),), removed=("c",)))
    arrive(story, "r1", of="b", after_ns=10 * MS)
    ready(story)
    running = {one.request_id for one in story.actions(Dispatch)}
    assert {"r0", "r1", "for-a", "for-c"} <= running | ends(story).keys()
    for name in sorted(running - ends(story).keys()):
        finish(story, name, after_ns=10 * MS)
    gone(story)
    assert sorted(story.scheduler.state.models) == ["a", "b"]
    learners: tuple[object, ...] = (story.scheduler.state.planner, story.scheduler.state.keeper)
    for one in learners:
        if isinstance(one, FollowsModels):
            assert not _tables_with(one, "c"), "what was removed is forgotten"


def test_what_was_learned_of_untouched_models_stays() -> None:
    """The planner's figures of a model are the very same objects after a reload of another."""
    chosen = policies(admission="plan-and-trim")
    story = watched(model("a"), model("b"), device=WIDE, policies=chosen)
    arrive(story, "r", of="a")
    ready(story)
    finish(story, "r", after_ns=500 * MS)
    figures: dict[str, object] = story.scheduler.state.planner._predictor._models  # type: ignore[union-attr]
    before = dict(figures)
    story.tell(ConfigChanged(replaced=(model("b", gib=5),)))
    figures = story.scheduler.state.planner._predictor._models  # type: ignore[union-attr]
    assert figures["a"] is before["a"]
    assert figures["b"] is not before["b"]
