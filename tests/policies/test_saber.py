"""`saber`: the laws, the speeds that requests need, two queues, the drawn window, the program."""

from dataclasses import replace
from statistics import fmean

import pytest

from slalom.core.planning import Moment, Observation, Plan, Planner
from slalom.core.request import ModelSpec, StepCost
from slalom.policies.saber import Saber, required_speed
from slalom.policies.saber_law import PUBLISHED_FITS, LawName, program_law, speed_law
from slalom.twin.usl import SABER_FIT, SABER_MEANS
from slalom.units import MS, SECOND
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

FAST = asked("fast", tokens=100, e2e_ms=1_000)  # needs 100 tokens/s of at most 99.6
LOOSE = asked("loose", tokens=100, e2e_ms=10_000)  # needs 10 tokens/s


def planner(options: Saber | None = None, spec: ModelSpec | None = None) -> Planner:
    return (options or Saber()).begin([spec or View().spec])


def started(plan: Plan) -> list[str]:
    return [start.request_id for start in plan.starts]


# -- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("law", "least"), [("usl", 0.97), ("logistic", 0.96), ("linear", 0.90)])
def test_the_laws_explain_the_published_means_as_well_as_the_paper_says(
    law: LawName, least: float
) -> None:
    speed = speed_law(law, None, None)
    mean = fmean(value for _, value in SABER_MEANS)
    spread = sum((value - mean) ** 2 for _, value in SABER_MEANS)
    missed = sum((value - speed(load)) ** 2 for load, value in SABER_MEANS)
    assert 1 - missed / spread > least


def test_the_published_law_is_the_engines() -> None:
    assert PUBLISHED_FITS["usl"] == (SABER_FIT.a, SABER_FIT.s, SABER_FIT.k)
    speed = speed_law("usl", None, None)
    for load in (1, 17, 60, 200, 1_000):
        assert speed(load) == pytest.approx(SABER_FIT.speed(load))


def test_coefficients_and_calibrations_make_other_laws() -> None:
    assert speed_law("linear", (50.0, 2.0, 0.0), None)(5) == 40.0
    cost = StepCost(step_ns=8 * MS, sequence_ns=1 * MS)
    assert speed_law("fit", None, cost)(2) == pytest.approx(100.0)
    assert speed_law("fit", None, None)(1) == speed_law("usl", None, None)(1)


def test_the_programs_law_is_a_cap_of_seventeen() -> None:
    assert min(program_law(load) for load in range(1, 18)) > 100
    assert max(program_law(load) for load in range(18, 200)) < 0


# -- what a request needs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "first_ms", "now_ms", "remaining", "speed"),
    [
        ({"e2e_ms": 1_000}, -1, 0, 50, 50.0),
        ({"e2e_ms": 1_000}, -1, 500, 50, 100.0),
        ({"e2e_ms": 1_000}, 100, 500, 10, 20.0),
        ({"e2e_ms": 1_000}, -1, 1_000, 50, float("inf")),
        ({"e2e_ms": 1_000}, 100, 500, 0, 2.0),
        ({"tpot_ms": 20}, -1, 500, 50, 50.0),
        ({"tpot_ms": 20}, 100, 580, 25, 50.0),
        ({"tpot_ms": 20}, 100, 100, 25, 25 / 0.98),
        ({"tpot_ms": 100, "e2e_ms": 1_000}, -1, 0, 50, 50.0),
        ({"tpot_ms": 10, "e2e_ms": 1_000}, -1, 0, 50, 100.0),
        ({"ttft_ms": 200}, -1, 500, 50, 0.0),
        ({}, -1, 500, 50, 0.0),
    ],
)
def test_the_speed_that_a_request_needs(
    limits: dict[str, int], first_ms: int, now_ms: int, remaining: int, speed: float
) -> None:
    request = asked(tokens=50, **limits)  # type: ignore[arg-type]
    first_ns = AT_NS + first_ms * MS if first_ms >= 0 else -1
    found = required_speed(request, 50, remaining, first_ns, AT_NS + now_ms * MS)
    assert found == pytest.approx(speed)


# -- the paper's algorithm ------------------------------------------------------------------------


