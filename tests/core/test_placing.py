"""Models with a choice of devices: where each replica goes, and what stays true of the ledgers."""

from collections.abc import Sequence

import pytest

from slalom.core.actions import LoadReplica, Reason, UnloadReplica, WakeReplica
from slalom.core.events import (
    Ask,
    AttemptFinished,
    DeviceSampled,
    ModelAsked,
    RequestArrived,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import GIB, SECOND
from tests.core.stories import arrive, asleep, dispatched, gone, only, ready, request, resident

_SMALL = DeviceSpec("small", 10 * GIB)
_LARGE = DeviceSpec("large", 16 * GIB)


def roamer(name: str, gib: int = 4, places: int = 1, **other: object) -> ModelSpec:
    """A model that may be on both devices, the small one first."""
    homes = ("small", "large")
    rest: dict[str, object] = {"devices": homes, **other}
    return ModelSpec(name, "small", gib * GIB, places, **rest)  # type: ignore[arg-type]


def fixed(name: str, device: str, gib: int, **other: object) -> ModelSpec:
    """A model of one device."""
    return ModelSpec(name, device, gib * GIB, 1, **other)  # type: ignore[arg-type]


def watched(
    *models: ModelSpec,
    devices: Sequence[DeviceSpec] = (_SMALL, _LARGE),
    params: SchedulerParams | None = None,
) -> Recorder:
    return Recorder(Scheduler(models, devices, policies(), params))


def where(recorder: Recorder) -> dict[str, str]:
    """Where each replica was loaded."""
    return {one.replica_id: one.device for one in recorder.actions(LoadReplica)}


def test_it_goes_where_most_is_free() -> None:
    recorder = watched(roamer("a"), roamer("b", 8), roamer("c", 5))
    for name in "abc":
        arrive(recorder, name, of=name)
    assert where(recorder) == {"a#0": "large", "b#0": "large", "c#0": "small"}


def test_of_equals_the_one_named_first_is_taken() -> None:
    twins = (DeviceSpec("small", 10 * GIB), DeviceSpec("large", 10 * GIB))
    recorder = watched(roamer("a"), devices=twins)
    arrive(recorder, "r", of="a")
    assert where(recorder) == {"a#0": "small"}


def test_it_goes_where_nobody_must_give_way_even_if_less_is_free() -> None:
    recorder = watched(fixed("x", "large", 16), roamer("a"))
    arrive(recorder, "one", of="x")
    ready(recorder)
    recorder.tell(AttemptFinished("one", 1, 1))
    arrive(recorder, "two", of="a")
    assert where(recorder)["a#0"] == "small"
    assert not recorder.actions(UnloadReplica)


def test_what_others_wait_for_is_not_free() -> None:
    recorder = watched(fixed("x", "large", 16), fixed("y", "large", 12), roamer("a", 8))
    resident(recorder, "x")
    arrive(recorder, "two", of="y")  # x must go first
    arrive(recorder, "three", of="a")
    assert where(recorder)["a#0"] == "small"


def test_only_a_device_that_is_large_enough_is_asked_to_make_room() -> None:
    recorder = watched(fixed("x", "large", 14), roamer("a", 12))
    resident(recorder, "x")
    recorder.clock.advance(5 * SECOND)
    arrive(recorder, "two", of="a")
    gone(recorder)
    assert where(recorder)["a#0"] == "large"


def test_one_that_fits_nowhere_is_refused_at_once() -> None:
    recorder = watched(roamer("a", 17))
    arrive(recorder, "r", of="a")
    assert recorder.counter("ended_rejected") == 1


def test_a_need_moves_to_a_device_that_comes_free() -> None:
    patient = SchedulerParams(swap_patience_ns=60 * SECOND)
    recorder = watched(
        fixed("x", "large", 14), fixed("y", "small", 10), roamer("a", 8), params=patient
    )
    for name in "xy":
        arrive(recorder, name, of=name)
    ready(recorder)
    arrive(recorder, "r", of="a")  # both are busy: it waits in line where more is free
    assert recorder.scheduler.state.models["a"].device.spec.id == "large"
    recorder.tell(AttemptFinished("y", 1, 1), ModelAsked("y", Ask.UNLOAD, "ask"))
    gone(recorder, after_ns=SECOND)
    assert where(recorder)["a#0"] == "small"
    assert recorder.counter("needs_moved") == 1


def test_further_replicas_spread_and_all_of_them_serve() -> None:
    recorder = watched(roamer("a", 6, replicas=3))
    arrive(recorder, "one", "two", "three", of="a")
    for _ in range(3):
        ready(recorder)
    assert sorted(where(recorder).values()) == ["large", "large", "small"]
    assert set(dispatched([a for e in recorder.entries for a in e.actions])) == {
        "one",
        "two",
        "three",
    }


def test_what_sleeps_is_woken_where_it_is() -> None:
    ram = DeviceSpec("ram", 64 * GIB)
    devices = (
        DeviceSpec("small", 10 * GIB, host="ram"),
        DeviceSpec("large", 16 * GIB, host="ram"),
        ram,
    )
    sleeper = roamer("a", 8, sleep_level=1, host_bytes=8 * GIB)
    recorder = watched(sleeper, devices=devices)
    resident(recorder, "a")
    assert where(recorder) == {"a#0": "large"}
    recorder.tell(ModelAsked("a", Ask.SLEEP, "ask"), after_ns=5 * SECOND)
    asleep(recorder)
    # Now more is free on the small one.
    recorder.tell(DeviceSampled("large", 7 * GIB, recorder.now_ns))
    actions = arrive(recorder, "again", of="a", after_ns=SECOND)
    assert [one.replica_id for one in only(actions, WakeReplica)] == ["a#0"]
    assert not only(actions, LoadReplica)


def test_pinned_replicas_have_their_seats() -> None:
    recorder = watched(
        roamer("a", 7, replicas=3, pinned=True),
        fixed("x", "large", 2),
        fixed("y", "small", 3),
    )
    state = recorder.scheduler.state
    assert state.models["a"].seats == {"large": 2, "small": 1}
    actions = recorder.handle([RequestArrived(request("r", "x"))])
    assert not any(getattr(one, "reason", "") == Reason.DOES_NOT_FIT for one in actions)
    actions = recorder.handle([RequestArrived(request("s", "y"))])
    assert not any(getattr(one, "reason", "") == Reason.DOES_NOT_FIT for one in actions)
    actions = watched(roamer("a", 7, replicas=3, pinned=True), fixed("x", "large", 3)).handle(
        [RequestArrived(request("r", "x"))]
    )
    assert [getattr(one, "reason", "") for one in actions].count(Reason.DOES_NOT_FIT) == 1


@pytest.mark.parametrize(
    ("spec", "devices", "said"),
    [
        (roamer("a", devices=("small", "medium")), (_SMALL, _LARGE), "does not exist"),
        (roamer("a", devices=("large", "small")), (_SMALL, _LARGE), "the first being"),
        (roamer("a"), (DeviceSpec("small", 10 * GIB, 4), _LARGE), "has a window"),
        (roamer("a", 9, replicas=3, pinned=True), (_SMALL, _LARGE), "do not fit"),
    ],
)
def test_impossible_places_are_refused(
    spec: ModelSpec, devices: tuple[DeviceSpec, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        watched(spec, devices=devices)
