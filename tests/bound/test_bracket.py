"""Every policy lies below the bound, and the schedule between them."""

from dataclasses import replace

import pytest

from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.testing.swarm_naps import with_naps
from slalom.twin.bound_api import Bound, bound
from slalom.twin.bound_jobs import jobs_of
from slalom.twin.bound_upper import upper_bound
from slalom.twin.engine_model import StepLaw
from slalom.twin.scenario import Arrival, Drain, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND
from tests.bound.worlds import (
    PAUSING,
    POLICIES,
    good_of,
    metered,
    optimum,
    random_scenario,
    tiny_scenario,
    with_clients,
)

_BATCH = 20


@pytest.mark.parametrize("batch", range(10))
def test_no_policy_and_no_schedule_is_above_the_bound(batch: int) -> None:
    for seed in range(batch * _BATCH, (batch + 1) * _BATCH):
        scenario = random_scenario(seed)
        found = bound(scenario)
        achieved = [good_of(replace(scenario, policies=rules)) for rules in POLICIES]
        assert found.good_schedule <= found.good_upper <= found.requests, f"seed {seed}"
        assert max(achieved) <= found.good_upper, f"seed {seed}"
        # Those routed to the emptiest replica are candidates of the schedule themselves.
        assert max(achieved[::2]) <= found.good_schedule, f"seed {seed}"


@pytest.mark.parametrize("batch", range(4))
def test_no_policy_that_pauses_and_no_client_is_above_the_bound(batch: int) -> None:
    """Answers that can be continued, clients that ask anew, clients that come again."""
    paused = refused = 0
    for seed in range(batch * _BATCH, (batch + 1) * _BATCH):
        scenario = with_clients(random_scenario(1_000 + seed), seed)
        found = bound(scenario)
        for rules in PAUSING:
            meter = metered(replace(scenario, policies=rules))
            assert meter.good_whole <= found.good_upper, f"seed {seed}"
            paused += meter.pauses_max
        for rules in POLICIES[::2]:
            meter = metered(replace(scenario, policies=rules))
            assert meter.good_whole <= found.good_schedule <= found.good_upper, f"seed {seed}"
            refused += meter.tallies.total(1).refused
    assert paused > _BATCH
    assert refused > 0


def test_no_policy_whose_replicas_sleep_is_above_the_bound() -> None:
    wakes = 0
    for seed in range(30):
        scenario = with_naps(random_scenario(2_000 + seed), seed)
        upper = _upper(scenario)
        for rules in POLICIES[::4]:
            meter = metered(replace(scenario, policies=rules))
            assert meter.good_whole <= upper, f"seed {seed}"
            wakes += meter.usage().wakes
    assert wakes > 10


def test_the_bound_allows_for_what_pauses_can_gain() -> None:
    scenario = with_clients(random_scenario(1_017), 17)
    none, two, many = [bound(scenario, pauses_max=most).good_upper for most in (0, 2, 50)]
    assert none < two < many
    assert bound(scenario).good_upper == two
    fixed = [
        replace(arrival, request=replace(arrival.request, resumable=False))
        for arrival in scenario.arrivals
    ]
    assert bound(replace(scenario, arrivals=fixed), pauses_max=50).good_upper == none


def test_on_tiny_instances_both_ends_are_near_the_optimum() -> None:
    best = [optimum(tiny_scenario(seed)) for seed in range(40)]
    found = [bound(tiny_scenario(seed)) for seed in range(40)]
    pairs = list(zip(best, found, strict=True))
    assert all(f.good_schedule <= b <= f.good_upper for b, f in pairs)
    assert sum(f.good_schedule == b for b, f in pairs) >= 39
    assert sum(f.good_upper == b for b, f in pairs) >= 29
    assert sum(f.good_upper - b for b, f in pairs) <= sum(best) * 0.13


def _two(second_ms: int, e2e_ms: int) -> Scenario:
    """Two answers of one second each on one place, due `e2e_ms` after their arrivals."""
    requests = [
        Request(name, "a", "t", Sla(e2e_ns=e2e_ms * MS), at_ms * MS, 0, 100, 100)
        for name, at_ms in (("first", 0), ("second", second_ms))
    ]
    spec = ModelSpec("a", "gpu", 0, 1, pinned=True)
    return Scenario(
        models=(TwinModel(spec, StepLaw(token_ns=10 * MS), LoadLaw(fixed_ns=0)),),
        devices=(DeviceSpec("gpu", 1),),
        arrivals=[Arrival(request, 100) for request in requests],
        policies=policies(),
    )


