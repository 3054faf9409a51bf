"""`plan-and-trim`: who starts, who waits, who gives way, who is given up, what is said of it."""

from dataclasses import replace

import pytest

from slalom.core.planning import Moment, Observation, Plan, Planner
from slalom.core.request import ModelSpec, Request
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.policies.trim.planner import Trimmer
from slalom.units import MS
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

#: A step takes 10 ms, and 1 ms more for each sequence.
SPEC = calibrated(step=10, sequence=1)
#: Reading a prompt token takes 1 ms.
READS = calibrated(step=10, prompt=1)


def trimmer(spec: ModelSpec = SPEC, **options: object) -> Trimmer:
    made = PlanAndTrim(**options).begin([spec])  # type: ignore[arg-type]
    assert isinstance(made, Trimmer)
    return made


def started(planner: Planner, *requests: Request, view: View | None = None) -> list[Runs]:
    """Let a planner see attempts begin at `AT_NS`; what they are."""
    view = view or View(spec=SPEC)
    runs = [Runs(request) for request in requests]
    for run in runs:
        planner.observe(Observation(Moment.STARTED, run.request, run), view, AT_NS)
    return runs


def told(planner: Planner, run: Runs, tokens: int, at_ms: int, spec: ModelSpec = SPEC) -> Runs:
    at_ns = AT_NS + at_ms * MS
    first_ns = run.client_first_ns if run.client_first_ns >= 0 else at_ns
    run = replace(run, output_tokens=tokens, heard_ns=at_ns, client_first_ns=first_ns)
    planner.observe(Observation(Moment.TOLD, run.request, run), View(spec=spec), at_ns)
    return run


def plan(
    planner: Planner,
    queue: list[Request],
    runs: list[Runs] | None = None,
    *,
    places: int = 100,
    after_ms: int = 0,
    spec: ModelSpec = SPEC,
) -> Plan:
    view = View([Waits(one) for one in queue], [Ready(places=places, attempts=runs or [])], spec)
    return planner.plan(view, AT_NS + after_ms * MS)


def names(found: Plan) -> list[str]:
    return [start.request_id for start in found.starts]


def test_what_can_be_on_time_starts_at_once() -> None:
    found = plan(trimmer(), [asked("a", e2e_ms=700), asked("b", e2e_ms=700)])
    assert names(found) == ["a", "b"]
    assert not found.pauses
    assert not found.demotions


def test_a_newcomer_waits_if_it_would_make_one_late_that_was_let_in() -> None:
    # 50 tokens at 11 ms are 550 ms; beside another one 600, which is too long for the first.
    planner = trimmer(displace_max=0)
    first = asked("first", e2e_ms=580)
    runs = started(planner, first)
    found = plan(planner, [asked("loose", e2e_ms=5_000)], runs)
    assert names(found) == []
    assert found.look_ns > AT_NS, "it is thought of again"
    assert names(plan(planner, [asked("small", tokens=10, e2e_ms=5_000)], runs)) == ["small"]


def test_who_is_sure_to_be_late_is_demoted_or_refused_with_the_reason() -> None:
    hopeless = asked("hopeless", e2e_ms=540)
    fine = asked("fine", e2e_ms=560)
    found = plan(trimmer(), [hopeless, fine])
    assert (names(found), found.demotions) == (["fine"], ["hopeless"])
    found = plan(trimmer(late="refuse"), [hopeless, fine])
    assert (names(found), found.demotions) == (["fine"], [])
    (refusal,) = found.refusals
    assert refusal.request_id == "hopeless"
    assert "50 tokens" in refusal.detail
    assert "0.55 s" in refusal.detail
    assert refusal.retry_after_ns > 0


def test_a_demoted_one_is_served_when_nothing_else_needs_the_engine() -> None:
    late = Waits(asked("late", e2e_ms=100), demoted=True)
    alone = trimmer().plan(View([late], spec=SPEC), AT_NS + 500 * MS)
    assert names(alone) == ["late"]
    assert alone.starts[0].expected is not None
    planner = trimmer()
    runs = started(planner, asked("tight", e2e_ms=551))
    beside = planner.plan(View([late], [Ready(attempts=runs)], SPEC), AT_NS)
    assert names(beside) == [], "it would be noticed"


