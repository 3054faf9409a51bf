"""Chains in the policies: what remains of one decides when a call is due, and who gives way."""

from dataclasses import replace

import pytest

from slalom.core.chain import Later, Link
from slalom.core.planning import Moment, Observation, Plan
from slalom.core.policy import Verdict
from slalom.core.request import ModelSpec, Request
from slalom.policies.admission import DropLate
from slalom.policies.ordering import Edf
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.policies.trim.planner import Trimmer
from slalom.units import MS, SECOND
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

#: A step takes 10 ms whatever runs, and reading nothing.
SPEC = calibrated(step=10)
#: The same, 1 ms more for each sequence.
SLOWER = calibrated(step=10, sequence=1)
#: A call of 100 tokens that follows: one second.
LATER = Later("a", "review", 0, 100)


def trimmer(spec: ModelSpec = SPEC, **options: object) -> Trimmer:
    made = PlanAndTrim(**options).begin([spec])  # type: ignore[arg-type]
    assert isinstance(made, Trimmer)
    return made


def chained(
    name: str, tokens: int = 100, *, within_ms: int, then: tuple[Later, ...] = (LATER, LATER)
) -> Request:
    """A first call of a chain that must be over so long after it came."""
    link = Link(name, 1, 1 + len(then), AT_NS + within_ms * MS, then)
    return replace(asked(name, tokens=tokens, ttft_ms=100), link=link)


def plan(
    planner: Trimmer,
    *queue: Waits,
    after_ms: int = 0,
    places: int = 1,
    spec: ModelSpec = SPEC,
    runs: tuple[Runs, ...] = (),
) -> Plan:
    view = View(queue, [Ready(places=places, attempts=runs)], spec)
    return planner.plan(view, AT_NS + after_ms * MS)


def started(plan: Plan) -> list[str]:
    return [one.request_id for one in plan.starts]


def test_a_call_is_due_when_the_rest_of_its_chain_can_still_follow() -> None:
    planner, one = trimmer(), chained("c", within_ms=5_000)
    assert planner.key(one, 0) == pytest.approx(AT_NS + 3 * SECOND, abs=50 * MS)
    gap = replace(LATER, gap_ns=SECOND)
    other = chained("d", within_ms=5_000, then=(LATER, gap))
    assert planner.key(other, 0) == pytest.approx(AT_NS + 2 * SECOND, abs=50 * MS)
    assert trimmer(chains=False).key(one, 0) == AT_NS + 100 * MS, "as its task says"


def test_the_chain_with_less_to_spare_goes_first_whatever_its_own_call_takes() -> None:
    short = chained("short", 90, within_ms=9_000)
    long = chained("long", 100, within_ms=3_300)
    assert started(plan(trimmer(), Waits(short), Waits(long))) == ["long"]


def test_a_chain_that_cannot_end_in_time_gives_way_at_its_first_call() -> None:
    lost = chained("lost", within_ms=2_500)
    found = plan(
        trimmer(late="refuse"), Waits(lost), Waits(asked("b", tokens=200, e2e_ms=9_000)), after_ms=1
    )
    assert started(found) == ["b"]
    found = plan(
        trimmer(chains=False, late="refuse"),
        Waits(lost),
        Waits(asked("b", tokens=200, e2e_ms=9_000)),
    )
    assert started(found) == ["lost"], "who sees only the call sees no reason"


def test_a_chain_is_not_given_up_while_it_might_be_on_time_on_an_idle_engine() -> None:
    planner = trimmer(SLOWER)
    runs = [Runs(asked(f"r{n}", tokens=500)) for n in range(9)]
    for run in runs:
        planner.observe(Observation(Moment.STARTED, run.request, run), View(spec=SLOWER), AT_NS)
    # Beside nine others each call takes twice as long, 2 s, alone 1.1 s.
    one = chained("c", within_ms=3_500)
    found = plan(planner, Waits(one), places=20, spec=SLOWER, runs=tuple(runs))
    assert not found.demotions
    assert not found.refusals
    lost = chained("d", within_ms=3_000)
    found = plan(planner, Waits(lost), places=20, spec=SLOWER, runs=tuple(runs))
    assert list(found.demotions) == ["d"], "not even alone"


@pytest.mark.parametrize("admitted", [True, False])
def test_a_later_call_of_a_chain_that_was_let_in_is_not_refused(admitted: bool) -> None:
    planner = trimmer(late="refuse")
    late = chained("c", within_ms=2_500)
    busy = Runs(asked("r", tokens=100, e2e_ms=1_500))
    planner.observe(Observation(Moment.STARTED, busy.request, busy), View(spec=SPEC), AT_NS)
    found = plan(planner, Waits(late, admitted=admitted), after_ms=1_000, runs=(busy,))
    assert [one.request_id for one in found.refusals] == ([] if admitted else ["c"])


def test_what_remains_of_a_chain_counts_as_its_cost() -> None:
    whole = chained("whole", 100, within_ms=3_050, then=(LATER, LATER))
    last = chained("last", 100, within_ms=1_050, then=())
    found = plan(trimmer(displace_max=0), Waits(whole), Waits(last))
    assert started(found) == ["last"], "it makes a good chain for a third of the work"


def test_a_later_call_prefers_the_replica_of_the_earlier_one() -> None:
    one = chained("c", within_ms=5_000)
    view = View([Waits(one, near="a#1")], [Ready("a#0"), Ready("a#1")], SPEC)
    assert [start.replica_id for start in trimmer().plan(view, AT_NS).starts] == ["a#1"]


def test_what_follows_is_told_with_the_start() -> None:
    (start,) = plan(trimmer(), Waits(chained("c", within_ms=9_000))).starts
    assert start.expected is not None
    assert start.expected.rest_ns == pytest.approx(2 * SECOND, abs=50 * MS)
    (start,) = plan(trimmer(), Waits(asked("r"))).starts
    assert start.expected is not None
    assert start.expected.rest_ns == -1


def test_plain_policies_go_by_rough_figures() -> None:
    one = chained("c", within_ms=9_000)
    assert Edf().key(one, 0) == AT_NS + 9 * SECOND - 2 * 100 * 25 * MS
    view, late_ns = View(spec=SPEC), AT_NS + 5 * SECOND
    first = DropLate().decide(Waits(one), view, late_ns)  # type: ignore[arg-type]  # has no places
    assert first.verdict is Verdict.REFUSE
    later = DropLate().decide(Waits(one, admitted=True), view, late_ns)  # type: ignore[arg-type]
    assert later.verdict is Verdict.ADMIT
