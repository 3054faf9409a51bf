"""The simpler baselines: `static`, `edf-drop`, `class-priority`, and the arithmetic they share."""

from dataclasses import replace

import pytest

from slalom.core.actions import Reason
from slalom.core.planning import Plan, Planner
from slalom.core.request import ModelSpec
from slalom.policies.class_priority import ClassPriority
from slalom.policies.due import end_due_ns, expected_tokens, first_due_ns, is_hopeless
from slalom.policies.edf_drop import EdfDrop
from slalom.policies.places import Places, draw
from slalom.policies.static import Static
from slalom.units import MS
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated


def started(plan: Plan) -> list[str]:
    return [start.request_id for start in plan.starts]


def begun(options: EdfDrop | ClassPriority | Static, spec: ModelSpec | None = None) -> Planner:
    return options.begin([spec] if spec else [])


# -- what they share ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "first_ms", "first", "end"),
    [
        ({}, -1, None, None),
        ({"ttft_ms": 200}, -1, 200, None),
        ({"e2e_ms": 900}, -1, None, 900),
        ({"ttft_ms": 200, "tpot_ms": 10}, -1, 200, 200 + 490),
        ({"ttft_ms": 200, "tpot_ms": 10}, 50, 200, 50 + 490),
        ({"tpot_ms": 10}, -1, None, None),
        ({"tpot_ms": 10}, 50, None, 50 + 490),
        ({"ttft_ms": 200, "tpot_ms": 10, "e2e_ms": 500}, -1, 200, 500),
        ({"ttft_ms": 200, "tpot_ms": 1, "e2e_ms": 500}, -1, 200, 249),
    ],
)
def test_when_a_request_is_due(
    limits: dict[str, int], first_ms: int, first: int | None, end: int | None
) -> None:
    request = asked(tokens=50, **limits)  # type: ignore[arg-type]
    first_ns = AT_NS + first_ms * MS if first_ms >= 0 else -1
    due_ns, end_ns = first_due_ns(request), end_due_ns(request, 50, first_ns)
    assert due_ns == (None if first is None else AT_NS + first * MS)
    assert end_ns == (None if end is None else AT_NS + end * MS)


def test_the_expected_length_is_never_more_than_what_is_allowed() -> None:
    request = asked(tokens=50)
    assert expected_tokens(request) == 50
    assert expected_tokens(replace(request, predicted_tokens=9)) == 9
    assert expected_tokens(replace(request, predicted_tokens=99)) == 50
    assert expected_tokens(replace(request, predicted_tokens=0)) == 50
    assert expected_tokens(replace(request, max_tokens=0)) == 1


@pytest.mark.parametrize(
    ("limits", "now_ms", "hopeless"),
    [
        ({}, 10**6, False),
        ({"ttft_ms": 200}, 90, False),  # 100 ms of prompt and a step of 10 ms
        ({"ttft_ms": 200}, 91, True),
        ({"e2e_ms": 700}, 100, False),  # and 49 steps
        ({"e2e_ms": 700}, 101, True),
    ],
)
def test_who_could_not_be_on_time_alone(
    limits: dict[str, int], now_ms: int, *, hopeless: bool
) -> None:
    spec = calibrated(step=10, prompt=1)
    request = asked(tokens=50, prompt=100, **limits)  # type: ignore[arg-type]
    assert is_hopeless(request, spec, AT_NS + now_ms * MS) == hopeless
    late_only = ModelSpec("a", "gpu", 1, 1)
    assert not is_hopeless(request, late_only, AT_NS + now_ms * MS), "not late, and times unknown"


@pytest.mark.parametrize(
    ("replicas", "window", "room", "order"),
    [
        ([(4, 1)], 0, 99, "aaa"),
        ([(4, 1)], 2, 99, "a"),
        ([(4, 3)], 2, 99, ""),
        ([(4, 1)], 0, 2, "aa"),
        ([(4, 1)], 0, -3, ""),
        ([(2, 0), (3, 0)], 0, 99, "babab"),
        ([(4, 3), (4, 0)], 2, 99, "bb"),
    ],
)
def test_places_are_handed_out_where_most_are_free(
    replicas: list[tuple[int, int]], window: int, room: int, order: str
) -> None:
    ready = [
        Ready(name, places, [Runs(asked())] * running)
        for name, (places, running) in zip("abc", replicas, strict=False)
    ]
    places = Places(View(replicas=ready, room=room), window)
    taken = "".join(places.take() for _ in range(places.left))
    assert taken == order