def test_late_ones_behind_late_ones_are_not_forgotten() -> None:
    planner = trimmer()
    queue = [Waits(asked(f"old{i}", e2e_ms=100), demoted=True) for i in range(12)]
    at_ns, seen = AT_NS + 2_500 * MS, []
    for _ in range(20):
        found = planner.plan(View(queue, [Ready(places=2)], SPEC), at_ns)
        gone = {refusal.request_id for refusal in found.refusals} | set(names(found))
        seen += sorted(gone)
        queue = [one for one in queue if one.request.id not in gone]
        if not queue:
            break
        assert gone
        assert found.look_ns > at_ns, "nothing runs, so that nothing else would wake it"
        at_ns = found.look_ns
    assert sorted(seen) == sorted(f"old{i}" for i in range(12))


def test_of_those_that_wait_the_cheapest_come_first() -> None:
    # Two of them fit, not three: 100 tokens at 12 ms are 1,200 ms, at 13 ms 1,300.
    queue = [asked(name, tokens=count, e2e_ms=1_210) for name, count in (("b", 100), ("c", 95))]
    found = plan(trimmer(displace_max=0), [*queue, asked("a", tokens=90, e2e_ms=1_210)])
    assert sorted(names(found)) == ["a", "c"]


def resumable(name: str, tokens: int, e2e_ms: int) -> Request:
    return replace(asked(name, prompt=0, tokens=tokens, e2e_ms=e2e_ms), resumable=True)


def test_a_costlier_one_gives_way_to_a_newcomer_if_it_can_go_on_later() -> None:
    # Both together are too slow for either: the long one gives way, because it costs more.
    small = asked("small", tokens=40, e2e_ms=441)
    for can_pause, expected in ((True, (["small"], ["long"])), (False, ([], []))):
        planner = trimmer()
        long = replace(resumable("long", 100, 1_110), resumable=can_pause)
        runs = started(planner, long)
        found = plan(planner, [small], runs)
        assert (names(found), list(found.pauses)) == expected
    planner = trimmer(displace_max=0, defer_max=0)
    runs = started(planner, resumable("long", 100, 1_110))
    assert names(plan(planner, [small], runs)) == []
    planner = trimmer(displace_factor=3.0, defer_max=0)
    runs = started(planner, resumable("long", 100, 1_110))
    assert names(plan(planner, [small], runs)) == [], "not so much costlier"


def test_what_is_about_to_be_read_is_not_stopped() -> None:
    planner = trimmer()
    unread = replace(resumable("long", 100, 1_110), prompt_tokens=50)
    runs = started(planner, unread)
    small = asked("small", tokens=40, e2e_ms=441)
    assert not plan(planner, [small], runs).pauses
    run = told(planner, runs[0], 1, 1)
    assert list(plan(planner, [small], [run], after_ms=1).pauses) == ["long"]


def test_a_loose_one_is_paused_for_a_tight_one_and_promised_its_place() -> None:
    planner = trimmer(displace_max=0)
    loose = resumable("loose", 50, 5_000)
    runs = started(planner, loose)
    found = plan(planner, [asked("tight", tokens=40, e2e_ms=445)], runs)
    assert (names(found), list(found.pauses)) == (["tight"], ["loose"])
    planner.observe(Observation(Moment.OVER, loose, replace(runs[0], leaving=True)), View(), AT_NS)
    tight = started(planner, asked("tight", tokens=40, e2e_ms=445))
    back = Waits(loose, produced_tokens=1, first_token_ns=AT_NS, pauses=1)
    view = View([back], [Ready(attempts=tight)], SPEC)
    assert names(planner.plan(view, AT_NS + 10 * MS)) == [], "it still waits for the tight one"
    planner.observe(Observation(Moment.OVER, tight[0].request, tight[0]), View(spec=SPEC), AT_NS)
    view = View([back], [Ready()], SPEC)
    assert names(planner.plan(view, AT_NS + 450 * MS)) == ["loose"]