def test_a_newcomer_that_would_be_too_slow_waits_and_is_tried_again() -> None:
    need_60 = Waits(asked("n", tokens=60, e2e_ms=1_000))
    beside = [Runs(replace(LOOSE, id=f"a{n}")) for n in range(30)]  # v(31) is 56
    plan = planner().plan(View([need_60], [Ready(attempts=beside)]), AT_NS)
    assert (started(plan), plan.demotions) == ([], [])
    assert plan.look_ns == AT_NS + 100 * MS
    few = planner().plan(View([need_60], [Ready(attempts=beside[:5])]), AT_NS)
    assert (started(few), few.look_ns) == (["n"], -1)


def test_a_newcomer_that_would_slow_an_active_one_too_much_waits() -> None:
    tight = Runs(asked("tight", tokens=85, e2e_ms=1_000))  # v(5) is 89, v(6) is 87
    others = [Runs(replace(LOOSE, id=f"a{n}")) for n in range(4)]
    view = View([Waits(LOOSE)], [Ready(attempts=[tight, *others])])
    assert started(planner().plan(view, AT_NS)) == ["loose"]
    view = View([Waits(LOOSE)], [Ready(attempts=[replace(tight, heard_ns=AT_NS + SECOND)] * 5)])
    assert started(planner().plan(view, AT_NS + 100 * MS)) == []


def test_tokens_since_the_last_report_are_taken_from_the_law() -> None:
    """50 tokens in 1 s: after half a second alone nearly all are there, so little is needed."""
    active = Runs(asked("a", tokens=50, e2e_ms=600), heard_ns=AT_NS)
    view = View([Waits(LOOSE)], [Ready(attempts=[active] * 1)])
    assert started(planner().plan(view, AT_NS + 400 * MS)) == ["loose"]
    silent = replace(active, heard_ns=AT_NS + 400 * MS)
    view = View([Waits(LOOSE)], [Ready(attempts=[silent])])
    assert started(planner().plan(view, AT_NS + 500 * MS)) == ["loose"], "lost: holds nobody back"
    reported = replace(active, heard_ns=AT_NS + 400 * MS, output_tokens=33)  # 85 tokens/s to go
    crowd = [replace(reported, request=replace(reported.request, id=f"c{n}")) for n in range(9)]
    view = View([Waits(LOOSE)], [Ready(attempts=crowd)])
    assert started(planner().plan(view, AT_NS + 400 * MS)) == []


def test_who_needs_more_than_a_lone_request_gets_is_demoted_and_served_last() -> None:
    queue = [Waits(FAST), Waits(LOOSE)]
    plan = planner().plan(View(queue), AT_NS)
    assert plan.demotions == ["fast"]
    assert started(plan) == ["loose", "fast"], "the low queue, once the high one is empty"
    stuck = Waits(asked("stuck", tokens=98, e2e_ms=1_000))  # alone, or never
    busy = Ready(attempts=[Runs(LOOSE)])
    plan = planner().plan(View([stuck, Waits(FAST, demoted=True)], [busy]), AT_NS)
    assert started(plan) == [], "the high queue is not empty"


def test_the_low_queue_does_not_slow_what_runs_too_much() -> None:
    tight = Runs(asked("tight", tokens=98, e2e_ms=1_000))
    view = View([Waits(FAST, demoted=True)], [Ready(attempts=[tight])])
    assert started(planner().plan(view, AT_NS)) == []


def test_the_next_is_drawn_from_the_window_and_not_the_oldest() -> None:
    queue = [Waits(replace(LOOSE, id=f"r{n:02d}")) for n in range(60)]
    one_place = View(queue, [Ready(places=1)])
    drawn = {started(planner(Saber(seed=seed)).plan(one_place, AT_NS))[0] for seed in range(200)}
    assert drawn == {f"r{n:02d}" for n in range(20)}
    first = planner(Saber(window=1)).plan(View(queue, [Ready(places=3)]), AT_NS)
    assert started(first) == ["r00", "r01", "r02"]


def test_one_that_does_not_fit_keeps_no_other_in_the_window_from_starting() -> None:
    stuck = Waits(asked("stuck", tokens=98, e2e_ms=1_000))
    queue = [stuck, Waits(LOOSE)]
    busy = Ready(attempts=[Runs(replace(LOOSE, id="a"))])
    for seed in range(8):
        plan = planner(Saber(seed=seed)).plan(View(queue, [busy]), AT_NS)
        assert started(plan) == ["loose"]