@pytest.mark.parametrize(
    ("second_ms", "e2e_ms", "good"),
    [(0, 1_000, 1), (0, 1_999, 1), (0, 2_000, 2), (1_000, 1_000, 2), (500, 1_400, 1), (0, 999, 0)],
)
def test_two_answers_on_one_place(second_ms: int, e2e_ms: int, good: int) -> None:
    found = bound(_two(second_ms, e2e_ms))
    assert (found.good_schedule, found.good_upper) == (good, good)


def test_more_time_between_arrivals_never_lowers_the_bound() -> None:
    for seed in (3, 8, 21):
        scenario = random_scenario(seed)
        uppers = [_upper(_stretched(scenario, factor)) for factor in (1, 2, 4, 8)]
        assert uppers == sorted(uppers), f"seed {seed}"


def _stretched(scenario: Scenario, factor: int) -> Scenario:
    """The same requests at a lower rate, all ready from the start."""
    models = tuple(replace(model, load=LoadLaw(fixed_ns=0)) for model in scenario.models)
    sizes = sum(model.spec.bytes_needed * model.spec.replicas for model in models)
    arrivals = []
    for arrival in scenario.arrivals:
        at_ns = arrival.request.arrived_ns * factor + 10 * SECOND
        arrivals.append(replace(arrival, request=replace(arrival.request, arrived_ns=at_ns)))
    return replace(
        scenario,
        models=models,
        devices=(DeviceSpec("gpu", sizes),),
        arrivals=arrivals,
    )


def _upper(scenario: Scenario) -> int:
    return upper_bound(scenario, jobs_of(scenario)).good


def test_memory_that_holds_one_model_at_a_time_lowers_the_bound() -> None:
    """Two models asked in turn each second; a load takes two."""

    def scenario(budget_bytes: int) -> Scenario:
        requests = [
            Request(f"r{n}", "ab"[n % 2], "t", Sla(e2e_ns=400 * MS), n * SECOND, 0, 30, 30)
            for n in range(4, 40)
        ]
        load = LoadLaw(fixed_ns=0, bytes_per_s=GIB)
        models = [TwinModel(ModelSpec(name, "gpu", 2 * GIB, 1), load=load) for name in "ab"]
        return Scenario(
            models=tuple(models),
            devices=(DeviceSpec("gpu", budget_bytes),),
            arrivals=[Arrival(request, 30) for request in requests],
            policies=policies(),
        )

    assert _upper(scenario(4 * GIB)) == 36
    contended = bound(scenario(2 * GIB))
    assert contended.good_upper <= 27
    assert contended.good_schedule >= 16, "one of the two can stay once it is there"


def test_a_solver_that_stops_early_makes_the_bound_looser_and_never_wrong() -> None:
    for seed in range(10):
        scenario = random_scenario(seed)
        jobs = jobs_of(scenario)
        exact = upper_bound(scenario, jobs)
        assert upper_bound(scenario, jobs, iterations_max=1).good >= exact.good, f"seed {seed}"


def test_plans_of_crowded_loads_come_to_an_end() -> None:
    """Many more requests than can be served, so that trimming goes back and forth a lot."""
    for seed in range(3):
        scenario = tiny_scenario(seed)
        arrivals = [
            replace(arrival, request=replace(arrival.request, id=f"{arrival.request.id} {n}"))
            for n in range(60)
            for arrival in scenario.arrivals
        ]
        arrivals.sort(key=lambda arrival: arrival.request.arrived_ns)
        found = bound(replace(scenario, arrivals=arrivals))
        assert bound(scenario).good_schedule <= found.good_schedule <= found.good_upper


def test_what_arrives_at_a_draining_server_is_not_counted() -> None:
    drained = replace(_two(1_000, 1_000), drain=Drain(500 * MS, 5 * SECOND))
    found = bound(drained)
    assert (found.good_schedule, found.good_upper) == (1, 1)


def test_the_same_scenario_gives_the_same_bracket() -> None:
    assert bound(random_scenario(5)) == bound(random_scenario(5))


def test_a_run_may_lift_the_lower_end() -> None:
    found = Bound(requests=10, duration_ns=5 * SECOND, good_upper=8, good_schedule=6)
    assert found.with_achieved(7).good_schedule == 7
    assert found.with_achieved(3) == found
    assert (found.upper_share, found.schedule_per_s) == (0.8, 1.2)


def test_nothing_to_do_is_all_done() -> None:
    found = bound(replace(_two(0, 1), arrivals=()))
    assert (found.requests, found.good_upper, found.good_schedule) == (0, 0, 0)
    assert found.upper_share == found.schedule_share == 1.0