@pytest.mark.parametrize("option", [{"defer_max": 0}, {"defer_pauses_max": 0}])
def test_nobody_is_paused_for_others_without_the_option(option: dict[str, int]) -> None:
    planner = trimmer(SPEC, displace_max=0, **option)
    runs = started(planner, resumable("loose", 50, 5_000))
    found = plan(planner, [asked("tight", tokens=40, e2e_ms=445)], runs)
    assert not found.pauses


def test_places_are_kept_to_and_the_rest_is_let_in_for_later() -> None:
    queue = [asked(name, e2e_ms=9_000) for name in "abc"]
    planner = trimmer()
    assert len(names(plan(planner, queue, places=2))) == 2
    view = View([Waits(one) for one in queue], [Ready()], SPEC, room=1)
    assert len(planner.plan(view, AT_NS).starts) == 1
    assert not planner.plan(replace(view, room=0), AT_NS).starts
    tight = [Waits(asked(name, e2e_ms=560)) for name in "de"]
    both = View(tight, [Ready("a#0"), Ready("a#1")], SPEC, room=1)
    assert len(trimmer().plan(both, AT_NS).starts) == 1, "the window is the device's"


def test_prompts_are_sent_one_after_the_other() -> None:
    queue = [asked(name, prompt=200, tokens=5, e2e_ms=5_000) for name in "ab"]
    planner = trimmer(READS)
    found = plan(planner, queue, spec=READS)
    assert len(names(found)) == 1
    assert found.look_ns == AT_NS + (200 - 25) * MS, "when the first one is nearly read"
    assert len(names(plan(trimmer(READS, read_ahead_ms=0), queue, spec=READS))) == 2


def test_what_is_more_urgent_overtakes_what_has_not_been_sent() -> None:
    planner = trimmer(READS)
    runs = started(
        planner, asked("first", prompt=100, tokens=5, e2e_ms=9_000), view=View(spec=READS)
    )
    loose = asked("loose", prompt=100, tokens=5, e2e_ms=9_000)
    assert names(plan(planner, [loose], runs, spec=READS)) == []
    urgent = asked("urgent", prompt=50, tokens=5, ttft_ms=400)
    found = plan(planner, [loose, urgent], runs, after_ms=97, spec=READS)
    assert names(found) == ["urgent"]


def test_a_prompt_is_not_read_where_that_makes_the_first_token_of_another_late() -> None:
    planner = trimmer(READS, displace_max=0)
    urgent = asked("urgent", prompt=100, tokens=5, ttft_ms=150)
    loose = asked("loose", prompt=100, tokens=5, ttft_ms=1_000)
    found = plan(planner, [loose, urgent], spec=READS)
    assert names(found) == ["urgent"]


def test_a_loose_one_waits_where_others_lose_more_by_it() -> None:
    # One that runs has little time to spare, and newcomers' prompts take a share of it.
    def found(*, weigh_chances: bool) -> Plan:
        planner = trimmer(READS, weigh_chances=weigh_chances, displace_max=0, defer_max=0)
        busy = View(spec=READS)
        for index in range(20):
            run = Runs(asked(f"before{index}", prompt=250, tokens=1, e2e_ms=60_000))
            planner.observe(Observation(Moment.STARTED, run.request, run), busy, AT_NS)
            over = Observation(Moment.OVER, run.request, run, finished=True)
            planner.observe(over, busy, AT_NS)
        runs = started(planner, asked("tight", prompt=0, tokens=50, e2e_ms=1_150), view=busy)
        loose = asked("loose", prompt=100, tokens=5, e2e_ms=9_000)
        return plan(planner, [loose], runs, spec=READS)

    assert names(found(weigh_chances=False)) == ["loose"]
    assert names(found(weigh_chances=True)) == []


def test_progress_is_followed_between_reports() -> None:
    planner = trimmer(displace_max=0, defer_max=0)
    (run,) = started(planner, asked("first", tokens=50, e2e_ms=560))
    run = told(planner, run, 25, 275)
    newcomer = asked("second", tokens=20, e2e_ms=9_000, after_ms=400)
    assert names(plan(planner, [newcomer], [run], after_ms=280)) == []
    # By then it has 36 tokens: 14 more at 12 ms end at 565 ms, but 2 more at 531 do.
    assert names(plan(planner, [newcomer], [run], after_ms=540)) == ["second"]


