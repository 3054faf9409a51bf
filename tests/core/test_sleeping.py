"""Replicas that sleep instead of ending and wake instead of loading: one story for each rule."""

from dataclasses import replace

import pytest

from slalom.core.actions import Dispatch, SleepReplica, WakeReplica
from slalom.core.events import (
    AttemptFinished,
    DrainRequested,
    FailureKind,
    MemorySampled,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import ModelState
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import GIB, SECOND
from tests.core.stories import (
    AT_ONCE,
    GPU,
    RAM,
    arrive,
    asleep,
    dispatched,
    gone,
    gpu,
    loaded,
    model,
    only,
    ram,
    ready,
    resident,
    unloaded,
    watched,
    woken,
)


def sleeper(name: str, gib: int = 6, host_gib: int = 6, **other: object) -> ModelSpec:
    """A model that sleeps at level 1 and keeps a gibibyte on the device."""
    rest = {"sleep_level": 1, "host_bytes": host_gib * GIB, "residual_bytes": GIB}
    return replace(model(name, gib), **{**rest, **other})  # type: ignore[arg-type]  # fields


def two(host: DeviceSpec = RAM, params: SchedulerParams = AT_ONCE) -> Recorder:
    """Models `a`, resident, and `b`, which do not fit together but for a sleeper's rest."""
    story = watched(sleeper("a"), sleeper("b"), device=gpu(7), host=host, params=params)
    resident(story, "a")
    return story


def booked(story: Recorder) -> tuple[int, int]:
    """GiB booked on the device and in host memory."""
    gpu, ram = story.scheduler.snapshot().devices
    return gpu.booked_bytes // GIB, ram.booked_bytes // GIB


def state_of(story: Recorder, name: str) -> ModelState:
    found = story.scheduler.model_snapshot(name)
    assert found is not None
    return found.state


def taking_turns(story: Recorder) -> None:
    """`b` has taken the place of `a`, which sleeps, and has nothing to do any more."""
    arrive(story, "r1", of="b", after_ns=1)
    asleep(story)
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1))


# -- asleep -----------------------------------------------------------------------------------


def test_a_victim_that_can_sleep_sleeps_and_its_bytes_are_free_only_then() -> None:
    story = two()
    actions = arrive(story, "r1", of="b", after_ns=1)
    assert only(actions, SleepReplica) == [SleepReplica("a#0", 1, 1, 1)]
    assert not loaded(actions)
    assert not unloaded(actions)
    assert booked(story) == (6, 6)
    assert state_of(story, "a") is ModelState.SLEEPING
    assert loaded(asleep(story)) == ["b#0"]
    assert booked(story) == (7, 6)
    assert state_of(story, "a") is ModelState.ASLEEP
    assert story.counter("evictions") == story.counter("sleeps") == 1


def test_what_runs_finishes_before_its_replica_sleeps() -> None:
    story = two()
    arrive(story, "busy", of="a")
    assert only(arrive(story, "r1", of="b", after_ns=1), SleepReplica) == []
    assert state_of(story, "a") is ModelState.DRAINING
    done = story.tell(AttemptFinished("busy", 1, 1))
    assert [action.replica_id for action in only(done, SleepReplica)] == ["a#0"]


def test_what_cannot_sleep_ends_as_before() -> None:
    story = watched(model("a", 6), sleeper("b"), host=RAM, params=AT_ONCE)
    resident(story, "a")
    assert unloaded(arrive(story, "r1", of="b", after_ns=1)) == [("a#0", "evicted")]


def test_a_sleeper_whose_rest_does_not_fit_beside_the_other_ends_instead() -> None:
    story = watched(sleeper("a"), sleeper("b"), device=gpu(6), host=RAM, params=AT_ONCE)
    resident(story, "a")
    assert unloaded(arrive(story, "r1", of="b", after_ns=1)) == [("a#0", "evicted")]


