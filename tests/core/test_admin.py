"""What people ask of models' residency: one story for each wish and each refusal."""

from dataclasses import replace
from typing import Any

import pytest

from slalom.core.actions import AskRefused, EndRequest, EvictionDecided, Reason, SleepReplica
from slalom.core.events import (
    Ask,
    AttemptFinished,
    DrainRequested,
    FailureKind,
    ModelAsked,
    ReplicaFailed,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import Swap
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import ModelState
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import GIB, MS, SECOND
from tests.core.stories import (
    AT_ONCE,
    GPU,
    RAM,
    arrive,
    asleep,
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
    woken,
)

SLEEPS: dict[str, Any] = {"sleep_level": 1, "host_bytes": GIB, "residual_bytes": GIB}


def ask(story: Recorder, what: Ask, of: str = "a") -> list:  # type: ignore[type-arg]  # actions
    """An operator asks; ids count up."""
    number = sum(isinstance(e, ModelAsked) for entry in story.entries for e in entry.events)
    return story.tell(ModelAsked(of, what, f"ask{number}"))


def refusal(actions: list) -> AskRefused:  # type: ignore[type-arg]  # actions
    """The one refusal among actions."""
    (found,) = only(actions, AskRefused)
    return found


def test_a_load_is_asked_for_and_stays_although_nobody_waits() -> None:
    story = watched(model("a"))
    assert loaded(ask(story, Ask.LOAD)) == ["a#0"]
    assert unloaded(story.tell(after_ns=SECOND)) == []
    ready(story)
    assert not only(ask(story, Ask.LOAD), AskRefused)
    assert story.scheduler.state.models["a"].wishes.ask is None


def test_a_load_makes_room_as_a_request_does() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    resident(story, "a")
    assert unloaded(story.tell(ModelAsked("b", Ask.LOAD, "x"), after_ns=SECOND)) == [
        ("a#0", "evicted")
    ]
    assert loaded(gone(story)) == ["b#0"]


def test_a_load_that_finds_no_room_is_refused_in_the_time_a_request_may_wait() -> None:
    params = SchedulerParams(queue_timeout_ns=5 * SECOND)
    story = watched(model("a", 6), model("b", 6, swap=Swap.NORMAL), params=params)
    ask(story, Ask.LOAD, "a")  # never becomes ready
    ask(story, Ask.LOAD, "b")
    assert not only(story.tell(TimerFired(), after_ns=4 * SECOND), AskRefused)
    refused = only(story.tell(TimerFired(), after_ns=1 * SECOND), AskRefused)
    assert [(one.model, one.reason) for one in refused] == [
        ("a", Reason.QUEUE_TIMEOUT),
        ("b", Reason.QUEUE_TIMEOUT),
    ]
    assert refused[1].needed_bytes == 6 * GIB
    assert refused[1].free_bytes == 4 * GIB
    assert [(one.replica_id, one.held_bytes) for one in refused[1].holders] == [("a#0", 6 * GIB)]


def test_a_load_that_fails_too_often_is_refused_with_the_failure() -> None:
    story = watched(model("a"), params=SchedulerParams(load_failures_max=1))
    ask(story, Ask.LOAD)
    actions = story.tell(ReplicaFailed("a#0", 1, FailureKind.OUT_OF_MEMORY, "no memory"))
    assert refusal(actions).reason == FailureKind.OUT_OF_MEMORY
    gone(story)
    assert refusal(ask(story, Ask.LOAD)).reason == Reason.LOAD_BACKOFF


def test_a_load_that_fails_once_is_tried_again() -> None:
    story = watched(model("a"), params=SchedulerParams(load_failures_max=2))
    ask(story, Ask.LOAD)
    story.tell(ReplicaFailed("a#0", 1, FailureKind.CRASHED))
    gone(story)
    assert loaded(story.tell(TimerFired(), after_ns=SECOND)) == ["a#0"]


@pytest.mark.parametrize("what", list(Ask))
def test_an_unknown_model_is_refused(what: Ask) -> None:
    assert refusal(ask(watched(), what, "nobody")).reason == Reason.UNKNOWN_MODEL


@pytest.mark.parametrize("what", list(Ask))
def test_nothing_is_begun_while_the_server_shuts_down(what: Ask) -> None:
    story = watched(model("a"), model("b"))
    arrive(story, "r", of="b")
    ready(story)
    story.tell(DrainRequested(60 * SECOND))
    assert refusal(ask(story, what)).reason == Reason.DRAINING


def test_what_is_larger_than_pins_leave_room_for_is_refused() -> None:
    story = watched(model("a", 6, pinned=True), model("b", 6))
    ready(story)
    refused = refusal(ask(story, Ask.LOAD, "b"))
    assert refused.reason == Reason.DOES_NOT_FIT
    assert refused.holders[0].replica_id == "a#0"


def test_unload_waits_for_what_runs_and_is_not_taken_back() -> None:
    story = watched(model("a"))
    arrive(story, "r1")
    ready(story)
    assert unloaded(ask(story, Ask.UNLOAD)) == []
    assert dispatched(arrive(story, "r2")) == []
    assert unloaded(story.tell(AttemptFinished("r1", 1, 5))) == [("a#0", "asked")]
    gone(story)
    assert dispatched(ready(story)) == ["r2"]


def test_a_load_that_only_an_operator_wanted_ends_when_it_is_taken_back() -> None:
    story = watched(model("a"))
    ask(story, Ask.LOAD)
    actions = ask(story, Ask.UNLOAD)
    assert unloaded(actions) == [("a#0", "unwanted")]
    assert refusal(actions).reason == Reason.ASKED_OTHERWISE


def test_a_load_that_requests_wait_for_is_not_taken_from_them() -> None:
    story = watched(model("a"))
    arrive(story, "r1")
    assert refusal(ask(story, Ask.UNLOAD)).reason == Reason.MODEL_BUSY


def test_sleep_and_wake_at_a_word() -> None:
    story = watched(replace(model("a"), **SLEEPS), host=RAM)
    resident(story, "a")
    (sleep,) = only(ask(story, Ask.SLEEP), SleepReplica)
    assert sleep.cause.value == "asked"
    asleep(story)
    assert not only(ask(story, Ask.WAKE), AskRefused)
    woken(story)
    assert story.scheduler.model_snapshot("a").state is ModelState.READY  # type: ignore[union-attr]


def test_what_cannot_sleep_or_is_not_up_says_so() -> None:
    story = watched(model("a"))
    assert refusal(ask(story, Ask.SLEEP)).reason == Reason.NOT_READY
    assert refusal(ask(story, Ask.WAKE)).reason == Reason.NOT_ASLEEP
    resident(story, "a")
    assert refusal(ask(story, Ask.SLEEP)).reason == Reason.CANNOT_SLEEP


def test_a_sleeper_is_unloaded_at_a_word() -> None:
    story = watched(replace(model("a"), **SLEEPS), host=RAM)
    resident(story, "a")
    ask(story, Ask.SLEEP)
    asleep(story)
    assert unloaded(ask(story, Ask.UNLOAD)) == [("a#0", "asked")]


def test_a_pinned_model_stays_and_an_unpinned_one_goes() -> None:
    story = watched(model("a", 4), model("b", 7), params=AT_ONCE)
    assert loaded(ask(story, Ask.PIN)) == ["a#0"]
    ready(story)
    (end,) = only(arrive(story, "r", of="b"), EndRequest)
    assert end.reason == Reason.DOES_NOT_FIT
    for what in (Ask.SLEEP, Ask.UNLOAD):
        assert refusal(ask(story, what)).reason == Reason.PINNED
    ask(story, Ask.UNPIN)
    assert unloaded(arrive(story, "r", of="b", after_ns=SECOND)) == [("a#0", "evicted")]


def test_a_pin_takes_back_what_drains_and_lets_run_what_waits() -> None:
    story = watched(model("a", 6, places=2), policies=policies(admission="plan-and-trim"))
    resident(story, "a")
    arrive(story, "runs")
    ask(story, Ask.UNLOAD)
    assert not dispatched(arrive(story, "waits"))
    assert dispatched(ask(story, Ask.PIN)) == ["waits"]


def test_pins_that_do_not_fit_together_are_refused() -> None:
    story = watched(model("a", 6), model("b", 6))
    ask(story, Ask.PIN)
    assert refusal(ask(story, Ask.PIN, "b")).reason == Reason.DOES_NOT_FIT


def test_a_pin_refuses_those_who_wait_for_what_no_longer_fits() -> None:
    story = watched(model("a", 6), model("b", 6), params=SchedulerParams())
    resident(story, "a")
    arrive(story, "r", of="b")
    (end,) = only(ask(story, Ask.PIN, "a"), EndRequest)
    assert (end.request_id, end.reason) == ("r", Reason.DOES_NOT_FIT)


def test_an_idle_model_leaves_when_its_time_is_up() -> None:
    story = watched(model("a", idle_unload_ns=5 * SECOND))
    resident(story, "a")
    assert unloaded(story.tell(TimerFired(), after_ns=5 * SECOND - 1)) == []
    assert unloaded(story.tell(TimerFired(), after_ns=1)) == [("a#0", "idle")]


def test_it_sleeps_first_and_ends_later_where_both_are_said() -> None:
    spec = replace(model("a", idle_sleep_ns=2 * SECOND, idle_unload_ns=9 * SECOND), **SLEEPS)
    story = watched(spec, host=RAM)
    resident(story, "a")
    (sleep,) = only(story.tell(TimerFired(), after_ns=2 * SECOND), SleepReplica)
    assert sleep.cause.value == "idle"
    asleep(story)
    story.tell(TimerFired(), after_ns=6 * SECOND)
    assert unloaded(story.tell(TimerFired(), after_ns=1 * SECOND)) == [("a#0", "idle")]


def test_a_new_request_puts_the_limit_off() -> None:
    story = watched(model("a", idle_unload_ns=5 * SECOND))
    resident(story, "a")
    arrive(story, "r", after_ns=4 * SECOND)
    assert unloaded(story.tell(TimerFired(), after_ns=10 * SECOND)) == []
    story.tell(AttemptFinished("r", 1, 5))
    assert unloaded(story.tell(TimerFired(), after_ns=4 * SECOND)) == []
    assert unloaded(story.tell(TimerFired(), after_ns=1 * SECOND)) == [("a#0", "idle")]


def _asked_to_keep(story: Recorder, keep_ns: int, *, tool_calls: bool = False) -> None:
    story.tell(RequestArrived(replace(request("k", at_ns=story.now_ns), keep_ns=keep_ns)))
    ready(story)
    story.tell(AttemptFinished("k", 1, 1, tool_calls=tool_calls))


def test_a_request_says_how_long_its_model_is_kept_and_then_it_leaves() -> None:
    story = watched(model("a"), params=AT_ONCE)
    _asked_to_keep(story, 3 * SECOND)
    assert unloaded(story.tell(TimerFired(), after_ns=3 * SECOND - 1)) == []
    assert unloaded(story.tell(TimerFired(), after_ns=1)) == [("a#0", "idle")]


def test_what_is_kept_gives_way_only_to_an_overdue_need() -> None:
    params = replace(AT_ONCE, swap_hold_ns=10 * SECOND)
    story = watched(model("a", 6), model("b", 6), params=params)
    _asked_to_keep(story, 3600 * SECOND)
    assert unloaded(arrive(story, "r", of="b", after_ns=SECOND)) == []
    assert unloaded(story.tell(TimerFired(), after_ns=10 * SECOND)) == [("a#0", "evicted")]


def test_what_is_kept_gives_way_as_soon_as_its_time_is_up() -> None:
    params = replace(AT_ONCE, swap_hold_ns=60 * SECOND)
    story = watched(model("a", 6, hold_ns=5 * SECOND), model("b", 6), params=params)
    _asked_to_keep(story, -1, tool_calls=True)
    assert unloaded(arrive(story, "r", of="b", after_ns=SECOND)) == []
    assert unloaded(story.tell(TimerFired(), after_ns=4 * SECOND)) == [("a#0", "evicted")]


def test_an_answer_without_tools_holds_nothing() -> None:
    story = watched(model("a", 6, hold_ns=5 * SECOND), model("b", 6), params=AT_ONCE)
    _asked_to_keep(story, -1)
    assert unloaded(arrive(story, "r", of="b", after_ns=SECOND)) == [("a#0", "evicted")]


@pytest.mark.parametrize("by_model", [False, True])
def test_a_request_that_allows_no_swap_is_refused_at_once(by_model: bool) -> None:
    limit = Swap.NEVER if by_model else Swap.NORMAL
    story = watched(model("a", 6), model("b", 6, swap=limit), params=AT_ONCE)
    resident(story, "a")
    wish = Swap.NORMAL if by_model else Swap.NEVER
    asked = replace(request("r", "b", story.now_ns), allow_swap=wish)
    (end,) = only(story.tell(RequestArrived(asked)), EndRequest)
    assert end.reason == Reason.SWAP_NOT_ALLOWED
    assert unloaded(story.tell(after_ns=SECOND)) == []


def test_a_request_that_allows_no_swap_uses_what_is_free() -> None:
    story = watched(model("a", 4), model("b", 4), params=AT_ONCE)
    resident(story, "a")
    asked = replace(request("r", "b", story.now_ns), allow_swap=Swap.NEVER)
    assert loaded(story.tell(RequestArrived(asked))) == ["b#0"]


def test_only_what_idles_gives_way_where_that_was_said() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    arrive(story, "busy")
    ready(story)
    asked = replace(request("r", "b", story.now_ns), allow_swap=Swap.IDLE)
    story.tell(RequestArrived(asked))
    story.tell(TimerFired(), after_ns=40 * SECOND)
    assert not story.actions(EvictionDecided)
    story.tell(AttemptFinished("busy", 1, 3))
    story.tell(after_ns=2)
    assert unloaded([a for e in story.entries for a in e.actions]) == [("a#0", "evicted")]


def test_a_limited_need_holds_up_nobody() -> None:
    """`b` may disturb nobody and waits; `c`, which came later, gets its victim."""
    story = watched(model("a", 6), model("b", 6), model("c", 5), params=AT_ONCE)
    arrive(story, "busy")
    ready(story)
    asked = replace(request("r", "b", story.now_ns), allow_swap=Swap.IDLE)
    story.tell(RequestArrived(asked))
    arrive(story, "normal", of="c", after_ns=SECOND)
    (decision,) = story.actions(EvictionDecided)
    assert (decision.model, decision.victims) == ("c", ("a#0",))


def test_a_normal_request_lifts_the_limit_of_others() -> None:
    story = watched(model("a", 6), model("b", 6), params=AT_ONCE)
    arrive(story, "busy")
    ready(story)
    asked = replace(request("r", "b", story.now_ns), allow_swap=Swap.IDLE)
    story.tell(RequestArrived(asked))
    arrive(story, "normal", of="b", after_ns=SECOND)
    story.tell(TimerFired(), after_ns=SECOND)
    assert [one.victims for one in story.actions(EvictionDecided)] == [("a#0",)]


def test_preloads_take_what_is_free_and_no_more() -> None:
    story = watched(
        model("a", 6, preload=True), model("b", 6, preload=True), model("c", 3, preload=True)
    )
    assert loaded(story.tell()) == ["a#0", "c#0"]
    assert story.counter("preloads_left_out") == 1
    ready(story)
    assert loaded(story.tell(after_ns=100 * SECOND)) == []


def test_models_of_a_group_are_never_up_together() -> None:
    story = watched(model("a", 2, apart=("big",)), model("b", 2, apart=("big",)), params=AT_ONCE)
    resident(story, "a")
    actions = arrive(story, "r", of="b", after_ns=SECOND)
    assert unloaded(actions) == [("a#0", "apart")]
    assert loaded(actions) == []
    assert loaded(gone(story)) == ["b#0"]
    assert dispatched(ready(story)) == ["r"]


def test_a_busy_rival_is_drained_after_the_patience_and_not_taken_back() -> None:
    params = SchedulerParams(swap_patience_ns=500 * MS, min_residency_ns=0)
    story = watched(model("a", 2, apart=("big",)), model("b", 2, apart=("big",)), params=params)
    arrive(story, "busy")
    ready(story)
    arrive(story, "r", of="b", after_ns=SECOND)
    story.tell(TimerFired(), after_ns=500 * MS)
    assert dispatched(arrive(story, "again")) == []
    story.tell(AttemptFinished("busy", 1, 5))
    assert loaded(gone(story)) == ["b#0"]
    assert dispatched(ready(story)) == ["r"]


def test_pinned_models_of_a_group_are_a_mistake() -> None:
    pair = [model(name, 2, apart=("big",), pinned=True) for name in "ab"]
    with pytest.raises(ConfigError, match="pin one of them"):
        Scheduler(pair, (GPU,), policies())


def test_beside_a_pinned_rival_nothing_comes_up() -> None:
    story = watched(model("a", 2, apart=("big",)), model("b", 2, apart=("big",)))
    ask(story, Ask.PIN, "a")
    ready(story)
    assert refusal(ask(story, Ask.PIN, "b")).reason == Reason.DOES_NOT_FIT
    (end,) = only(arrive(story, "r", of="b"), EndRequest)
    assert "apart" in end.detail


def test_an_asked_load_outlives_the_request_that_began_it() -> None:
    story = watched(model("a"))
    arrive(story, "r")
    ask(story, Ask.LOAD)
    assert unloaded(story.tell(RequestCancelled("r"))) == []
    ready(story)
    assert story.scheduler.model_snapshot("a").state is ModelState.READY  # type: ignore[union-attr]