def test_what_writes_on_beyond_what_was_thought_is_still_there() -> None:
    # Predicted to write 10, it may write 90: at 400 ms it has about 36, and some are to come.
    planner = trimmer(displace_max=0, defer_max=0)
    first = replace(asked("first", tokens=90, e2e_ms=500), predicted_tokens=10)
    (run,) = started(planner, first)
    run = told(planner, run, 1, 11)
    newcomer = asked("second", tokens=40, e2e_ms=9_000, after_ms=400)
    assert names(plan(planner, [newcomer], [run], after_ms=400)) == []
    assert names(plan(trimmer(), [newcomer], after_ms=400)) == ["second"], "it is at fault"


def test_what_outgrows_its_forecast_teaches_for_those_that_wait() -> None:
    # Told 20 tokens, others of the task have got 36 and go on: 40 would be 440 ms, which is late.
    waits = replace(asked("waits", tokens=90, e2e_ms=900), predicted_tokens=20)
    planner = trimmer(displace_max=0, defer_max=0)
    full = [replace(asked(f"r{i}", tokens=90), predicted_tokens=20) for i in range(4)]
    runs = started(planner, *full)
    assert names(plan(planner, [waits], runs, places=0, after_ms=505)) == []
    runs = [told(planner, run, 36, 506) for run in runs]
    found = plan(planner, [waits], runs, places=0, after_ms=506)
    assert found.demotions == ["waits"], "it would be late even alone"


def test_whoever_waits_is_looked_at_when_a_prompt_is_read() -> None:
    queue = [asked(name, prompt=200, tokens=5, e2e_ms=5_000) for name in "ab"]
    assert plan(trimmer(READS), queue, spec=READS).look_when_read
    assert not plan(trimmer(READS), queue[:1], spec=READS).look_when_read


def test_a_first_token_that_came_too_late_protects_nobody() -> None:
    planner = trimmer(displace_max=0, defer_max=0)
    (run,) = started(planner, asked("first", tokens=50, ttft_ms=20, e2e_ms=551))
    newcomer = asked("second", tokens=45, e2e_ms=900)
    assert names(plan(planner, [newcomer], [run])) == []
    late = told(planner, run, 1, 30)
    assert names(plan(planner, [newcomer], [late], after_ms=30)) == ["second"]


def test_a_pace_that_is_promised_is_kept() -> None:
    # 50 tokens at most 11.5 ms apart: one more beside makes it 12 ms.
    paced = replace(asked("paced", tokens=50), sla=replace(asked().sla, tpot_ns=11_500_000))
    planner = trimmer(displace_max=0, defer_max=0)
    (run,) = started(planner, paced)
    run = told(planner, run, 1, 11)
    loose = asked("loose", tokens=100, e2e_ms=9_000)
    assert names(plan(planner, [loose], [run], after_ms=11)) == []
    assert names(plan(planner, [loose], [], after_ms=11)) == []  # it is still there until it ends
    planner.observe(Observation(Moment.OVER, paced, run), View(spec=SPEC), AT_NS + 11 * MS)
    assert names(plan(planner, [loose], [], after_ms=11)) == ["loose"]


def test_an_answer_that_ends_early_keeps_its_pace_too() -> None:
    # At 40 ms a token, 20 tokens of 10 ms leave 570 ms for prompts; 16 tokens leave 450 ms.
    paced = asked("paced", tokens=20, prompt=0, tpot_ms=40)
    for prompt, expected in ((400, ["newcomer"]), (500, [])):
        planner = trimmer(READS, displace_max=0, defer_max=0)
        (run,) = started(planner, paced, view=View(spec=READS))
        run = told(planner, run, 1, 10, READS)
        newcomer = asked("newcomer", tokens=1, prompt=prompt, e2e_ms=9_000)
        assert names(plan(planner, [newcomer], [run], after_ms=10, spec=READS)) == expected


