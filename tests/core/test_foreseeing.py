"""Planners that look at models that are not loaded: what they refuse, what they put off."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from slalom.core.actions import LoadReplica, UnloadReplica
from slalom.core.events import TimerFired
from slalom.core.params import SchedulerParams
from slalom.core.planning import Plan, PlanView, Refuse, Start
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import MS, SECOND
from tests.core.plans import Script, end_of
from tests.core.stories import arrive, gone, model, only, ready, resident, watched

LOAD_NS = 3 * SECOND


@dataclass
class Foreseer(Script):
    """A script that also looks at models that are not loaded."""

    foreseen: list[Plan] = field(default_factory=list)
    #: Model, how many wait for it, when it would be ready, ns from then.
    looked: list[tuple[str, int, int]] = field(default_factory=list)
    #: To whether a swap pays; after them, it does.
    answers: list[bool] = field(default_factory=list)
    weighed: list[tuple[str, list[str]]] = field(default_factory=list)

    def foresee(self, model: PlanView, now_ns: int) -> Plan:
        self.looked.append((model.spec.id, model.waiting_count, model.ready_at_ns(now_ns) - now_ns))
        return self.foreseen.pop(0) if self.foreseen else Plan()

    def pays(self, model: PlanView, victims: Sequence[PlanView], now_ns: int) -> bool:
        self.weighed.append((model.spec.id, [one.spec.id for one in victims]))
        return self.answers.pop(0) if self.answers else True


def two(script: Foreseer, **params: int) -> Recorder:
    """Model `a` is up and idle; `b` does not fit beside it."""
    patience = {"swap_patience_ns": 0, "min_residency_ns": 0, **params}
    story = watched(
        model("a", 6),
        model("b", 6, load_ns=LOAD_NS),
        params=SchedulerParams(**patience),
        policies=replace(policies(ordering="fcfs"), admission=script),
    )
    resident(story, "a")
    story.handle((), story.now_ns + MS)
    script.looked.clear()
    return story


def test_what_is_refused_before_its_load_begins_evicts_nobody() -> None:
    script = Foreseer()
    story = two(script)
    script.foreseen = [Plan(refusals=[Refuse("r", retry_after_ns=7, detail="why")])]
    actions = arrive(story, "r", of="b")
    assert script.looked == [("b", 1, LOAD_NS)]
    assert only(actions, UnloadReplica) == []
    assert (end_of(story, "r").detail, end_of(story, "r").retry_after_ns) == ("why", 7)


def test_it_is_asked_again_at_each_arrival_and_when_it_wanted_to() -> None:
    script = Foreseer()
    story = two(script)
    script.foreseen = [Plan(look_ns=story.now_ns + SECOND)]
    arrive(story, "r", of="b")
    gone(story)
    story.tell(TimerFired(), after_ns=SECOND)
    arrive(story, "s", of="b", after_ns=SECOND)
    # The load has begun with the end of `a`.
    assert script.looked == [("b", 1, LOAD_NS), ("b", 1, LOAD_NS - SECOND), ("b", 2, SECOND)]
    ready(story, after_ns=SECOND)
    arrive(story, "t", of="b")
    assert len(script.looked) == 3


def test_a_load_that_takes_longer_than_the_last_is_ready_any_moment() -> None:
    script = Foreseer()
    story = two(script)
    arrive(story, "r", of="b")
    gone(story)
    arrive(story, "s", of="b", after_ns=2 * LOAD_NS)
    assert script.looked[-1] == ("b", 2, 0)


def test_starts_for_a_model_that_is_not_there_are_left_out() -> None:
    script = Foreseer()
    story = two(script)
    script.foreseen = [Plan(starts=[Start("r", "a#0")], pauses=["r"])]
    arrive(story, "r", of="b")
    assert story.scheduler.state.counters["plan_misfits"] == 0


def test_a_swap_that_does_not_pay_is_put_off_and_asked_about_again() -> None:
    script = Foreseer(answers=[False, False])
    story = two(script)
    assert only(arrive(story, "r", of="b"), UnloadReplica) == []
    assert script.weighed[-1] == ("b", ["a"])
    asked = len(script.weighed)
    # More waits for it: it is weighed at once.
    assert only(arrive(story, "s", of="b", after_ns=MS), UnloadReplica) == []
    assert len(script.weighed) > asked
    script.answers = []
    assert story.scheduler.state.timer_ns <= story.now_ns + 250 * MS
    actions = story.tell(TimerFired(), after_ns=250 * MS)
    assert [one.replica_id for one in only(actions, UnloadReplica)] == ["a#0"]


def test_others_are_served_while_one_is_put_off() -> None:
    script = Foreseer(answers=[False] * 100)
    story = two(script)
    arrive(story, "r", of="b")
    arrive(story, "s", of="a")
    assert script.asked[-1][0] == "a"


def test_nobody_is_put_off_longer_than_the_scheduler_allows() -> None:
    script = Foreseer(answers=[False] * 1000)
    story = two(script, swap_hold_ns=5 * SECOND)
    arrive(story, "r", of="b")
    until_ns = story.now_ns + 5 * SECOND
    while story.now_ns < until_ns:
        assert not only(story.entries[-1].actions, UnloadReplica)
        story.tell(TimerFired(), after_ns=story.scheduler.state.timer_ns - story.now_ns)
    assert story.now_ns == until_ns
    assert only(story.entries[-1].actions, UnloadReplica)
    assert only(gone(story), LoadReplica)


def test_pinned_models_and_free_bytes_are_asked_of_nobody() -> None:
    script = Foreseer(answers=[False] * 100)
    story = watched(
        model("a", 4),
        model("b", 4),
        policies=replace(policies(), admission=script),
    )
    resident(story, "a", "b")
    assert script.weighed == []
