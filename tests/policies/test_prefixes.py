"""`plan-and-trim` where prompts begin like others: what is read before costs nothing again."""

from dataclasses import replace

from slalom.core.planning import Moment, Observation
from slalom.core.request import ModelSpec, Request
from slalom.policies.trim.planner import Trimmer
from slalom.policies.trim.sequels import Sequels
from slalom.units import MS, SECOND
from tests.policies.test_plan_and_trim import names, plan, trimmer
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

#: Reading a prompt token takes 1 ms, a step 10 ms.
READS = calibrated(step=10, prompt=1)


def _answer(
    planner: Trimmer,
    request: Request,
    *,
    cached: int = -1,
    replica: str = "a#0",
    spec: ModelSpec = READS,
) -> None:
    """Let a planner see a whole answer of ten tokens."""
    view = View([], [Ready("a#0"), Ready("a#1")], spec)
    run = Runs(request, replica)
    end_ns = AT_NS - SECOND
    planner.observe(Observation(Moment.ARRIVED, request), view, end_ns - SECOND)
    planner.observe(Observation(Moment.STARTED, request, run), view, end_ns - SECOND)
    run = replace(run, first_ns=end_ns, client_first_ns=end_ns, output_tokens=10)
    planner.observe(Observation(Moment.TOLD, request, run), view, end_ns)
    run = replace(run, cached_tokens=cached)
    planner.observe(Observation(Moment.OVER, request, run, finished=True), view, end_ns)


def _step(
    name: str, prompt: int, shared: int, talk: str = "talk", ttft_ms: int | None = None
) -> Request:
    made = asked(name, tokens=10, prompt=prompt, ttft_ms=ttft_ms)
    return replace(made, prefix=talk, prefix_tokens=shared)


def test_a_long_prompt_that_was_read_before_can_still_be_on_time() -> None:
    planner = trimmer(READS, calibrate=False)
    known, unknown = (
        _step("known", 1_050, 1_010, ttft_ms=500),
        asked("u", prompt=1_050, ttft_ms=500),
    )
    first = plan(trimmer(READS, calibrate=False), [known, unknown], spec=READS)
    assert sorted(first.demotions) == ["known", "u"], "nobody has read either"
    _answer(planner, _step("before", 1_000, 0))
    found = plan(planner, [known, unknown], spec=READS)
    assert names(found) == ["known"]
    assert found.demotions == ["u"]
    # 40 tokens to read, and a tenth of the others, as far as anyone knows.
    expected = found.starts[0].expected
    assert expected is not None
    assert 50 * MS < expected.first_ns - AT_NS < 250 * MS


def test_an_engine_that_keeps_nothing_is_found_out() -> None:
    planner = trimmer(READS, calibrate=False)
    for turn in range(8):
        _answer(planner, _step(f"before{turn}", 1_000, 1_000 if turn else 0), cached=0)
    found = plan(planner, [_step("known", 1_050, 1_010, ttft_ms=500)], spec=READS)
    assert found.demotions == ["known"]


def test_a_conversation_goes_on_where_its_beginning_was_read() -> None:
    for home in ("a#0", "a#1"):
        planner = trimmer(READS, calibrate=False)
        _answer(planner, _step("before", 1_000, 0), replica=home)
        other = _step("other", 1_050, 0, talk="else", ttft_ms=5_000)
        step = _step("step", 1_050, 1_010, ttft_ms=5_000)
        view = View([Waits(step)], [Ready("a#0"), Ready("a#1")], READS)
        assert [start.replica_id for start in planner.plan(view, AT_NS).starts] == [home]
        view = View([Waits(other)], [Ready("a#0"), Ready("a#1")], READS)
        assert [start.replica_id for start in planner.plan(view, AT_NS).starts] == ["a#0"]


def test_it_goes_elsewhere_where_its_home_is_full() -> None:
    planner = trimmer(READS, calibrate=False)
    _answer(planner, _step("before", 1_000, 0), replica="a#1")
    step = _step("step", 1_050, 1_010, ttft_ms=5_000)
    view = View([Waits(step)], [Ready("a#0"), Ready("a#1", places=0)], READS)
    found = planner.plan(view, AT_NS).starts
    assert [start.replica_id for start in found] == ["a#0"]
    assert found[0].expected is not None
    assert found[0].expected.first_ns - AT_NS > 1_050 * MS, "there, all of it is to be read"


def test_prompts_that_were_there_do_not_teach_that_reading_is_quick() -> None:
    planner = trimmer(READS)
    now_ns = AT_NS
    view = View([], [Ready("a#0")], READS)
    for turn in range(40):
        request = _step(f"s{turn}", 2_000, 1_960 if turn else 0)
        run = Runs(request, started_ns=now_ns)
        planner.observe(Observation(Moment.STARTED, request, run), view, now_ns)
        now_ns += (2_012 if turn == 0 else 52) * MS
        run = replace(run, first_ns=now_ns, client_first_ns=now_ns, output_tokens=1)
        planner.observe(Observation(Moment.TOLD, request, run), view, now_ns)
        now_ns += 90 * MS
        run = replace(run, output_tokens=10)
        planner.observe(Observation(Moment.OVER, request, run, finished=True), view, now_ns)
        now_ns += SECOND
    cost = planner.learned()[0].step_cost
    assert 0.7 * MS < cost.prompt_ns < 1.3 * MS


def test_what_others_go_on_from_is_not_refused() -> None:
    late = _step("late", 1_000, 0, talk="new", ttft_ms=1_200)
    assert plan(trimmer(READS), [late], places=0, after_ms=5_000, spec=READS).refusals
    planner = trimmer(READS, calibrate=False)
    for turn in range(20):
        _answer(planner, _step(f"s{turn}", 100 + 20 * turn, 90 + 20 * turn if turn else 0))
    assert not plan(planner, [late], places=0, after_ms=5_000, spec=READS).refusals
    found = plan(planner, [late], after_ms=5_000, spec=READS)
    assert names(found) == ["late"], "and it is served where nobody loses by it"
    refusing = trimmer(READS, calibrate=False, late="refuse")
    for turn in range(20):
        _answer(refusing, _step(f"s{turn}", 100 + 20 * turn, 90 + 20 * turn if turn else 0))
    assert plan(refusing, [late], after_ms=5_000, spec=READS).refusals, "unless that is wanted"


def test_typing_on_is_not_going_on_from_an_answer() -> None:
    typed, stepped = Sequels(), Sequels()
    for turn in range(20):
        for sequels, grown in ((typed, 0), (stepped, 11)):
            request = _step(f"s{turn}", 100 + 10 * turn, 90 + 10 * turn + grown if turn else 0)
            sequels.asked(request)
            sequels.answered(request)
    assert not typed.expected(_step("next", 300, 299))
    assert stepped.expected(_step("next", 300, 299))
    assert not stepped.expected(asked("plain")), "it belongs to no conversation"
