"""`velocity`: early rejection, the slack score, and the window."""

from dataclasses import replace

import pytest

from slalom.core.planning import Moment, Observation, Planner
from slalom.policies.velocity import Velocity
from slalom.units import MS, SECOND
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked

OLD_NS = AT_NS - 1
#: The first answers are expected to take 1.2 s, and 15 ms for each token.
GOOD = asked("good", tokens=50, e2e_ms=5_000)


def planner(**options: float) -> Planner:
    return Velocity(**options).begin([View().spec])  # type: ignore[arg-type]


def started(of: Planner, view: View, now_ns: int = AT_NS) -> list[str]:
    return [start.request_id for start in of.plan(view, now_ns).starts]


def over(request_ms: int, taken_ms: int, tokens: int = 10) -> tuple[Observation, View, int]:
    """An answer that took so long was allowed so much."""
    request = asked(e2e_ms=request_ms)
    attempt = Runs(request, output_tokens=tokens)
    return Observation(Moment.OVER, request, attempt, finished=True), View(), AT_NS + taken_ms * MS


@pytest.mark.parametrize(
    ("limits", "ahead", "refused"),
    [
        ({"e2e_ms": 1_000}, 2, False),  # 2 x 1.2 s over 16 slots, and 0.8 s
        ({"e2e_ms": 1_000}, 4, True),
        ({"ttft_ms": 200}, 2, False),
        ({"ttft_ms": 200}, 3, True),
        ({"ttft_ms": 200, "tpot_ms": 16}, 2, False),
        ({"ttft_ms": 200, "tpot_ms": 14}, 2, True),
        ({}, 90, False),
        ({}, 100, True),
    ],
)
def test_an_arrival_that_is_expected_to_be_late_is_refused(
    limits: dict[str, int], ahead: int, *, refused: bool
) -> None:
    queue = [Waits(replace(GOOD, id=f"q{n}"), OLD_NS) for n in range(ahead)]
    new = Waits(asked("new", tokens=50, **limits))  # type: ignore[arg-type]
    plan = planner().plan(View([*queue, new]), AT_NS)
    assert [one.request_id for one in plan.refusals] == (["new"] if refused else [])
    later = planner().plan(View([*queue, new]), AT_NS + 1)
    assert later.refusals == [], "only when it arrives"


def test_an_idle_engine_takes_what_it_can_get() -> None:
    hasty = View([Waits(asked(tokens=60, e2e_ms=600))])
    assert planner().plan(hasty, AT_NS).refusals == []
    busy = replace(hasty, replicas=[Ready(attempts=[Runs(GOOD)])])
    assert len(planner().plan(busy, AT_NS).refusals) == 1


def test_urgent_ones_start_first_and_lost_ones_last() -> None:
    loose = asked("loose", tokens=50, e2e_ms=60_000)
    tight = asked("tight", tokens=50, e2e_ms=1_000)
    lost = asked("lost", tokens=50, e2e_ms=780)
    queue = [Waits(one, OLD_NS) for one in (lost, loose, tight)]
    assert started(planner(), View(queue)) == ["tight", "loose", "lost"]
    hopeless = Waits(asked("hopeless", tokens=50, e2e_ms=380), OLD_NS)
    plan = planner().plan(View([hopeless]), AT_NS)
    assert [one.request_id for one in plan.refusals] == ["hopeless"]


def test_short_prompts_and_long_waits_come_first() -> None:
    long = Waits(asked("long", prompt=1_024, e2e_ms=60_000), OLD_NS)
    short = Waits(asked("short", prompt=0, e2e_ms=60_000), OLD_NS)
    assert started(planner(), View([long, short])) == ["short", "long"]
    patient = replace(long, queued_ns=AT_NS - 3 * SECOND)
    assert started(planner(), View([patient, short])) == ["long", "short"]


def test_the_window_grows_while_it_is_full_and_shrinks_after_a_miss() -> None:
    velocity = planner()
    queue = [Waits(replace(GOOD, id=f"q{n}"), OLD_NS) for n in range(40)]
    full = View(queue, [Ready(attempts=[Runs(GOOD)] * 8)])
    assert len(started(velocity, full)) == 2, "from 8 to 10"
    assert len(started(velocity, full, AT_NS + 499 * MS)) == 2, "not twice within half a second"
    fuller = View(queue, [Ready(attempts=[Runs(GOOD)] * 10)])
    assert len(started(velocity, fuller, AT_NS + 500 * MS)) == 2
    velocity.observe(*over(request_ms=100, taken_ms=101))
    empty = View(queue, [Ready()])
    assert len(started(velocity, empty, AT_NS + SECOND)) == 9, "12 less a quarter"
    velocity.observe(*over(request_ms=100, taken_ms=99))
    assert len(started(velocity, empty, AT_NS + 2 * SECOND)) == 9, "the last answer was on time"


def test_the_window_stays_within_its_bounds() -> None:
    velocity = planner(initial=3, least=2, most=4)
    loose = asked(e2e_ms=600_000)
    queue = [Waits(replace(loose, id=f"q{n}"), OLD_NS) for n in range(40)]
    velocity.observe(*over(request_ms=100, taken_ms=101))
    assert len(started(velocity, View(queue), AT_NS)) == 2
    assert len(started(velocity, View(queue), AT_NS + SECOND)) == 2
    velocity.observe(*over(request_ms=100, taken_ms=99))
    for second in range(2, 5):
        full = View(queue, [Ready(attempts=[Runs(GOOD)] * 4)])
        velocity.plan(full, AT_NS + second * SECOND)
    assert len(started(velocity, View(queue), AT_NS + 5 * SECOND)) == 4


def test_estimates_follow_finished_answers_slowly() -> None:
    velocity = planner()
    tight = View([Waits(asked(tokens=50, e2e_ms=850), OLD_NS), Waits(GOOD, OLD_NS)])
    assert started(velocity, tight)[0] == "r"
    for _ in range(10):
        velocity.observe(*over(request_ms=10_000, taken_ms=1_000))  # 100 ms for each token
    assert started(velocity, tight) == ["good"], "50 tokens take more than twice 0.85 s by now"