def test_lengths_may_be_expected_ones_and_times_to_the_first_token_only_expire() -> None:
    long = Waits(replace(asked("long", tokens=900, e2e_ms=2_000), predicted_tokens=90))
    assert planner().plan(View([long]), AT_NS).demotions == ["long"]
    assert planner(Saber(expected_length=True)).plan(View([long]), AT_NS).demotions == []
    urgent = View([Waits(asked("u", tokens=900, ttft_ms=200))])
    assert planner().plan(urgent, AT_NS + 200 * MS).demotions == []
    assert planner().plan(urgent, AT_NS + 200 * MS + 1).demotions == ["u"]


def test_every_replica_has_its_own_load() -> None:
    crowd = Ready("a#0", 10, [Runs(replace(LOOSE, id=f"a{n}")) for n in range(8)])
    queue = [Waits(asked("n", tokens=98, e2e_ms=1_000))]
    plan = planner().plan(View(queue, [crowd, Ready("a#1", 10)]), AT_NS)
    assert [start.replica_id for start in plan.starts] == ["a#1"]


def test_a_long_row_of_lost_requests_is_demoted_bit_by_bit_without_waiting() -> None:
    queue = [Waits(replace(FAST, id=f"r{n}")) for n in range(200)]
    plan = planner().plan(View(queue, [Ready(attempts=[Runs(LOOSE)] * 50)]), AT_NS)
    assert len(plan.demotions) == 64
    assert plan.look_ns == AT_NS + 1


def test_the_law_of_the_calibration_is_used_where_asked_for() -> None:
    slow = calibrated(step=100)
    plan = planner(Saber(law="fit"), slow).plan(View([Waits(LOOSE)], spec=slow), AT_NS)
    assert plan.demotions == []
    slower = calibrated(step=101)
    plan = planner(Saber(law="fit"), slower).plan(View([Waits(LOOSE)], spec=slower), AT_NS)
    assert plan.demotions == ["loose"]


# -- the authors' program -------------------------------------------------------------------------

PROGRAM = Saber(published_program=True)


def test_the_program_draws_once_in_a_tenth_of_a_second() -> None:
    program = planner(PROGRAM)
    queue = [Waits(replace(LOOSE, id=f"r{n}")) for n in range(5)]
    plan = program.plan(View(queue), AT_NS)
    assert (len(plan.starts), plan.look_ns) == (1, AT_NS + 100 * MS)
    assert program.plan(View(queue), AT_NS + 99 * MS) == Plan(look_ns=AT_NS + 100 * MS)
    assert len(program.plan(View(queue), AT_NS + 100 * MS).starts) == 1


def admitted(count: int, *, demoted: bool = False) -> tuple[Planner, list[Runs]]:
    """A program that has let so many through."""
    program = planner(PROGRAM)
    active: list[Runs] = []
    for number in range(count):
        request = replace(FAST if demoted else LOOSE, id=f"a{number}")
        if demoted:
            request = replace(request, arrived_ns=AT_NS - 10 * SECOND)
        view = View([Waits(request, demoted=demoted)], [Ready(attempts=active)])
        plan = program.plan(view, AT_NS + number * 100 * MS)
        assert started(plan) == [request.id]
        active = [*active, Runs(request)]
    return program, active


def test_the_program_lets_seventeen_run() -> None:
    program, active = admitted(17)
    now_ns = AT_NS + 2 * SECOND
    view = View([Waits(LOOSE)], [Ready(attempts=active)])
    assert started(program.plan(view, now_ns)) == []
    over = Observation(Moment.OVER, active[0].request)
    program.observe(over, view, now_ns)
    view = View([Waits(LOOSE)], [Ready(attempts=active[1:])])
    assert started(program.plan(view, now_ns + 100 * MS)) == ["loose"]


def test_the_program_does_not_count_demoted_ones() -> None:
    program, active = admitted(30, demoted=True)
    view = View([Waits(replace(LOOSE, arrived_ns=AT_NS))], [Ready(attempts=active)])
    assert started(program.plan(view, AT_NS + 4 * SECOND)) == ["loose"]


def test_the_program_freezes_what_active_ones_need() -> None:
    """An active one that has fallen far behind holds nobody back."""
    program, active = admitted(1)
    view = View([Waits(replace(LOOSE, arrived_ns=AT_NS + 9 * SECOND))], [Ready(attempts=active)])
    assert started(program.plan(view, AT_NS + 9_900 * MS)) == ["loose"]
