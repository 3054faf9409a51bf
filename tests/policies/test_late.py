"""`plan-and-trim` and those that can be on time no more: demoted, refused, spared, served."""

from dataclasses import replace

from slalom.core.planning import Planner
from slalom.core.request import ModelSpec
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.units import MS
from tests.policies.test_plan_and_trim import SPEC, names, plan, started, trimmer
from tests.policies.views import AT_NS, Ready, View, Waits, asked


def test_where_models_share_a_device_the_late_are_refused() -> None:
    def begun(*others: ModelSpec) -> Planner:
        return PlanAndTrim().begin([SPEC, *others])

    late = [asked("late", e2e_ms=600)]
    beside, elsewhere = replace(SPEC, id="b"), replace(SPEC, id="b", device="other")
    assert plan(begun(elsewhere), late, after_ms=100).demotions == ["late"]
    assert plan(begun(beside), late, after_ms=100).refusals[0].request_id == "late"


def test_nobody_is_refused_for_what_neither_he_nor_a_fuller_engine_is_to_blame_for() -> None:
    beside = PlanAndTrim().begin([SPEC, replace(SPEC, id="b")])
    hopeless = asked("hopeless", e2e_ms=540)
    full = plan(beside, [hopeless], places=0, after_ms=60_000)
    assert full.demotions == ["hopeless"], "beyond the engine even alone"
    waited = asked("waited", e2e_ms=600)
    loaded = View([Waits(waited)], [Ready(places=0, ready_ns=AT_NS + 1_000 * MS)], SPEC)
    assert beside.plan(loaded, AT_NS + 60_000 * MS).demotions == ["waited"], "late by a load"
    strict = trimmer(late="refuse")
    assert strict.plan(loaded, AT_NS + 60_000 * MS).refusals, "unless that is wanted"


def test_what_is_late_for_good_fills_an_engine_that_has_nothing_else() -> None:
    queue = [asked(f"hopeless-{number}", e2e_ms=540) for number in range(8)]
    assert len(names(plan(trimmer(), queue, places=8))) == 8


def test_a_late_one_that_finds_no_place_in_time_is_refused() -> None:
    # Alone it takes 550 ms: from 1,450 ms on it is late, and half a second later refused.
    late = asked("late", e2e_ms=2_000)
    planner = trimmer()
    runs = started(planner, asked("tight", tokens=5_000, e2e_ms=60_000))
    taken = View([Waits(late, demoted=True)], [Ready(places=1, attempts=runs)], SPEC)
    assert not planner.plan(taken, AT_NS + 1_940 * MS).refusals
    (refusal,) = planner.plan(taken, AT_NS + 1_960 * MS).refusals
    assert refusal.request_id == "late"
    hurried = trimmer(late_patience_ms=100)
    assert not hurried.plan(taken, AT_NS + 1_540 * MS).refusals
    assert hurried.plan(taken, AT_NS + 1_560 * MS).refusals
    short = View([Waits(asked("late", e2e_ms=560), demoted=True)], taken.replicas, SPEC)
    hurried = trimmer(late_patience=0.0)
    assert not hurried.plan(short, AT_NS + 100 * MS).refusals
    assert hurried.plan(short, AT_NS + 120 * MS).refusals


def test_nobody_is_refused_while_the_engine_has_nothing_else_to_do() -> None:
    late = Waits(asked("late", e2e_ms=100), demoted=True)
    found = trimmer(late_patience_ms=0).plan(View([late], spec=SPEC), AT_NS + 5_000 * MS)
    assert names(found) == ["late"]
    assert not found.refusals


def test_an_answer_that_comes_as_a_whole_is_late_only_as_a_whole() -> None:
    # 50 tokens take 550 ms; 500 + 49 x 20 ms are allowed for all of them, less what is kept back
    # for an answer that ends early.
    seen = asked("seen", ttft_ms=500, tpot_ms=20)
    whole = replace(seen, id="whole", streamed=False)
    assert plan(trimmer(), [seen, whole], after_ms=600).demotions == ["seen"]
    assert not plan(trimmer(), [whole], after_ms=800).demotions
    assert plan(trimmer(), [whole], after_ms=1_000).demotions == ["whole"]
    strict = replace(whole, sla=replace(whole.sla, e2e_ns=1_100 * MS))
    assert plan(trimmer(), [strict], after_ms=600).demotions == ["whole"]
    first_only = replace(whole, sla=replace(whole.sla, tpot_ns=None))
    assert plan(trimmer(), [first_only]).demotions == ["whole"], "550 ms, and 500 for all of it"
    by_token = replace(whole, sla=replace(whole.sla, ttft_ns=None))
    assert not plan(trimmer(), [by_token], after_ms=300).demotions
    assert plan(trimmer(), [by_token], after_ms=500).demotions == ["whole"]
