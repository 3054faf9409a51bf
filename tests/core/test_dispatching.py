"""Who starts when: order, windows, holds and refusals, and the index that makes it cheap."""

from dataclasses import dataclass, field, replace

import pytest

from slalom.core.actions import Dispatch, EndRequest, Reason
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    FailureKind,
    ReplicaReady,
    RequestCancelled,
)
from slalom.core.params import SchedulerParams
from slalom.core.policy import (
    Admission,
    Decision,
    ModelView,
    RequestView,
    Residency,
    Routing,
    Verdict,
)
from slalom.core.request import DeviceSpec, Sla
from slalom.policies.pathological import EvictAll, HoldAll, NeverEvict, NoRoute, RejectAll
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.testing.swarm import scenario_for
from slalom.twin.run import build_scheduler, run
from slalom.units import GIB, SECOND
from tests.core.stories import (
    arrive,
    dispatched,
    gone,
    model,
    only,
    ready,
    resident,
    unloaded,
    watched,
)

SOON, LATER = Sla(ttft_ns=SECOND), Sla(ttft_ns=30 * SECOND)


def test_the_earliest_deadline_goes_first() -> None:
    story = watched(model(places=1))
    arrive(story, "late", sla=LATER)
    arrive(story, "none", after_ns=1)
    arrive(story, "soon", after_ns=1, sla=SOON)
    assert dispatched(ready(story)) == ["soon"]
    assert dispatched(story.tell(AttemptFinished("soon", 1, 1))) == ["late"]
    assert dispatched(story.tell(AttemptFinished("late", 1, 1))) == ["none"]


def test_first_come_first_served_where_that_is_asked_for() -> None:
    story = watched(model(places=1), policies=policies(ordering="fcfs"))
    arrive(story, "late", sla=LATER)
    arrive(story, "soon", after_ns=1, sla=SOON)
    assert dispatched(ready(story)) == ["late"]


def test_simultaneous_equals_go_by_name() -> None:
    story = watched(model(places=1))
    arrive(story, "r2", "r1", "r3")
    assert dispatched(ready(story)) == ["r1"]


def test_models_that_share_a_window_share_one_order() -> None:
    device = DeviceSpec("gpu", 10 * GIB, window=1)
    story = watched(model("a", 4), model("b", 4), device=device)
    resident(story, "a", "b")
    arrive(story, "running")
    arrive(story, "a-late", after_ns=1, sla=LATER)
    arrive(story, "b-soon", of="b", after_ns=1, sla=SOON)
    assert dispatched(story.tell(AttemptFinished("running", 1, 1))) == ["b-soon"]
    assert dispatched(story.tell(AttemptFinished("b-soon", 1, 1))) == ["a-late"]


def test_offers_that_went_stale_under_a_full_window_do_not_pile_up() -> None:
    device = DeviceSpec("gpu", 10 * GIB, window=1)
    story = watched(model("a", 4, places=4), device=device)
    resident(story, "a")
    arrive(story, "running")
    arrive(story, "patient", after_ns=1, sla=LATER)
    for index in range(200):
        arrive(story, f"hasty{index}", after_ns=1, sla=SOON)
        story.tell(RequestCancelled(f"hasty{index}"))
    assert len(story.scheduler.state.devices["gpu"].runnable) < 100
    assert dispatched(story.tell(AttemptFinished("running", 1, 1))) == ["patient"]


@pytest.mark.parametrize(
    ("routing", "order"),
    [("most-free", ["a#0", "a#1", "a#0", "a#1"]), ("pack", ["a#0", "a#0", "a#1", "a#1"])],
)
def test_routing_spreads_or_packs(routing: str, order: list[str]) -> None:
    story = watched(model(gib=2, places=2, replicas=2), policies=policies(routing=routing))
    arrive(story, "r1", "r2", "r3")
    ready(story)
    ready(story)
    running = [action.request_id for action in story.actions(Dispatch)]
    story.tell(*(AttemptFinished(name, 1, 1) for name in running))
    actions = arrive(story, "s1", "s2", "s3", "s4", after_ns=1)
    assert [action.replica_id for action in only(actions, Dispatch)] == order


