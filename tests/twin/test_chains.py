"""Chains in virtual time: the scenario that ships, played short, under watch."""

from dataclasses import replace
from pathlib import Path

import pytest

from slalom.config.scenario_load import load_scenario
from slalom.core.actions import EndRequest, Outcome
from slalom.core.journal import Entry
from slalom.metrics.results import RunResult
from slalom.testing.checker import Checker
from slalom.twin.bound_api import bound
from slalom.twin.bound_jobs import jobs_of, requests_of
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import TwinRun, build_scheduler, run
from slalom.twin.scenario import Scenario
from slalom.units import SECOND

FILE = Path(__file__).parents[2] / "scenarios" / "chains.yaml"


def scenario(policy: str, seconds: int = 60, rate: float = 1.0) -> Scenario:
    loaded = load_scenario(FILE)
    plan = replace(loaded.plan, duration_ns=seconds * SECOND).scaled(rate)
    return scenario_of(replace(loaded, plan=plan), policy_sets(loaded, [policy])[policy], seed=3)


def played(one: Scenario) -> tuple[TwinRun, dict[str, float]]:
    scheduler, meter = build_scheduler(one), Meter(one)
    checker = Checker.of(scheduler)

    def see(entry: Entry) -> None:
        checker.see(entry)

    made = run(one, scheduler=scheduler, watch=see, observer=meter)
    checker.finish()
    assert not scheduler.state.chains, "none is remembered once all is over"
    assert not any(model.announced for model in scheduler.state.models.values())
    return made, RunResult.of("p", 0, meter.tallies, 60 * SECOND).figures()


def ends_of(made: TwinRun) -> list[EndRequest]:
    return [end for end in made.ends if end.chain]


@pytest.mark.parametrize("policy", ["first-come", "deadlines", "drop-late", "niyama"])
def test_every_policy_plays_chains_to_their_end(policy: str) -> None:
    made, figures = played(scenario(policy, 30))
    assert figures["chains"] > 10
    done = [end for end in ends_of(made) if end.outcome is Outcome.DONE]
    assert {end.step for end in done} == {1, 2, 3}
    assert all(end.good == (end.chain_left_ns >= 0) for end in done)


def test_more_chains_are_on_time_if_what_remains_of_them_is_looked_at() -> None:
    _, blind = played(scenario("call-by-call", rate=1.4))
    made, aware = played(scenario("plan-and-trim", rate=1.4))
    assert aware["chain_attainment"] > blind["chain_attainment"]
    assert aware["on_time_per_s"] > 0.9 * blind["on_time_per_s"], "not at the cost of all others"
    refused = [end for end in ends_of(made) if end.outcome is Outcome.REJECTED and end.step > 1]
    assert all(end.chain_left_ns < 0 for end in refused), "let in as a whole, until the deadline"


def test_the_bound_knows_a_chains_deadline() -> None:
    one = scenario("plan-and-trim", 20)
    one = replace(one, arrivals=tuple(one.arrivals))
    due_s = {
        arrival.request.id: arrival.request.link.deadline_ns / SECOND
        for arrival, _ in requests_of(one.arrivals)
        if arrival.request.link is not None
    }
    (model,) = jobs_of(one)
    told_s = {job.id: job.done_by_s for job in model.jobs if job.id in due_s}
    assert told_s == {name: pytest.approx(at_s, abs=0.01) for name, at_s in due_s.items()}
    made, _ = played(one)
    found = bound(one)
    assert sum(end.good for end in made.ends) <= found.good_upper <= found.requests
