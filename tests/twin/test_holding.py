"""How long Slalom's own policies let somebody wait for a model that does not fit beside others.

Owns the bounds, in virtual time: for one person who turns from model to model, for a single request
beside steady traffic, and that many who come for several models are worth holding needs back for.
"""

import pytest

from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND

LOAD_S = 10.0
SLA = Sla(ttft_ns=500 * MS)
ADMISSIONS = ("open", "plan-and-trim")


def large(name: str) -> TwinModel:
    """A model of which one fits; an answer of 100 tokens takes 2 s."""
    load = LoadLaw(fixed_ns=round(LOAD_S * SECOND), bytes_per_s=1 << 60)
    return TwinModel(ModelSpec(name, "gpu", 12 * GIB, 8), StepLaw(token_ns=20 * MS), load)


def ask(model: str, at_s: float) -> Arrival:
    request = Request(f"{model}@{at_s:g}", model, "chat", SLA, round(at_s * SECOND), 50, 100, 100)
    return Arrival(request, 100)


def played(arrivals: list[Arrival], admission: str) -> TwinRun:
    return run(
        Scenario(
            models=(large("a"), large("b")),
            devices=(DeviceSpec("gpu", 16 * GIB),),
            arrivals=sorted(arrivals, key=lambda one: one.request.arrived_ns),
            policies=policies(admission=admission, residency="penalty"),
        )
    )


def waited_s(result: TwinRun, name: str) -> float:
    end = next(one for one in result.ends if one.request_id == name)
    assert end.first_token_ns >= 0, end
    return (end.first_token_ns - end.arrived_ns) / SECOND


@pytest.mark.parametrize("admission", ADMISSIONS)
@pytest.mark.parametrize("apart_s", [14, 30, 90])
def test_one_person_who_alternates_waits_for_no_more_than_the_loads(
    admission: str, apart_s: int
) -> None:
    arrivals = [ask("ab"[turn % 2], turn * apart_s) for turn in range(12)]
    result = played(arrivals, admission)
    for one in arrivals:
        assert waited_s(result, one.request.id) < LOAD_S + 0.5


@pytest.mark.parametrize("admission", ADMISSIONS)
@pytest.mark.parametrize("gap_s", [0.5, 2.5, 4.0])
def test_a_single_request_beside_steady_traffic_waits_two_loads_at_most(
    admission: str, gap_s: float
) -> None:
    steady = [ask("a", index * gap_s) for index in range(round(120 / gap_s))]
    result = played([*steady, ask("b", 61.7)], admission)
    assert waited_s(result, "b@61.7") < 2 * LOAD_S + 2.5


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_who_worked_with_one_model_turns_to_the_other(admission: str) -> None:
    """Ten turns with one model, and then the other: the first is not kept for long."""
    turns = [ask("a", index * 5.0) for index in range(10)]
    result = played([*turns, ask("b", 50.0)], admission)
    assert waited_s(result, "b@50") < 2 * LOAD_S + 2.5