def test_one_more_victim_sleeps_rather_than_that_one_ends() -> None:
    story = watched(
        sleeper("a", 4, 4),
        sleeper("b", 4, 4),
        sleeper("c", 4, 4),
        device=gpu(8),
        host=RAM,
        params=AT_ONCE,
    )
    resident(story, "a", "b")
    actions = arrive(story, "r1", of="c", after_ns=1)
    assert [action.replica_id for action in only(actions, SleepReplica)] == ["a#0", "b#0"]
    assert unloaded(actions) == []


def test_level_two_takes_no_host_memory_and_needs_none() -> None:
    deep = sleeper("a", sleep_level=2, host_gib=0)
    story = watched(deep, model("b", 6), params=AT_ONCE)
    resident(story, "a")
    assert only(arrive(story, "r1", of="b", after_ns=1), SleepReplica)[0].level == 2


def test_a_model_larger_than_host_memory_never_sleeps() -> None:
    story = two(ram(5))
    assert unloaded(arrive(story, "r1", of="b", after_ns=1)) == [("a#0", "evicted")]


def test_a_drained_server_puts_nothing_to_sleep_and_ends_what_sleeps() -> None:
    story = two()
    taking_turns(story)
    actions = story.tell(DrainRequested(story.now_ns + SECOND))
    assert unloaded(actions) == [("a#0", "shutdown"), ("b#0", "shutdown")]
    gone(story)
    assert booked(story) == (0, 0)


# -- awake ------------------------------------------------------------------------------------


def test_a_need_for_what_sleeps_wakes_it_once_there_is_room() -> None:
    story = two()
    taking_turns(story)
    assert only(arrive(story, "r2", of="a", after_ns=1), WakeReplica) == []
    actions = asleep(story)
    assert only(actions, WakeReplica) == [WakeReplica("a#0", 1, 2)]
    assert loaded(actions) == []
    assert booked(story) == (7, 12), "a's host memory stays booked until it is awake"
    assert state_of(story, "a") is ModelState.WAKING
    assert dispatched(woken(story)) == ["r2"]
    assert booked(story) == (7, 6)
    assert state_of(story, "a") is ModelState.READY


def test_what_falls_asleep_is_awaited_and_then_woken_never_loaded_beside() -> None:
    story = two()
    arrive(story, "r1", of="b", after_ns=1)
    story.tell(RequestCancelled("r1"))
    assert loaded(arrive(story, "r2", of="a")) == []
    assert [action.replica_id for action in only(asleep(story), WakeReplica)] == ["a#0"]


def test_a_wake_that_nobody_waits_for_any_more_goes_on() -> None:
    story = two()
    taking_turns(story)
    arrive(story, "r2", of="a", after_ns=1)
    asleep(story)
    assert unloaded(story.tell(RequestCancelled("r2"))) == []
    woken(story)
    assert state_of(story, "a") is ModelState.READY


def test_the_time_a_wake_takes_is_what_the_next_is_expected_to_take() -> None:
    story = two()
    taking_turns(story)
    arrive(story, "r2", of="a", after_ns=1)
    asleep(story)
    woken(story, after_ns=3 * SECOND)
    story.tell(AttemptFinished("r2", 1, 1))
    arrive(story, "r3", of="b", after_ns=1)
    asleep(story)
    woken(story)
    story.tell(AttemptFinished("r3", 1, 1))
    arrive(story, "r4", of="a", after_ns=1)
    asleep(story)
    found = story.scheduler.model_snapshot("a")
    assert found is not None
    assert found.ready_in_ns == 3 * SECOND


