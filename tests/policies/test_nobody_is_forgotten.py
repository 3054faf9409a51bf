"""Who is late is late, not lost: whatever plans, an idle engine serves or refuses all that waits.

A model takes three seconds to load, and everything that comes meanwhile is late when it is ready.
"""

import pytest

from slalom.core.planning import Planning
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import POLICIES, policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import MIB, MS, SECOND

PLANNERS = [kind for kind, policy in POLICIES["admission"].items() if issubclass(policy, Planning)]
SLAS = (Sla(ttft_ns=200 * MS, e2e_ns=500 * MS), Sla(ttft_ns=SECOND, tpot_ns=50 * MS), Sla())


def _arrival(number: int) -> Arrival:
    request = Request(
        id=f"r{number}",
        model="a",
        task=f"task {number % 3}",
        sla=SLAS[number % 3],
        arrived_ns=number * 200 * MS,
        prompt_tokens=50,
        max_tokens=64,
        predicted_tokens=16,
        resumable=True,
    )
    return Arrival(request, output_tokens=20)


@pytest.mark.parametrize("kind", PLANNERS)
def test_what_came_while_its_model_loaded_is_served_or_refused(kind: str) -> None:
    model = TwinModel(
        ModelSpec("a", "host", 60 * MIB, 2),
        StepLaw(prefill_ns_per_token=100_000, token_ns=10 * MS, neighbour_ns=MS),
        LoadLaw(fixed_ns=3 * SECOND, bytes_per_s=1 << 80),
    )
    scenario = Scenario(
        models=(model,),
        devices=(DeviceSpec("host", 100 * MIB),),
        arrivals=tuple(map(_arrival, range(12))),
        policies=policies(admission=kind),
    )
    ends = run(scenario).ends
    assert len(ends) == 12
    timed_out = [end.request_id for end in ends if end.reason == "queue_timeout"]
    assert timed_out == []
    assert max(end.ended_ns for end in ends) < 30 * SECOND
