"""Chains in the core: who is remembered, what is announced, and what is free when they are over."""

from dataclasses import replace

import pytest

from slalom.core.actions import AbortAttempt, Dispatch, EndRequest, Outcome, Reason
from slalom.core.chain import Later, Link, rough_latest_ns, rough_rest_ns
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    ChainAbandoned,
    ChainOpened,
    FailureKind,
    RequestArrived,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.planning import Expectation, Plan, PlanView, Refuse, Start
from slalom.testing.recorder import Recorder
from slalom.testing.scripted_planner import Scripted
from slalom.units import MS, SECOND
from tests.core.plans import Script, end_of, planned
from tests.core.stories import model, only, request, resident, watched

REST = (Later("b", "review", 100, 10, gap_ns=SECOND), Later("a", "repair", 100, 10))


def call(
    name: str, step: int, *, of: str = "a", at_ns: int, due_ns: int = 100 * SECOND, key: str = ""
) -> RequestArrived:
    """A call of a chain of three."""
    link = Link("c", step, 3, due_ns, REST[step - 1 :])
    return RequestArrived(replace(request(name, of, at_ns), link=link, key=key))


def two_models(**params: object) -> Recorder:
    story = watched(model("a"), model("b"), params=SchedulerParams(**params))  # type: ignore[arg-type]
    resident(story, "a", "b")
    return story


def counts(story: Recorder) -> dict[str, int]:
    return {name: count for name, count in story.scheduler.snapshot().counters if "chains" in name}


def announced(story: Recorder, name: str) -> tuple[int, ...]:
    return tuple(story.scheduler.state.models[name].announced)


def test_the_models_of_the_coming_calls_are_announced_until_they_come() -> None:
    story = two_models()
    begun_ns = story.now_ns
    story.tell(call("r1", 1, at_ns=begun_ns))
    assert announced(story, "b") == (begun_ns,)
    assert announced(story, "a") == (begun_ns,), "the gap before a first call is not over yet"
    story.tell(AttemptFinished("r1", 1, 5), after_ns=SECOND)
    assert announced(story, "b") == (begun_ns + 2 * SECOND,)
    story.tell(call("r2", 2, of="b", at_ns=story.now_ns), after_ns=SECOND)
    assert announced(story, "b") == ()
    assert announced(story, "a") == (story.now_ns,)
    story.tell(AttemptFinished("r2", 1, 5))
    story.tell(call("r3", 3, at_ns=story.now_ns))
    assert announced(story, "a") == ()
    story.tell(AttemptFinished("r3", 1, 5))
    assert counts(story) == {"chains_opened": 1, "chains_done": 1}
    assert not story.scheduler.state.chains


def test_an_opened_chain_announces_its_first_model_before_any_call() -> None:
    story = two_models()
    story.tell(ChainOpened("", Link("c", 0, 2, -1, REST)))
    assert announced(story, "b") == (story.now_ns,)
    story.tell(ChainOpened("", Link("c", 0, 2, -1, ())))
    assert announced(story, "b"), "it is known already"
    story.tell(ChainAbandoned("", "c"))
    assert announced(story, "b") == announced(story, "a") == ()
    assert counts(story) == {"chains_opened": 1, "chains_abandoned": 1}


def test_abandoning_a_chain_ends_what_waits_and_what_runs_for_it() -> None:
    story = watched(model("a", places=1))
    resident(story, "a")
    story.tell(call("runs", 1, at_ns=story.now_ns), call("waits", 2, at_ns=story.now_ns))
    story.tell(call("other", 2, at_ns=story.now_ns, key="somebody else"))
    actions = story.tell(ChainAbandoned("", "c"))
    ends = only(actions, EndRequest)
    assert {end.request_id for end in ends} == {"runs", "waits"}
    assert {(end.outcome, end.reason) for end in ends} == {
        (Outcome.CANCELLED, Reason.CHAIN_ABANDONED)
    }
    assert [abort.request_id for abort in only(actions, AbortAttempt)] == ["runs"]
    story.tell(AttemptFailed("runs", 1, FailureKind.ABORTED, delivered=False))
    assert len(story.scheduler.state.chains) == 1, "another key's chain of that name lives"
    story.tell(ChainAbandoned("", "c"))
    assert dict(story.scheduler.snapshot().counters)["stale_events"] == 1


