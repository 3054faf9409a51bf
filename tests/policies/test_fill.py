"""`fill`: free memory is shared out by what was asked, and replicas move only where that pays."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from slalom.core.actions import LoadReplica, SizeDecided, UnloadCause, UnloadReplica
from slalom.core.events import AttemptFinished, FirstToken, RequestArrived
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, StepCost
from slalom.core.scheduler import Scheduler
from slalom.core.sizing import Sizing
from slalom.policies.registry import policies
from slalom.policies.scaling.fill import Fill
from slalom.policies.scaling.replay import calls_of, good_with, worth_with
from slalom.testing.recorder import Recorder
from slalom.units import GIB, MS, SECOND
from tests.core.stories import gone, ready
from tests.policies.test_routing import Open
from tests.policies.test_scaling import COST, HOMES, Card, Shape, load
from tests.policies.views import AT_NS


def fleet(name: str, per_s: float, up: int, *, seconds: int = 60, **other: object) -> Shape:
    """A model of which so many replicas are up, asked for so often lately, 100 tokens each."""
    spec = ModelSpec(name, HOMES[0], GIB, 4, replicas=8, step_cost=COST, devices=HOMES)
    found = Shape(up=up, spec=spec, replicas=[Open(f"{name}#0", places=4)], **other)  # type: ignore[arg-type]
    if up:
        found.sizing.resize(up, 0)
    for request in load(per_s, seconds, AT_NS) if per_s else ():
        found.sizing.arrived(request, request.arrived_ns)
    return found


def sizes(policy: Fill, *models: Shape) -> dict[str, int]:
    """What is decided."""
    return {name: size.replicas for name, size in policy.sizes(models, AT_NS).items()}


def free(*names: str) -> Sequence[Card]:
    """Of all devices only these are free."""
    return tuple(Card(name, GIB if name in names else 0) for name in HOMES)


def test_free_memory_goes_where_it_serves_most() -> None:
    found = sizes(Fill(), fleet("busy", 6.0, 1), fleet("calm", 1.0, 1))
    assert found["busy"] + found["calm"] <= 8 + 2
    assert found["busy"] >= 4 > found["calm"] >= 1


def test_what_is_not_asked_for_gets_nothing_and_loses_nothing() -> None:
    found = sizes(Fill(), fleet("idle", 0.0, 3), fleet("never", 0.0, 1), fleet("calm", 1.0, 1))
    assert found["idle"] == 3
    assert "never" not in found


def test_who_is_known_for_a_moment_gets_an_equal_part_at_most() -> None:
    first = fleet("first", 6.0, 0, seconds=2)
    others = [fleet(name, 0.0, 0) for name in ("b", "c", "d")]
    assert sizes(Fill(), first, *others) == {"first": 2}
    # The parts of those whom nobody has asked for are kept while all is new.
    assert sizes(Fill(), fleet("first", 6.0, 0, seconds=30), *others) == {"first": 2}
    assert sizes(Fill(), fleet("first", 6.0, 0, seconds=90), *others)["first"] > 2


def test_a_model_that_is_asked_more_than_is_remembered_is_known_all_the_same() -> None:
    first = fleet("first", 40.0, 0, seconds=90)
    assert first.sizing.recent()[0].arrived_ns > AT_NS - 10 * SECOND
    assert sizes(Fill(), first, fleet("b", 0.0, 0))["first"] > 4


def test_a_device_has_one_replica_of_a_model_unless_requests_wait_for_a_place() -> None:
    large = tuple(Card(name, 4 * GIB) for name in HOMES[:2])
    stands = {HOMES[0]: 1}
    busy = fleet("busy", 6.0, 1, cards=large, stands=stands)
    assert sizes(Fill(), busy) == {"busy": 2}
    busy.waiting_count = 3
    busy.replicas = [Open("busy#0", places=4, others=4)]
    assert sizes(Fill(), busy)["busy"] > 2


def test_nothing_comes_where_a_model_waits_for_its_first_replica() -> None:
    wanted = tuple(replace(card, is_wanted=True) for card in free(*HOMES[:4]))
    assert sizes(Fill(), fleet("busy", 6.0, 1, cards=wanted)) == {"busy": 1}


def test_what_was_decided_and_is_not_up_keeps_its_room() -> None:
    early = fleet("early", 1.0, 3, cards=free("gpu7"))
    early.up = 2
    late = fleet("late", 6.0, 1, cards=free("gpu7"))
    assert sizes(Fill(worth_per_minute=1e9, worth_share=1e9), early, late) == {
        "early": 3,
        "late": 1,
    }


def pair(loser_per_s: float) -> tuple[Shape, Shape]:
    """A model that lacks replicas and one that has seven, on machines that are full."""
    stands = dict.fromkeys(HOMES[1:], 1)
    needy = fleet("needy", 6.0, 1, cards=free(), stands={HOMES[0]: 1})
    return needy, fleet("rich", loser_per_s, 7, cards=free(), stands=stands)


def test_a_replica_moves_where_that_pays_and_one_at_a_time() -> None:
    assert sizes(Fill(), *pair(0.5)) == {"needy": 2, "rich": 6}
    assert sizes(Fill(), *pair(0.0)) == {"needy": 2, "rich": 6}
    assert sizes(Fill(), *pair(12.0)) == {"needy": 1, "rich": 7}
    dear = Fill(worth_per_minute=10_000.0, worth_share=10_000.0)
    assert sizes(dear, *pair(0.5)) == {"needy": 1, "rich": 7}


def test_a_move_of_long_answers_need_not_gain_more_than_a_replica_gives() -> None:
    # A place answers one of 40 s: a replica of four gives six a minute, fewer than ten.
    slow = StepCost(step_ns=400 * MS, sequence_ns=0)
    needy, rich = pair(0.0)
    needy.spec = replace(needy.spec, step_cost=slow)
    asked = load(0.5, 120, AT_NS, e2e_ms=60_000)
    needy.sizing = Sizing()
    for request in asked:
        needy.sizing.arrived(request, request.arrived_ns)
    assert sizes(Fill(), needy, rich) == {"needy": 2, "rich": 6}
    assert sizes(Fill(worth_share=10.0), needy, rich) == {"needy": 1, "rich": 7}


def test_of_many_replicas_one_in_eight_moves_at_once() -> None:
    homes = tuple(f"gpu{index}" for index in range(40))
    full = tuple(Card(name, 0) for name in homes)
    found = []
    for name, per_s, here in (("needy", 40.0, homes[:16]), ("rich", 0.0, homes[16:])):
        model = fleet(name, per_s, len(here), cards=full, stands=dict.fromkeys(here, 1))
        model.spec = replace(model.spec, replicas=40, devices=homes)
        found.append(model)
    assert sizes(Fill(), *found) == {"needy": 18, "rich": 22}


def test_moves_rest_and_are_bounded_in_an_hour() -> None:
    policy = Fill(rest_s=15, changes_per_hour=4)
    needy, rich = pair(0.5)
    needy.sizing.resize(1, AT_NS - 10 * SECOND)
    assert sizes(policy, needy, rich) == {"needy": 1, "rich": 7}
    needy, rich = pair(0.5)
    for ago_s in (400, 300, 200, 100):
        rich.sizing.resize(7, AT_NS - ago_s * SECOND)
    assert sizes(policy, needy, rich) == {"needy": 1, "rich": 7}


def test_nothing_moves_to_a_model_that_could_not_stand_there() -> None:
    needy, rich = pair(0.5)
    needy.cards = free()[:4]
    assert sizes(Fill(), needy, rich) == {"needy": 1, "rich": 7}
    needy, rich = pair(0.5)
    needy.spec = replace(needy.spec, bytes_needed=2 * GIB)
    assert sizes(Fill(), needy, rich) == {"needy": 1, "rich": 7}


def test_worth_grows_beyond_what_is_on_time() -> None:
    calls = calls_of(load(4.0, 30, 30 * SECOND, e2e_ms=5_000), COST, 1.0, Sizing())
    good = [good_with(count, calls, COST, 4, 30 * SECOND) for count in (4, 7)]
    worth = [worth_with(count, calls, COST, 4, 30 * SECOND) for count in (4, 7)]
    assert good[0] == good[1] == len(calls)
    assert worth[0] < worth[1] < len(calls)


def test_a_replay_of_long_calls_does_not_begin_with_empty_replicas() -> None:
    slow = StepCost(step_ns=100 * MS, sequence_ns=0)
    requests = load(2.0, 10, 10 * SECOND, e2e_ms=12_000)
    calls = calls_of(requests, slow, 1.0, Sizing())
    # Twenty calls of 10 s each in 10 s need twenty places: with ten, which are full when the span
    # begins, half of them find none in time.
    assert good_with(1, calls, slow, 10, 10 * SECOND) < 0.7 * len(calls)
    assert good_with(3, calls, slow, 10, 10 * SECOND) == len(calls)


def test_answers_count_as_long_as_they_were() -> None:
    sizing = Sizing()
    asked = load(1.0, 4, AT_NS)
    for request in asked:
        sizing.arrived(request, request.arrived_ns)
    assert sizing.tokens_of(asked[0]) == 100.0
    sizing.answered(asked[0], 25)
    assert sizing.tokens_of(asked[0]) == 25.0
    assert sizing.tokens_of(asked[1]) == pytest.approx(25.0)


# -- in the core ------------------------------------------------------------------------------


def _machines(count: int = 4, **slots: str) -> Recorder:
    homes = tuple(f"gpu{index}" for index in range(count))
    specs = [
        ModelSpec(name, homes[0], GIB, 2, replicas=count, step_cost=COST, devices=homes)
        for name in ("a", "b")
    ]
    chosen = policies(**{"scaling": "fill", **slots})
    return Recorder(Scheduler(specs, [DeviceSpec(name, GIB) for name in homes], chosen))


def _ask(recorder: Recorder, name: str, of: str, *, tokens: int = 100) -> None:
    request = Request(name, of, "t", Sla(e2e_ns=6 * SECOND), recorder.now_ns, 50, tokens, tokens)
    recorder.tell(RequestArrived(request))


def test_an_idle_fleet_is_filled_for_both_models() -> None:
    recorder = _machines()
    for index in range(12):
        _ask(recorder, f"r{index}", "ab"[index % 2])
        recorder.handle([], recorder.now_ns + SECOND // 2)
    loads = [one.model for one in recorder.actions(LoadReplica)]
    assert sorted(loads) == ["a", "a", "b", "b"]
    assert not recorder.actions(UnloadReplica)


def test_a_replica_leaves_its_model_for_another_one_and_arrives_there() -> None:
    recorder = _machines()
    for index in range(8):
        _ask(recorder, f"r{index}", "ab"[index % 2], tokens=20)
        recorder.handle([], recorder.now_ns + SECOND // 2)
    ready(recorder)
    for count in range(200):  # from now on only b is asked for, more than two replicas can serve
        _ask(recorder, f"s{count}", "b")
        _ask(recorder, f"t{count}", "b")
        recorder.handle([], recorder.now_ns + SECOND // 2)
        for attempt in list(recorder.scheduler.state.attempts.values()):
            if recorder.now_ns - attempt.started_ns > 3 * SECOND:
                fence = (attempt.request_id, attempt.number)
                recorder.tell(FirstToken(*fence))
                recorder.tell(AttemptFinished(*fence, 100))
        gone(recorder)
        ready(recorder)
        if recorder.scheduler.state.models["b"].up_count() > 2:
            break
    moved = [one.cause for one in recorder.actions(UnloadReplica)]
    assert moved == [UnloadCause.SCALED]
    assert recorder.scheduler.state.models["a"].up_count() == 1
    assert recorder.scheduler.state.models["b"].up_count() == 3


def test_a_single_machine_is_left_alone_and_sets_no_timer() -> None:
    spec = ModelSpec("a", "gpu", GIB, 1, replicas=3, step_cost=COST)
    recorder = Recorder(Scheduler([spec], [DeviceSpec("gpu", 4 * GIB)], policies(scaling="fill")))
    recorder.handle()
    _ask(recorder, "one", "a")
    recorder.handle([], recorder.now_ns + 5 * SECOND)
    assert len(recorder.actions(LoadReplica)) == 1
    assert not recorder.actions(SizeDecided)
    assert recorder.scheduler.state.resize_ns <= 0