def test_a_model_that_grows_wakes_its_sleeper_first() -> None:
    grows = sleeper("a", 4, 4, places=1, replicas=2)
    story = watched(grows, sleeper("b", 8, 8), device=gpu(10), host=RAM, params=AT_ONCE)
    arrive(story, "x1", "x2", of="a")
    ready(story)
    ready(story)
    story.tell(AttemptFinished("x1", 1, 1), AttemptFinished("x2", 1, 1))
    arrive(story, "r1", of="b", after_ns=1)
    asleep(story)
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1))
    arrive(story, "x3", "x4", of="a", after_ns=1)
    first = only(asleep(story), WakeReplica)
    second = only(woken(story), WakeReplica)
    assert {action.replica_id for action in (*first, *second)} == {"a#0", "a#1"}
    woken(story)
    assert {"x3", "x4"} <= {action.request_id for action in story.actions(Dispatch)}


# -- host memory ------------------------------------------------------------------------------


def three(ram_gib: int) -> Recorder:
    """`a` sleeps, `b` is resident and idle, `c` is wanted next."""
    story = watched(
        sleeper("a"),
        sleeper("b"),
        sleeper("c"),
        device=gpu(8),
        host=ram(ram_gib),
        params=AT_ONCE,
    )
    resident(story, "a")
    taking_turns(story)
    return story


def test_a_full_host_memory_drops_its_least_recently_used_sleeper() -> None:
    story = three(ram_gib=6)
    actions = arrive(story, "r2", of="c", after_ns=1)
    assert unloaded(actions) == [("a#0", "dropped")]
    assert only(actions, SleepReplica) == []
    actions = gone(story)
    assert [action.replica_id for action in only(actions, SleepReplica)] == ["b#0"]
    assert booked(story) == (6, 6)
    assert loaded(asleep(story)) == ["c#0"]


def test_a_sleeper_that_is_waited_for_is_not_dropped_for_another_one() -> None:
    story = three(ram_gib=6)
    arrive(story, "r2", of="a", after_ns=1)  # its wake waits for b, which needs host memory
    assert unloaded(story.entries[-1].actions) == [("b#0", "evicted")]
    assert only(gone(story), WakeReplica) == [WakeReplica("a#0", 1, 2)]


def test_a_victim_waits_for_host_memory_no_longer_than_a_drain_may_last() -> None:
    story = three(ram_gib=6)
    arrive(story, "r2", of="c", after_ns=1)
    actions = story.tell(TimerFired(), after_ns=story.scheduler.params.swap_drain_timeout_ns)
    assert ("b#0", "evicted") in unloaded(actions)


def test_models_that_run_in_host_memory_come_before_those_that_sleep_in_it() -> None:
    small = ram(8)
    runs = replace(model("cpu", 4), device="ram")
    story = watched(
        sleeper("a"),
        sleeper("b"),
        runs,
        device=gpu(7),
        host=small,
        params=AT_ONCE,
    )
    resident(story, "a")
    taking_turns(story)
    assert unloaded(arrive(story, "r2", of="cpu", after_ns=1)) == [("a#0", "dropped")]
    assert unloaded(arrive(story, "r3", of="a", after_ns=1)) == [("b#0", "evicted")], (
        "nothing falls asleep in memory that a model waits for"
    )
    assert "cpu#0" in loaded(gone(story))


def test_what_sleepers_keep_on_a_device_goes_when_all_of_it_is_needed() -> None:
    story = watched(sleeper("a"), sleeper("b"), model("big", 10), host=RAM, params=AT_ONCE)
    resident(story, "a")
    arrive(story, "r1", of="b", after_ns=1)
    asleep(story)
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1))
    causes = unloaded(arrive(story, "r2", of="big", after_ns=1))
    assert sorted(causes) == [("a#0", "dropped"), ("b#0", "evicted")]
    assert loaded(gone(story)) == ["big#0"]


# -- what goes wrong --------------------------------------------------------------------------


