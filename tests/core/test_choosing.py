"""Several models may serve a request: which of them does, by each rule, and what is said of it."""

from dataclasses import replace

import pytest

from slalom.core.actions import (
    Action,
    Dispatch,
    EndRequest,
    LoadReplica,
    ModelChosen,
    Outcome,
    Passed,
    Reason,
)
from slalom.core.events import (
    AttemptFinished,
    FailureKind,
    ReplicaFailed,
    ReplicaReady,
    RequestArrived,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import Alternatives, Choice, Request, Sla, StepCost, Swap
from slalom.errors import RequestError
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.units import MS, SECOND
from tests.core.stories import model, only, ready, request, watched

PAIR = (model("a", gib=6, load_ns=8 * SECOND), model("b", gib=6, load_ns=2 * SECOND))


def either(
    name: str,
    *models: str,
    choice: Choice = Choice.WARM_FIRST,
    at_ns: int = 0,
    sla: Sla | None = None,
    wait_ns: int = 0,
    waiting_max: int = -1,
    **other: object,
) -> Request:
    """A request that any of some models may serve; `a` and `b` if none is named."""
    names = models or ("a", "b")
    how = Alternatives(names, choice, wait_ns=wait_ns, waiting_max=waiting_max)
    wanted = request(name, names[0], at_ns, sla)
    return replace(wanted, alternatives=how, **other)  # type: ignore[arg-type]


def tell(story: Recorder, *requests: Request) -> list[Action]:
    """They arrive together, now."""
    return story.tell(*(RequestArrived(one) for one in requests))


def chosen(actions: list[Action]) -> ModelChosen:
    """The one choice among actions."""
    (found,) = only(actions, ModelChosen)
    return found


def up(story: Recorder, name: str) -> None:
    """A model serves a request of its own, and is idle again."""
    at_ns = story.now_ns
    story.tell(RequestArrived(request(f"up-{name}", name, at_ns)))
    actions = ready(story)
    (sent,) = only(actions, Dispatch)
    story.tell(AttemptFinished(sent.request_id, sent.attempt, 3))


# -- warm-first -----------------------------------------------------------------------------


def test_the_first_that_is_ready_serves() -> None:
    story = watched(*PAIR)
    up(story, "b")
    actions = tell(story, either("r"))
    assert chosen(actions) == ModelChosen("r", "b", (("a", Passed.NOT_READY),))
    (sent,) = only(actions, Dispatch)
    assert sent.replica_id.startswith("b#")
    assert not only(actions, LoadReplica)


def test_without_any_that_is_ready_the_first_is_loaded() -> None:
    story = watched(*PAIR)
    actions = tell(story, either("r"))
    assert chosen(actions) == ModelChosen("r", "a")
    assert [load.model for load in only(actions, LoadReplica)] == ["a"]


def test_one_that_loads_is_not_ready() -> None:
    story = watched(*PAIR)
    tell(story, request("early", "b"))
    assert chosen(tell(story, either("r"))).model == "a"


def test_the_first_serves_once_it_is_ready_too() -> None:
    story = watched(model("a", gib=4), model("b", gib=4))
    up(story, "b")
    up(story, "a")
    assert chosen(tell(story, either("r"))) == ModelChosen("r", "a")


def test_the_record_names_who_served() -> None:
    story = watched(*PAIR)
    up(story, "b")
    (sent,) = only(tell(story, either("r")), Dispatch)
    (ended,) = only(story.tell(AttemptFinished("r", sent.attempt, 5)), EndRequest)
    assert (ended.model, ended.outcome) == ("b", Outcome.DONE)


# -- spillover ------------------------------------------------------------------------------


def test_it_spills_where_the_load_would_take_too_long() -> None:
    story = watched(*PAIR)
    few = either("r", choice=Choice.SPILLOVER, wait_ns=3 * SECOND)
    assert chosen(tell(story, few)) == ModelChosen("r", "b", (("a", Passed.WAIT_TOO_LONG),))


def test_it_waits_for_the_best_where_that_is_short_enough() -> None:
    story = watched(*PAIR)
    patient = either("r", choice=Choice.SPILLOVER, wait_ns=8 * SECOND)
    assert chosen(tell(story, patient)).model == "a"


def test_a_load_under_way_is_waited_for_less() -> None:
    story = watched(*PAIR)
    tell(story, request("early", "a"))
    story.tell(after_ns=6 * SECOND)
    late = either("r", choice=Choice.SPILLOVER, wait_ns=3 * SECOND, at_ns=story.now_ns)
    assert chosen(tell(story, late)).model == "a"


def test_where_all_would_be_waited_for_too_long_the_shortest_wait_is_taken() -> None:
    story = watched(*PAIR)
    assert chosen(tell(story, either("r", choice=Choice.SPILLOVER))).model == "b"


def test_a_wait_that_nobody_knows_is_too_long() -> None:
    story = watched(model("a"), model("b", load_ns=SECOND))
    spill = either("r", choice=Choice.SPILLOVER, wait_ns=3600 * SECOND)
    assert chosen(tell(story, spill)).model == "b"


def test_it_spills_where_too_many_wait() -> None:
    story = watched(model("a", gib=4, places=1), model("b", gib=4, places=1))
    up(story, "a")
    up(story, "b")
    tell(story, request("runs", "a"), request("waits", "a"))
    few = either("few", choice=Choice.SPILLOVER, wait_ns=SECOND, waiting_max=0)
    assert chosen(tell(story, few)).model == "b"
    more = either("more", choice=Choice.SPILLOVER, wait_ns=SECOND, waiting_max=1)
    assert chosen(tell(story, more)).model == "a"


# -- deadline -------------------------------------------------------------------------------

COSTS = StepCost(step_ns=10 * MS, prompt_ns=1 * MS)


def test_the_first_that_holds_the_objectives_serves() -> None:
    story = watched(*PAIR)
    tight = either("r", choice=Choice.DEADLINE, sla=Sla(ttft_ns=3 * SECOND))
    assert chosen(tell(story, tight)) == ModelChosen("r", "b", (("a", Passed.LATE),))
    loose = either("s", choice=Choice.DEADLINE, sla=Sla(ttft_ns=30 * SECOND))
    assert chosen(tell(watched(*PAIR), loose)).model == "a"


def test_where_none_holds_the_one_that_ends_first_serves() -> None:
    story = watched(*PAIR)
    hopeless = either("r", choice=Choice.DEADLINE, sla=Sla(ttft_ns=1))
    assert chosen(tell(story, hopeless)).model == "b"


def test_a_request_without_objectives_is_served_by_the_first() -> None:
    assert chosen(tell(watched(*PAIR), either("r", choice=Choice.DEADLINE))).model == "a"


def test_the_engines_own_time_counts() -> None:
    slow = replace(COSTS, step_ns=200.0 * MS)
    story = watched(
        model("a", gib=4, step_cost=slow, load_ns=SECOND),
        model("b", gib=4, step_cost=COSTS, load_ns=SECOND),
    )
    up(story, "a")
    up(story, "b")
    # 32 tokens are predicted: 6.4 s on the one, 0.3 s on the other.
    tight = either("r", choice=Choice.DEADLINE, at_ns=story.now_ns, sla=Sla(e2e_ns=2 * SECOND))
    assert chosen(tell(story, tight)).model == "b"


@pytest.mark.parametrize("queued", [0, 12])
def test_a_planner_says_what_is_to_be_expected(queued: int) -> None:
    """What waits before it counts, where the planner knows of it."""
    story = watched(
        model("a", gib=4, places=1, step_cost=COSTS, load_ns=SECOND),
        model("b", gib=4, places=1, step_cost=COSTS, load_ns=SECOND),
        policies=policies(admission="plan-and-trim"),
    )
    up(story, "a")
    up(story, "b")
    now_ns = story.now_ns
    sla = Sla(e2e_ns=2 * SECOND)
    tell(story, *(request(f"q{index}", "a", now_ns, sla) for index in range(queued)))
    tight = either("r", choice=Choice.DEADLINE, at_ns=now_ns, sla=sla)
    assert chosen(tell(story, tight)).model == ("b" if queued else "a")


# -- models that would refuse ---------------------------------------------------------------


def test_what_would_refuse_is_left_out() -> None:
    story = watched(model("a", gib=40), model("b"))
    actions = tell(story, either("r", "a", "nobody", "b"))
    passed = (("a", Reason.DOES_NOT_FIT), ("nobody", Reason.UNKNOWN_MODEL))
    assert chosen(actions) == ModelChosen("r", "b", passed)


def test_a_model_that_fails_to_load_is_left_out_while_it_rests() -> None:
    story = watched(*PAIR, params=SchedulerParams(load_failures_max=1))
    (load,) = only(tell(story, request("early", "a")), LoadReplica)
    story.tell(ReplicaFailed(load.replica_id, load.epoch, FailureKind.OUT_OF_MEMORY))
    found = chosen(tell(story, either("r")))
    assert found == ModelChosen("r", "b", (("a", Reason.LOAD_BACKOFF),))


def test_where_all_refuse_the_first_ones_reason_is_told() -> None:
    story = watched(model("a", gib=40), model("b", gib=50))
    actions = tell(story, either("r"))
    (ended,) = only(actions, EndRequest)
    assert (ended.model, ended.reason) == ("a", Reason.DOES_NOT_FIT)
    assert not only(actions, ModelChosen)


def test_it_must_be_one_of_its_models() -> None:
    with pytest.raises(RequestError, match="none of those that may serve it"):
        replace(either("r"), model="c")


# -- beside the rest ------------------------------------------------------------------------


def test_a_newer_request_replaces_an_older_one_on_another_model() -> None:
    story = watched(*PAIR)
    older = replace(either("older"), supersedes="a file")
    assert chosen(tell(story, older)).model == "a"
    story.tell(RequestArrived(replace(request("own", "b"), allow_swap=Swap.NEVER)))
    patient = replace(either("newer", choice=Choice.SPILLOVER), supersedes="a file")
    actions = tell(story, patient)
    assert chosen(actions).model == "b"
    (ended,) = only(actions, EndRequest)
    assert (ended.request_id, ended.outcome) == ("older", Outcome.SUPERSEDED)


def test_asking_which_would_serve_changes_nothing() -> None:
    story = watched(*PAIR)
    up(story, "b")
    before = story.scheduler.snapshot()
    placing = story.scheduler.place(either("r"))
    assert placing.request.model == "b"
    assert placing.passed == (("a", Passed.NOT_READY),)
    assert story.scheduler.snapshot() == before
    assert story.scheduler.place(request("s", "a")).passed == ()


def test_a_request_for_one_model_is_not_chosen_for() -> None:
    story = watched(*PAIR)
    assert not only(tell(story, request("r", "a")), ModelChosen)


def test_counters_tell_how_often() -> None:
    story = watched(*PAIR)
    up(story, "b")
    tell(story, either("r"), either("s", "b", "a"))
    counters = dict(story.scheduler.snapshot().counters)
    assert (counters["models_chosen"], counters["models_passed"]) == (2, 1)


def test_a_model_is_ready_from_the_moment_it_is_told() -> None:
    story = watched(*PAIR)
    (load,) = only(tell(story, request("early", "b")), LoadReplica)
    actions = story.tell(
        ReplicaReady(load.replica_id, load.epoch), RequestArrived(either("r", at_ns=story.now_ns))
    )
    assert chosen(actions).model == "b"