def test_loose_work_goes_to_the_fullest_replica_that_holds_it() -> None:
    planner = trimmer()
    view = View(spec=SPEC)
    runs = [Runs(asked(f"run{i}", e2e_ms=9_000), replica_id="a#1") for i in range(2)]
    for run in runs:
        planner.observe(Observation(Moment.STARTED, run.request, run), view, AT_NS)
    both = [Ready("a#0"), Ready("a#1", attempts=runs)]
    loose = planner.plan(View([Waits(asked("x", e2e_ms=9_000))], both, SPEC), AT_NS)
    assert [start.replica_id for start in loose.starts] == ["a#1"]
    tight = planner.plan(View([Waits(asked("y", e2e_ms=560))], both, SPEC), AT_NS)
    assert [start.replica_id for start in tight.starts] == ["a#0"]


def test_starts_say_what_is_expected() -> None:
    (start,) = plan(trimmer(READS), [asked("a", e2e_ms=2_000)], spec=READS).starts
    assert start.expected is not None
    assert start.expected.first_ns == AT_NS + 110 * MS
    assert start.expected.end_ns == pytest.approx(AT_NS + 600 * MS, abs=10 * MS)
    assert start.expected.chance > 0.9
    assert start.expected.replica_id == "a#0"


def test_an_estimate_is_the_plan_with_the_request_and_changes_nothing() -> None:
    planner = trimmer()
    runs = started(planner, asked("first", e2e_ms=580))
    view = View((), [Ready(attempts=runs)], SPEC)
    small = planner.estimate(asked("x", tokens=10, e2e_ms=5_000), view, AT_NS)
    assert small is not None
    assert small.chance > 0.9
    assert small.end_ns == pytest.approx(AT_NS + 120 * MS, abs=MS)
    hopeless = planner.estimate(asked("x", e2e_ms=300), view, AT_NS)
    assert hopeless is not None
    assert hopeless.chance < 0.1
    assert names(plan(planner, [asked("y", tokens=10, e2e_ms=5_000)], runs)) == ["y"]


def test_a_task_below_its_floor_weighs_more() -> None:
    # Either fits, not both: the cheaper one, unless the other's task was late too often.
    queue = [
        asked("cheap", tokens=90, e2e_ms=1_090, task="often"),
        asked("dear", tokens=98, e2e_ms=1_090, task="rare"),
    ]
    assert names(plan(trimmer(), queue)) == ["cheap"]
    planner = trimmer(floor=0.9)
    for index in range(20):
        (run,) = started(planner, asked(f"late{index}", tokens=2, e2e_ms=1, task="rare"))
        over = Observation(Moment.OVER, run.request, run, finished=True)
        planner.observe(over, View(spec=SPEC), AT_NS + 22 * MS)
    assert names(plan(planner, queue, after_ms=1)) == ["dear"]


def test_a_floor_that_requests_bring_counts_for_their_key_alone() -> None:
    queue = [
        asked("cheap", tokens=90, e2e_ms=1_090),
        replace(asked("dear", tokens=98, e2e_ms=1_090), key="gold", floor=0.9),
    ]
    for key, first in (("gold", "dear"), ("tin", "cheap")):
        planner = trimmer()
        for index in range(20):
            late = replace(asked(f"late{index}", tokens=2, e2e_ms=1), key=key, floor=0.9)
            (run,) = started(planner, late)
            over = Observation(Moment.OVER, run.request, run, finished=True)
            planner.observe(over, View(spec=SPEC), AT_NS + 22 * MS)
        assert names(plan(planner, queue, after_ms=1)) == [first]


def test_a_plan_looks_at_no_more_than_its_horizon_and_effort() -> None:
    queue = [asked(f"r{i:03d}", e2e_ms=90_000) for i in range(50)]
    assert len(names(plan(trimmer(horizon=7), queue))) == 7
    assert len(names(plan(trimmer(effort=3), queue))) == 50, "one forecast: nobody is near a limit"
    tight = [asked("tight", tokens=60, e2e_ms=1_000), *queue]
    few = plan(trimmer(effort=3), tight)
    assert 0 < len(names(few)) <= 5
    assert few.look_ns > 0