def test_a_failed_sleep_ends_the_replica_and_rests_before_the_next() -> None:
    story = two()
    arrive(story, "r1", of="b", after_ns=1)
    actions = story.tell(ReplicaFailed("a#0", 1, FailureKind.ENGINE_ERROR))
    assert unloaded(actions) == [("a#0", "failed")]
    assert story.counter("sleep_failures") == 1
    assert loaded(gone(story)) == ["b#0"]
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1))
    arrive(story, "r2", of="a", after_ns=1)  # b sleeps, a loads
    asleep(story)
    ready(story)
    story.tell(AttemptFinished("r2", 1, 1))
    assert unloaded(arrive(story, "r3", of="b", after_ns=1)) == [("a#0", "evicted")]


def test_a_sleep_that_is_never_confirmed_has_failed() -> None:
    story = two()
    arrive(story, "r1", of="b", after_ns=1)
    actions = story.tell(TimerFired(), after_ns=story.scheduler.params.sleep_timeout_ns)
    assert unloaded(actions) == [("a#0", "failed")]


@pytest.mark.parametrize("how", ["told", "timeout", "gone"])
def test_a_failed_wake_backs_off_like_a_failed_load(how: str) -> None:
    story = two(params=replace(AT_ONCE, load_timeout_ns=10 * SECOND))
    taking_turns(story)
    arrive(story, "r2", of="a", after_ns=1)
    asleep(story)
    if how == "told":
        story.tell(ReplicaFailed("a#0", 1, FailureKind.OUT_OF_MEMORY))
        gone(story)
    elif how == "timeout":
        story.tell(TimerFired(), after_ns=story.scheduler.params.load_timeout_ns)
        gone(story)
    else:
        story.tell(ReplicaGone("a#0", 1))
    found = story.scheduler.model_snapshot("a")
    assert found is not None
    assert found.state is ModelState.FAILED
    assert booked(story) == (1, 6)
    assert loaded(story.tell(TimerFired(), after_ns=found.backoff_until_ns - story.now_ns)) == [
        "a#0"
    ]


def test_answers_to_an_earlier_sleep_or_wake_are_stale() -> None:
    story = two()
    taking_turns(story)
    arrive(story, "r2", of="a", after_ns=1)
    asleep(story)
    woken(story)
    story.tell(AttemptFinished("r2", 1, 1))
    arrive(story, "r3", of="b", after_ns=1)  # a falls asleep again, turn 3
    stale = story.counter("stale_events")
    assert only(story.tell(ReplicaAsleep("a#0", 1, 1)), WakeReplica) == []
    assert state_of(story, "a") is ModelState.SLEEPING
    asleep(story)
    story.tell(ReplicaReady("a#0", 1), ReplicaReady("a#0", 1, turn=2))
    assert state_of(story, "a") is ModelState.ASLEEP
    assert story.counter("stale_events") == stale + 3


def test_a_measurement_of_what_sleeps_is_shown_and_not_booked() -> None:
    story = two()
    taking_turns(story)
    story.tell(MemorySampled("a#0", 1, 9 * GIB, story.now_ns))
    assert booked(story) == (7, 6)
    found = story.scheduler.model_snapshot("a")
    assert found is not None
    assert found.replicas[0].measured_bytes == 9 * GIB
    assert found.replicas[0].host_bytes == 6 * GIB


@pytest.mark.parametrize(
    ("models", "devices", "message"),
    [
        ([sleeper("a", sleep_level=3)], [replace(GPU, host="ram"), RAM], "levels are 0, 1 and 2"),
        ([sleeper("a")], [GPU], "names no host"),
        ([sleeper("a", residual_bytes=7 * GIB)], [replace(GPU, host="ram"), RAM], "at most what"),
        ([sleeper("a", host_bytes=-1)], [replace(GPU, host="ram"), RAM], "negative"),
        ([model()], [replace(GPU, host="gpu")], "not another device"),
        ([model()], [replace(GPU, host="rma"), RAM], "not another device"),
    ],
)
def test_impossible_sleepers_are_refused(
    models: list[ModelSpec], devices: list[DeviceSpec], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheduler(models, devices, policies())
