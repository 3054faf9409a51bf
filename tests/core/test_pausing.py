"""How a pause is asked for, refused by the attempt, and overruled by an end."""

from dataclasses import replace

from slalom.core.actions import AbortAttempt, Dispatch, EndRequest, Outcome
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    FailureKind,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
)
from slalom.core.planning import Plan, PlanView
from slalom.core.policy import Policies
from slalom.core.scheduler import Scheduler
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.testing.scripted_planner import Scripted, start_all
from slalom.units import MS
from tests.core.stories import GPU, arrive, model, only, request


def _pausing() -> Recorder:
    """One place, taken by r1, which the planner pauses for r2."""

    def rule(view: PlanView, _now_ns: int) -> Plan:
        if any(waiting.request.id == "r2" for waiting in view.waiting(9)):
            return Plan(starts=start_all(view), pauses=["r1"], demotions=["r2"])
        return Plan(starts=start_all(view))

    chosen = policies()
    planned = Policies(Scripted(rule), chosen.ordering, chosen.residency, chosen.routing)
    recorder = Recorder(Scheduler((model(places=1),), (GPU,), planned), outside=False)
    recorder.tell(RequestArrived(replace(request("r1"), resumable=True)))
    recorder.tell(ReplicaReady("a#0", 1))
    return recorder


def test_a_pause_says_that_it_is_one() -> None:
    recorder = _pausing()
    assert only(arrive(recorder, "r2"), AbortAttempt) == [AbortAttempt("r1", 1, pause=True)]
    told = recorder.tell(AttemptFailed("r1", 1, FailureKind.ABORTED, delivered=True))
    assert [end.request_id for end in only(told, EndRequest)] == []


def test_an_attempt_that_runs_on_finishes_as_any() -> None:
    recorder = _pausing()
    arrive(recorder, "r2")
    told = recorder.tell(AttemptFinished("r1", 1, 9), after_ns=MS)
    (end,) = only(told, EndRequest)
    assert (end.outcome, end.output_tokens, end.pauses) == (Outcome.DONE, 9, 0)
    assert [dispatch.request_id for dispatch in only(told, Dispatch)] == ["r2"]


def test_an_attempt_that_was_only_to_pause_can_still_be_told_to_end() -> None:
    recorder = _pausing()
    arrive(recorder, "r2")
    told = recorder.tell(RequestCancelled("r1"))
    assert only(told, AbortAttempt) == [AbortAttempt("r1", 1)]
    assert only(recorder.tell(RequestCancelled("r1")), AbortAttempt) == [], "once is enough"


def test_a_record_tells_when_its_request_was_demoted() -> None:
    recorder = _pausing()
    arrive(recorder, "r2", after_ns=3 * MS)
    recorder.tell(AttemptFailed("r1", 1, FailureKind.ABORTED, delivered=True), after_ns=MS)
    (end,) = only(recorder.tell(RequestCancelled("r2"), after_ns=MS), EndRequest)
    assert end.demoted_ns == 3 * MS
    (end,) = only(recorder.tell(RequestCancelled("r1"), after_ns=MS), EndRequest)
    assert end.demoted_ns == -1