def test_what_is_too_late_is_refused_when_its_turn_comes() -> None:
    story = watched(model(places=1), policies=policies(admission="drop-late"))
    arrive(story, "r1", sla=LATER)
    arrive(story, "r2", sla=SOON)
    actions = ready(story, after_ns=2 * SECOND)
    assert [(end.request_id, end.reason) for end in only(actions, EndRequest)] == [
        ("r2", Reason.SLA_INFEASIBLE)
    ]
    assert dispatched(actions) == ["r1"]


@dataclass
class _Gate:
    """Holds everything until it is opened."""

    open: bool = False
    asked: list[str] = field(default_factory=list)

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        self.asked.append(request.request.id)
        return Decision(Verdict.ADMIT if self.open else Verdict.HOLD)


def test_what_is_held_is_asked_again_when_an_attempt_ends_on_its_device() -> None:
    gate = _Gate(open=True)
    story = watched(model("a", 4), model("b", 4), policies=replace(policies(), admission=gate))
    resident(story, "a", "b")
    arrive(story, "running", of="b")
    gate.open = False
    assert dispatched(arrive(story, "r1")) == []
    gate.asked.clear()
    assert dispatched(arrive(story, "s1", of="b")) == []
    assert gate.asked == ["s1"], "r1 is not asked again before anything has changed for it"
    gate.open = True
    assert dispatched(story.tell(AttemptFinished("running", 1, 1))) == ["r1", "s1"]


@pytest.mark.parametrize(
    "bad",
    [
        {"admission": RejectAll()},
        {"admission": HoldAll()},
        {"residency": NeverEvict()},
        {"residency": EvictAll()},
        {"routing": NoRoute()},
    ],
    ids=lambda bad: type(next(iter(bad.values()))).__name__,
)
def test_the_core_stays_safe_with_the_worst_of_policies(
    bad: dict[str, Admission | Residency | Routing],
) -> None:
    for seed in range(8):
        drawn = scenario_for(seed)
        scenario = replace(drawn, policies=replace(drawn.policies, **bad))  # type: ignore[arg-type]
        recorder = Recorder(build_scheduler(scenario))

        class Watched:
            """The scheduler, checked from inside and outside after each call."""

            handle = recorder.handle
            snapshot = recorder.scheduler.snapshot

        run(scenario, scheduler=Watched())  # type: ignore[arg-type]  # quacks like one
        assert recorder.checker is not None
        recorder.checker.finish()


def test_never_evicting_leaves_the_others_to_their_patience() -> None:
    story = watched(
        model("a", 6),
        model("b", 6),
        params=SchedulerParams(swap_patience_ns=0, min_residency_ns=0),
        policies=replace(policies(), residency=NeverEvict()),
    )
    resident(story, "a")
    assert unloaded(arrive(story, "r1", of="b", after_ns=SECOND)) == []
    assert dispatched(arrive(story, "r2")) == ["r2"], "what is resident goes on"


def test_evicting_everything_still_books_every_byte() -> None:
    story = watched(
        model("a", 4),
        model("b", 4),
        model("c", 4),
        params=SchedulerParams(swap_patience_ns=0, min_residency_ns=0),
        policies=replace(policies(), residency=EvictAll()),
    )
    resident(story, "a", "b")
    assert len(unloaded(arrive(story, "r1", of="c", after_ns=SECOND))) == 2
    gone(story)
    assert dispatched(story.tell(ReplicaReady("c#0", 3))) == ["r1"]


def test_an_id_that_is_used_again_shares_no_fence_with_the_abort_it_left_behind() -> None:
    story = watched(model(places=2))
    arrive(story, "r")
    ready(story)
    story.tell(RequestCancelled("r"))
    (again,) = only(arrive(story, "r"), Dispatch)
    assert again.attempt == 2
    story.tell(AttemptFailed("r", 1, FailureKind.ABORTED, delivered=False))
    (end,) = only(story.tell(AttemptFinished("r", 2, 7)), EndRequest)
    assert (end.output_tokens, end.attempts) == (7, 1)
