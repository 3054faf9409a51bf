"""Laws that hold for any queue, and must hold for the scheduler in the twin's world."""

import itertools
from collections import Counter
from math import factorial, sqrt
from statistics import fmean, stdev

import pytest

from slalom.core.actions import Dispatch, Outcome
from slalom.core.events import AttemptFinished, ReplicaReady, RequestArrived
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.noise import stream
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import MS, SECOND

#: One ns for each prompt token and next to nothing for the one output token: service times are
#: whatever the prompt says, to the nanosecond.
_BY_PROMPT = StepLaw(prefill_ns_per_token=1, token_ns=1, neighbour_ns=0)


def queue(places: int, utilisation: float, count: int, seed: int) -> TwinRun:
    """M/M/k: Poisson arrivals, exponential service of mean 100 ms, k places, one queue."""
    rng = stream(seed, "mmk")
    mean_ns = 100 * MS
    at_ns = SECOND
    arrivals = []
    for index in range(count):
        at_ns += round(rng.expovariate(places * utilisation / mean_ns))
        service_ns = max(round(rng.expovariate(1 / mean_ns)), 1)
        request = Request(f"r{index}", "a", "task", Sla(), at_ns, service_ns, 1, 1)
        arrivals.append(Arrival(request, 1))
    model = TwinModel(
        ModelSpec("a", "gpu", 1, places, pinned=True),
        _BY_PROMPT,
        LoadLaw(fixed_ns=1),
        report_every_ns=0,
    )
    return run(
        Scenario(
            models=(model,),
            devices=(DeviceSpec("gpu", 1),),
            arrivals=arrivals,
            policies=policies(ordering="fcfs"),
            params=SchedulerParams(queue_max=10**9, queue_timeout_ns=10**15),
        )
    )


def erlang_c_wait_ns(places: int, utilisation: float) -> float:
    """Mean time in queue of M/M/k with mean service 100 ms.

    Source: A. K. Erlang's delay formula, in any textbook of queueing theory.
    """
    load = places * utilisation
    top = load**places / factorial(places) / (1 - utilisation)
    waits = top / (sum(load**n / factorial(n) for n in range(places)) + top)
    return waits * 100 * MS / (places * (1 - utilisation))


@pytest.mark.parametrize(("places", "utilisation"), [(1, 0.6), (4, 0.8)])
def test_mean_waits_agree_with_erlang_c(places: int, utilisation: float) -> None:
    means = []
    for seed in range(12):
        ends = queue(places, utilisation, 2_500, seed).ends
        means.append(fmean(end.dispatch_ns - end.arrived_ns for end in ends))
    expected = erlang_c_wait_ns(places, utilisation)
    half_width = 3.1 * stdev(means) / sqrt(len(means))  # t, 11 degrees of freedom, 99 %
    assert abs(fmean(means) - expected) <= half_width
    assert half_width < expected * 0.35, "an interval that holds everything proves nothing"


def test_no_place_is_idle_while_a_request_waits() -> None:
    """Work conservation, read off the journal."""
    places = 3
    waiting, running, ready = 0, 0, False
    for entry in queue(places, 0.9, 2_000, seed=5).entries:
        for event in entry.events:
            ready = ready or isinstance(event, ReplicaReady)
            waiting += isinstance(event, RequestArrived)
            running -= isinstance(event, AttemptFinished)
        started = sum(isinstance(action, Dispatch) for action in entry.actions)
        waiting, running = waiting - started, running + started
        assert not ready or running == min(places, running + waiting)


def test_littles_law() -> None:
    """The mean number waiting is the arrival rate times the mean wait, exactly, on one journal."""
    result = queue(2, 0.85, 3_000, seed=9)
    changes = sorted(
        itertools.chain.from_iterable(
            ((end.arrived_ns, 1), (end.dispatch_ns, -1)) for end in result.ends
        )
    )
    area, waiting = 0, 0
    for (at_ns, change), (next_ns, _) in itertools.pairwise(changes):
        waiting += change
        area += waiting * (next_ns - at_ns)
    assert area == sum(end.dispatch_ns - end.arrived_ns for end in result.ends)
    assert area > 0


def test_whatever_comes_in_goes_out_once() -> None:
    result = queue(4, 1.3, 2_000, seed=3)
    ended = Counter(end.request_id for end in result.ends)
    assert set(ended.values()) == {1}
    assert len(ended) == 2_000
    assert {end.outcome for end in result.ends} == {Outcome.DONE}
    assert (result.snapshot.waiting, result.snapshot.running) == (0, 0)
