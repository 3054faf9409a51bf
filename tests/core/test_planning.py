"""Planners in the place of admission: what a plan can do, what it cannot, and when one is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from slalom.core.actions import AbortAttempt, Dispatch, EndRequest, Outcome, Reason, SetTimer
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    FailureKind,
    FirstToken,
    Progress,
    RequestArrived,
)
from slalom.core.planning import (
    Expectation,
    Observation,
    Plan,
    Planner,
    PlanView,
    Refuse,
    Start,
)
from slalom.core.request import ModelSpec, Request, Sla
from slalom.policies.pathological import PlanNonsense, PlanNothing
from slalom.policies.registry import policies
from slalom.testing.scripted_planner import start_all
from slalom.units import SECOND
from tests.core.plans import Script, aborted, end_of, planned, resumable
from tests.core.stories import (
    arrive,
    dispatched,
    gone,
    loaded,
    model,
    only,
    ready,
    request,
    watched,
)

# -- starts -----------------------------------------------------------------------------------


def test_a_plan_starts_whom_it_likes_with_what_it_says_and_expects() -> None:
    script = Script()
    story = planned(script)
    expected = Expectation(7 * SECOND, 9 * SECOND, 0.75)
    starts = [Start("r3", "a#0", 4, 32, expected), Start("r1", "a#0")]
    script.plans = [Plan(starts)]
    actions = arrive(story, "r1", "r2", "r3")
    first, second = only(actions, Dispatch)
    assert first == Dispatch("r3", 1, "a#0", 1, 4, 32, 0, 7 * SECOND, 9 * SECOND, 0.75)
    assert second == Dispatch("r1", 1, "a#0", 1)
    story.tell(AttemptFinished("r3", 1, 32), AttemptFinished("r1", 1, 5))
    end = end_of(story, "r3")
    assert (end.expected_first_ns, end.expected_end_ns) == (7 * SECOND, 9 * SECOND)
    assert (end.chance, end.clamped_tokens) == (0.75, 32)
    assert end_of(story, "r1").chance == -1.0


def test_a_plan_that_fills_all_places_gets_another_replica_and_chooses_between_them() -> None:
    script = Script()
    story = planned(script, model(gib=2, places=1, replicas=2))
    assert loaded(arrive(story, "r1", "r2")) == ["a#1"]
    script.plans = [Plan([Start("r2", "a#1")])]
    assert dispatched(ready(story)) == ["r2"]


WRONG_PLANS = {
    "start nobody": Plan([Start("nobody", "a#0")]),
    "start on no replica": Plan([Start("waits", "a#9")]),
    "start on another model's replica": Plan([Start("waits", "b#0")]),
    "start another model's request": Plan([Start("other", "a#0")]),
    "start what runs": Plan([Start("runs", "a#0")]),
    "start with a negative clamp": Plan([Start("waits", "a#0", max_tokens=-1)]),
    "refuse nobody": Plan(refusals=[Refuse("nobody")]),
    "refuse another model's request": Plan(refusals=[Refuse("other")]),
    "refuse what has begun to answer": Plan(refusals=[Refuse("runs")]),
    "demote nobody": Plan(demotions=["nobody"]),
    "demote what runs": Plan(demotions=["runs"]),
    "demote another model's request": Plan(demotions=["other"]),
    "pause nobody": Plan(pauses=["nobody"]),
    "pause what waits": Plan(pauses=["waits"]),
    "pause what cannot go on": Plan(pauses=["runs"]),
    "pause another model's request": Plan(pauses=["other-runs"]),
}


@pytest.mark.parametrize("plan", WRONG_PLANS.values(), ids=WRONG_PLANS)
def test_what_does_not_fit_is_left_out_and_counted(plan: Plan) -> None:
    script = Script()
    story = planned(script, model("a"), model("b", places=1))
    other = replace(request("other-runs", of="b"), resumable=True)
    story.tell(RequestArrived(request("runs")), RequestArrived(other))
    story.tell(FirstToken("runs", 1), FirstToken("other-runs", 1))
    script.plans = [Plan()]
    arrive(story, "other", of="b")
    script.plans = [plan]
    actions = arrive(story, "waits")
    assert story.counter("plan_misfits") == 1
    assert only(actions, Dispatch) == []
    assert only(actions, EndRequest) == []
    assert only(actions, AbortAttempt) == []
    assert not any(seen.demoted for seen in story.scheduler.state.requests.values())


@pytest.mark.parametrize(
    ("plan", "misfits"),
    [
        (Plan([Start(name, "a#0") for name in ("r1", "r2", "r3")]), 1),
        (Plan([Start("r1", "a#0"), Start("r1", "a#0")]), 1),
        (Plan([Start("r1", "a#0")], demotions=["r1", "r1"]), 1),
        (Plan([Start("r1", "a#0")], refusals=[Refuse("r1")]), 1),
    ],
)
def test_what_becomes_impossible_within_a_plan_is_counted(plan: Plan, misfits: int) -> None:
    script = Script()
    story = planned(script)
    script.plans = [plan]
    arrive(story, "r1", "r2", "r3")
    assert story.counter("plan_misfits") == misfits


def test_a_device_window_bounds_plans_and_is_told_to_them() -> None:
    script = Script()
    device = replace(watched().scheduler.state.devices["gpu"].spec, window=3)
    story = planned(script, model("a", places=4), model("b"), device=device)
    seen = story.scheduler.state.models
    assert (seen["a"].room, seen["a"].beside) == (3, 0)
    arrive(story, "b1", of="b")
    assert (seen["a"].room, seen["a"].beside) == (2, 1)
    script.plans = [Plan([Start(name, "a#0") for name in ("r1", "r2", "r3")])]
    assert dispatched(arrive(story, "r1", "r2", "r3")) == ["r1", "r2"]
    assert story.counter("plan_misfits") == 1


# -- when a planner is asked, and what it is told -------------------------------------------------


def test_a_planner_is_asked_at_arrivals_and_ends_on_its_device_if_anybody_waits() -> None:
    script = Script()
    story = planned(script, model("a"), model("b"))
    arrive(story, "r1", after_ns=5)
    story.tell(FirstToken("r1", 1), Progress("r1", 1, 3), after_ns=5)
    assert script.asked == [("a", 5)]
    script.plans = [Plan()]
    arrive(story, "r2", after_ns=5)
    arrive(story, "s1", of="b")
    assert script.asked[1:] == [("a", 15), ("b", 15)]
    story.tell(AttemptFinished("s1", 1, 1), after_ns=5)
    assert script.asked[3:] == [("a", 20)], "a place on the device came free"


def test_a_planner_is_asked_when_all_places_are_taken() -> None:
    script = Script()
    story = planned(script, model(places=1))
    arrive(story, "r1")
    script.plans = [Plan(refusals=[Refuse("r2", retry_after_ns=SECOND, detail="no place")])]
    (end,) = only(arrive(story, "r2"), EndRequest)
    assert (end.outcome, end.reason) == (Outcome.REJECTED, Reason.SLA_INFEASIBLE)
    assert (end.retry_after_ns, end.detail) == (SECOND, "no place")


def test_a_look_asks_again_by_a_timer_and_a_later_one_replaces_it() -> None:
    script = Script()
    story = planned(script)
    script.plans = [Plan(look_ns=9 * SECOND), Plan(look_ns=4 * SECOND)]
    assert SetTimer(9 * SECOND) in arrive(story, "r1")
    assert SetTimer(4 * SECOND) in arrive(story, "r2")
    assert dispatched(story.tell(after_ns=4 * SECOND - 1)) == []
    assert dispatched(story.tell(after_ns=1)) == ["r1", "r2"]


def test_a_planner_is_asked_when_a_prompt_is_read_if_it_wants_to_be() -> None:
    script = Script()
    story = planned(script)
    arrive(story, "r1", after_ns=10)
    script.plans = [Plan(), Plan(look_when_read=True)]
    arrive(story, "r2", after_ns=10)
    assert dispatched(story.tell(FirstToken("r1", 1), after_ns=10)) == []
    arrive(story, "r3", after_ns=10)
    assert dispatched(story.tell(Progress("r1", 1, 9), after_ns=10)) == []
    assert dispatched(story.tell(FirstToken("r1", 1), after_ns=10)) == ["r2"]


@pytest.mark.parametrize("look_ns", [-1, 0, 5])
def test_a_look_that_is_past_is_none(look_ns: int) -> None:
    script = Script()
    story = planned(script)
    script.plans = [Plan(look_ns=look_ns)]
    arrive(story, "r1", after_ns=5)
    assert story.scheduler.state.models["a"].look_ns == -1


def test_a_planner_is_told_what_happened_in_order() -> None:
    script = Script()
    story = planned(script, model(places=1))
    story.tell(resumable("r1"), resumable("r2"))
    story.tell(FirstToken("r1", 1))
    story.tell(Progress("r1", 1, 3))
    story.tell(AttemptFinished("r1", 1, 4))
    story.tell(AttemptFailed("r2", 1, FailureKind.CRASHED, delivered=False))
    assert script.told == [
        "arrived r1",
        "arrived r2",
        "started r1",
        "told r1",
        "told r1",
        "over r1 whole",
        "started r2",
        "over r2",
        "started r2",
    ]


@dataclass(frozen=True)
class ByLength:
    """A planner with an order of its own."""

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        return self

    def key(self, request: Request, default_deadline_ns: int) -> int:
        return request.max_tokens

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None: ...

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        return Plan(start_all(model))

    def estimate(self, request: Request, model: PlanView, now_ns: int) -> Expectation | None:
        return Expectation(now_ns, now_ns + request.max_tokens, 1.0)


def test_a_planner_may_order_the_queue_by_itself() -> None:
    story = planned(ByLength(), model(places=1))
    sizes = {"r1": 9, "r2": 30, "r3": 3, "r4": 20}
    story.tell(*(RequestArrived(replace(request(n), max_tokens=m)) for n, m in sizes.items()))
    order = []
    for _ in sizes:
        order.append(story.actions(Dispatch)[-1].request_id)
        story.tell(AttemptFinished(order[-1], 1, 1))
    assert order == ["r3", "r1", "r4", "r2"]
    assert story.scheduler.policies.ordering == policies(ordering="fcfs").ordering


def test_an_estimate_comes_from_the_planner_once_the_model_is_ready() -> None:
    story = planned(ByLength())
    asked = request("what-if")
    now_ns = story.now_ns
    assert story.scheduler.estimate(asked) == Expectation(now_ns, now_ns + 64, 1.0)
    assert story.scheduler.estimate(replace(asked, model="nobody")) is None
    assert planned(Script()).scheduler.estimate(asked) is None, "a planner that cannot tell"
    cold = watched(policies=replace(policies(), admission=ByLength()))
    assert cold.scheduler.estimate(asked) is None


# -- demotions and refusals -----------------------------------------------------------------------


def test_what_is_demoted_goes_behind_all_that_come_later() -> None:
    script = Script()
    story = planned(script, model(places=1))
    arrive(story, "runs")
    script.plans = [Plan(), Plan(demotions=["old"]), Plan()]
    arrive(story, "old", after_ns=1)
    arrive(story, "r1", after_ns=1)
    demoted_ns = story.now_ns
    arrive(story, "r2", after_ns=SECOND)
    order = []
    for name in ("runs", "r1", "r2"):
        order += dispatched(story.tell(AttemptFinished(name, 1, 1)))
    assert order == ["r1", "r2", "old"]
    story.tell(AttemptFinished("old", 1, 1))
    assert end_of(story, "old").demoted_ns == demoted_ns
    assert end_of(story, "r2").demoted_ns == -1


def test_demotion_does_not_lengthen_the_longest_wait() -> None:
    script = Script()
    story = planned(script, model(places=1))
    arrive(story, "runs")
    script.plans = [Plan(demotions=["old"]), *[Plan()] * 9]
    arrive(story, "old")
    limit_ns = story.scheduler.params.queue_timeout_ns
    story.tell(Progress("runs", 1, 1), after_ns=limit_ns - 1)
    assert "old" in story.scheduler.state.requests
    story.tell(after_ns=1)
    assert end_of(story, "old").reason == Reason.QUEUE_TIMEOUT


def test_what_runs_and_has_given_nothing_may_be_refused() -> None:
    script = Script()
    story = planned(script, model(places=1))
    arrive(story, "r1")
    refusal = Refuse("r1", retry_after_ns=3 * SECOND, detail="r2 is more urgent")
    script.plans = [Plan(refusals=[refusal])]
    actions = arrive(story, "r2")
    assert only(actions, AbortAttempt) == [AbortAttempt("r1", 1)]
    end = end_of(story, "r1")
    assert (end.outcome, end.retry_after_ns) == (Outcome.REJECTED, 3 * SECOND)
    assert dispatched(story.tell(aborted("r1"))) == ["r2"]


# -- extremes -------------------------------------------------------------------------------------


def test_a_planner_that_plans_nothing_lets_everything_run_out_of_time() -> None:
    story = watched(policies=replace(policies(), admission=PlanNothing()))
    arrive(story, "r1", sla=Sla(ttft_ns=1))
    assert dispatched(ready(story)) == []
    story.tell(after_ns=story.scheduler.params.queue_timeout_ns)
    assert end_of(story, "r1").reason == Reason.QUEUE_TIMEOUT


def test_nonsense_is_survived_and_counted() -> None:
    story = watched(policies=replace(policies(), admission=PlanNonsense()))
    arrive(story, "r1")
    ready(story)
    for number in range(40):
        story.tell(resumable(f"s{number}", story.now_ns), after_ns=SECOND)
    assert story.counter("plan_misfits") > 20
    gone(story)


@dataclass
class _Counting(Script):
    """Also keeps what engines say of what they had read before."""

    cached: list[int] = field(default_factory=list)

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        if seen.finished and seen.attempt is not None:
            self.cached.append(seen.attempt.cached_tokens)


@pytest.mark.parametrize(
    ("prompt", "cached", "told"),
    [(-1, -1, -1), (20, 10, 5), (20, 0, 0), (20, 25, 10), (-1, 5, -1), (10, -1, -1)],
)
def test_what_an_engine_had_read_is_told_in_tokens_as_the_request_counts_them(
    prompt: int, cached: int, told: int
) -> None:
    script = _Counting()
    story = planned(script)
    arrive(story, "r1")
    script.cached.clear()
    story.tell(AttemptFinished("r1", 1, 5, prompt, cached))
    assert script.cached == [told], "an estimate of 10 tokens was made"


def test_tokens_of_one_call_are_told_once_and_not_if_the_answer_is_over_by_then() -> None:
    script = Script()
    story = planned(script)
    arrive(story, "r1", "r2")
    script.told.clear()
    story.tell(FirstToken("r1", 1), Progress("r1", 1, 4), FirstToken("r2", 1))
    assert script.told == ["told r1", "told r2"]
    script.told.clear()
    story.tell(Progress("r1", 1, 8), AttemptFinished("r1", 1, 9), Progress("r2", 1, 2))
    assert script.told == ["over r1 whole", "told r2"]