def test_draws_are_the_same_everywhere_and_even() -> None:
    assert [draw(1, number, 100) for number in range(5)] == [28, 17, 26, 62, 0]
    counts = [0] * 20
    for number in range(20_000):
        counts[draw(3, number, 20)] += 1
    assert min(counts) > 850
    assert max(counts) < 1_150


# -- static ---------------------------------------------------------------------------------------


def test_static_fills_its_window_first_come_first_served() -> None:
    policy = Static(window=3)
    queue = [Waits(asked(name)) for name in ("r1", "r2", "r3", "r4")]
    busy = Ready(attempts=[Runs(asked("x"))])
    assert started(begun(policy).plan(View(queue, [busy]), AT_NS)) == ["r1", "r2"]
    assert len(Static().plan(View(queue, [Ready(places=3)]), AT_NS).starts) == 3
    late, early = asked(e2e_ms=1, after_ms=5), asked(e2e_ms=10**6)
    assert policy.key(late, 0) > policy.key(early, 0), "whoever came first, whatever is due"


# -- edf-drop -------------------------------------------------------------------------------------


def test_edf_orders_by_the_first_instant_at_which_something_breaks() -> None:
    policy = EdfDrop()
    assert policy.key(asked(ttft_ms=200, e2e_ms=900), 7) == AT_NS + 200 * MS
    assert policy.key(asked(e2e_ms=900), 7) == AT_NS + 900 * MS
    assert policy.key(asked(), 7) == AT_NS + 7


def test_edf_drop_refuses_the_lost_and_starts_the_others_at_their_turn_only() -> None:
    spec = calibrated(step=10)
    planner = begun(EdfDrop(window=2), spec)
    lost, good, none = asked("lost", e2e_ms=499), asked("good", e2e_ms=600), asked("none")
    queue = [Waits(lost), Waits(good), Waits(none), Waits(replace(lost, id="later"))]
    plan = planner.plan(View(queue, spec=spec), AT_NS)
    assert started(plan) == ["good", "none"]
    assert [(one.request_id, one.reason) for one in plan.refusals] == [
        ("lost", Reason.SLA_INFEASIBLE)
    ]
    full = Ready(attempts=[Runs(good), Runs(none)])
    assert planner.plan(View(queue, [full], spec), AT_NS) == Plan([], refusals=[])


def test_edf_drop_never_refuses_what_has_begun_to_answer() -> None:
    begun_to = Waits(asked(e2e_ms=1), first_token_ns=AT_NS, produced_tokens=3)
    plan = EdfDrop().plan(View([begun_to]), AT_NS + 10**12)
    assert (len(plan.starts), plan.refusals) == (1, [])


def test_edf_drop_goes_on_at_once_behind_a_long_row_of_lost_ones() -> None:
    queue = [Waits(asked(f"r{n}", e2e_ms=1)) for n in range(500)]
    plan = EdfDrop(window=2).plan(View(queue), AT_NS + 10**9)
    assert 100 < len(plan.refusals) < 500
    assert plan.look_ns == AT_NS + 10**9 + 1


# -- class-priority -------------------------------------------------------------------------------


def test_classes_come_before_arrivals_and_engines_are_told() -> None:
    policy = ClassPriority()
    urgent = asked("u", ttft_ms=200, e2e_ms=500, after_ms=10**6)
    loose, never = asked("l", e2e_ms=10_000), asked("n")
    keys = [policy.key(request, 0) for request in (urgent, loose, never)]
    assert keys == sorted(keys)
    assert policy.key(replace(loose, arrived_ns=AT_NS + 1), 0) > policy.key(loose, 0)
    queue = [Waits(urgent), Waits(loose), Waits(never)]
    told = [start.priority for start in policy.plan(View(queue), AT_NS).starts]
    assert told[:2] == [200, 10_000]
    assert told == sorted(set(told))
    quiet = ClassPriority(window=2, in_engine=False).plan(View(queue), AT_NS)
    assert [start.priority for start in quiet.starts] == [0, 0]