def test_a_deadline_that_passes_frees_what_is_held_but_ends_no_call() -> None:
    story = two_models()
    due_ns = story.now_ns + 10 * SECOND
    story.tell(call("r1", 1, at_ns=story.now_ns, due_ns=due_ns))
    requests = story.scheduler.state.requests
    assert requests["r1"].admitted
    story.tell(TimerFired(), after_ns=11 * SECOND)
    assert announced(story, "b") == ()
    assert [one.admitted for one in requests.values()] == [False]
    actions = story.tell(ChainAbandoned("", "c"))
    assert [end.request_id for end in only(actions, EndRequest)] == ["r1"], "but it can be given up"
    assert not story.scheduler.state.chains


def test_a_chain_left_alone_is_given_up_after_the_bound_and_no_earlier() -> None:
    story = two_models(chain_idle_ns=60 * SECOND)
    story.tell(call("r1", 1, at_ns=story.now_ns, due_ns=-1))
    story.tell(TimerFired(), after_ns=70 * SECOND)
    assert counts(story) == {"chains_opened": 1}, "its call runs"
    story.tell(AttemptFinished("r1", 1, 5))
    story.tell(TimerFired(), after_ns=59 * SECOND)
    assert announced(story, "b")
    story.tell(TimerFired(), after_ns=1 * SECOND)
    assert counts(story) == {"chains_opened": 1, "chains_idle": 1}
    assert announced(story, "b") == ()


def test_no_more_chains_are_remembered_than_the_bound() -> None:
    story = two_models(chains_max=2)
    for name in ("c1", "c2", "c3"):
        story.tell(ChainOpened("", Link(name, 0, 2, -1, REST)))
    assert len(story.scheduler.state.chains) == 2
    assert counts(story)["chains_crowded_out"] == 1
    assert len(announced(story, "b")) == 2


def test_a_first_call_that_is_refused_takes_its_chain_with_it() -> None:
    script = Script()
    story = planned(script, model("a"), model("b"))
    script.plans.append(Plan(refusals=[Refuse("r1")]))
    story.tell(call("r1", 1, at_ns=story.now_ns))
    assert counts(story) == {"chains_opened": 1, "chains_refused": 1}
    assert announced(story, "b") == ()


def test_a_later_call_is_shown_where_the_earlier_one_ran_and_that_it_was_let_in() -> None:
    seen: list[tuple[str, str, bool]] = []

    def look(view: PlanView, now_ns: int) -> Plan:
        waiting = view.waiting(9)
        seen.extend((one.request.id, one.near, one.admitted) for one in waiting)
        expected = Expectation(now_ns, now_ns, 1.0, rest_ns=7)
        at = view.ready()[0].id
        return Plan([Start(one.request.id, at, expected=expected) for one in waiting])

    story = planned(Scripted(look), model("a"), model("b"))
    seen.clear()
    story.tell(call("r1", 1, at_ns=story.now_ns))
    story.tell(AttemptFinished("r1", 1, 5))
    story.tell(call("r2", 2, of="b", at_ns=story.now_ns))
    story.tell(call("r3", 3, at_ns=story.now_ns))
    assert seen == [("r1", "", False), ("r2", "", True), ("r3", "a#0", True)]
    assert {one.expected_rest_ns for one in story.actions(Dispatch)} == {7}


@pytest.mark.parametrize(("late_ns", "good"), [(0, True), (1, False)])
def test_a_call_is_good_if_it_ends_by_its_chains_deadline(late_ns: int, good: bool) -> None:
    story = two_models()
    due_ns = story.now_ns + SECOND
    story.tell(call("r3", 3, at_ns=story.now_ns, due_ns=due_ns))
    story.tell(AttemptFinished("r3", 1, 5), after_ns=SECOND + late_ns)
    end = end_of(story, "r3")
    assert (end.good, end.chain, end.step, end.steps) == (good, "c", 3, 3)
    assert end.chain_left_ns == -late_ns


def test_rough_figures_add_gaps_prompts_and_answers() -> None:
    assert rough_rest_ns(REST) == SECOND + 2 * (100 * MS // 10 + 10 * 25 * MS)
    link = Link("c", 1, 3, 10 * SECOND, REST)
    assert rough_latest_ns(link) == 10 * SECOND - rough_rest_ns(REST)
