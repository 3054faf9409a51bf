"""Random worlds with faults: safe after every step, everything ends, every journal replays."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from slalom.core.actions import EndRequest
from slalom.core.journal import replay
from slalom.policies.registry import POLICIES
from slalom.testing.swarm import liveness_bound_ns, run_seed, scenario_for, survive
from slalom.testing.swarm_residency import residency_world
from slalom.twin.run import build_scheduler, run


def test_every_world_is_survived_and_its_journal_replays(seeds: range) -> None:
    for seed in seeds:
        try:
            survived = run_seed(seed)
        except Exception as error:
            error.add_note(f"to see it again: python -m slalom.testing.swarm {seed}")
            raise
        policies = survived.scenario.policies
        plans_well = type(policies.admission) in POLICIES["admission"].values()
        if plans_well and type(policies.routing) in POLICIES["routing"].values():
            counters = dict(survived.result.snapshot.counters)
            assert "plan_misfits" not in counters, f"seed {seed}: a plan asked for the impossible"
        fresh = build_scheduler(survived.scenario)
        assert replay(fresh, survived.result.entries) is None, f"seed {seed} replays otherwise"


def test_models_come_and_go_within_bounds_whatever_is_asked(seeds: range) -> None:
    """No wait without bound, no byte over a budget, no double load: the checker's rules."""
    for seed in seeds:
        try:
            survived = survive(residency_world(seed))
        except Exception as error:
            error.add_note(f"to see it again: python -m slalom.testing.swarm_residency {seed}")
            raise
        params = survived.scenario.params
        waited = params.queue_timeout_ns * params.attempts_max + liveness_bound_ns(params)
        ends = [
            action
            for entry in survived.result.entries
            for action in entry.actions
            if isinstance(action, EndRequest)
        ]
        assert all(end.ended_ns - end.arrived_ns <= waited for end in ends), f"seed {seed}"
        fresh = build_scheduler(survived.scenario)
        assert replay(fresh, survived.result.entries) is None, f"seed {seed} replays otherwise"


def test_those_worlds_have_all_of_it() -> None:
    """Sleeps, asks and choices in one world, again and again, or it proves nothing."""
    seen: Counter[str] = Counter()
    whole = 0
    for seed in range(60):
        counters = Counter(dict(run(residency_world(seed)).snapshot.counters))
        asked = sum(count for name, count in counters.items() if name.startswith("asks_"))
        whole += bool(asked and counters["sleeps_done"] and counters["models_passed"])
        seen.update(counters)
    assert whole >= 8
    for counter, least in {
        "ended_done": 800,
        "models_chosen": 800,
        "models_passed": 200,
        "evictions": 25,
        "sleeps_done": 30,
        "wakes_done": 10,
        "asks_refused": 100,
        "asks_load": 40,
        "idle_departures": 20,
        "unloads_failed": 30,
    }.items():
        assert seen[counter] >= least, (counter, seen)


def test_the_swarm_visits_what_it_is_there_for() -> None:
    """A swarm that never evicts, retries or fails a load would prove nothing."""
    seen: Counter[str] = Counter()
    for seed in range(100):
        seen.update(dict(run(scenario_for(seed)).snapshot.counters))
    for counter, least in {
        "ended_done": 1_000,
        "ended_cancelled": 100,
        "ended_rejected": 100,
        "ended_failed": 50,
        "ended_superseded": 100,
        "evictions": 50,
        "retries": 30,
        "stale_events": 50,
        "unloads_failed": 30,
        "unloads_unwanted": 5,
        "unloads_shutdown": 5,
        "drain_aborts": 5,
        "ledger_drift": 5,
        "foreign_memory": 20,
        "unloads_asked_again": 1,
        "pauses": 20,
        "demotions": 100,
        "plan_misfits": 1_000,
        "sleeps_done": 30,
        "wakes_done": 20,
        "sleep_failures": 5,
        "unloads_dropped": 3,
    }.items():
        assert seen[counter] >= least, (counter, seen)


_PRINT_JOURNAL = """
import sys
from slalom.journal.codec import encode_entry
from slalom.testing.swarm import scenario_for
from slalom.twin.run import run
for seed in (3, 11, 27):
    for entry in run(scenario_for(seed)).entries:
        sys.stdout.buffer.write(encode_entry(entry))
"""


@pytest.mark.timeout(60)
def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    journals = [
        subprocess.run(
            [sys.executable, "-c", _PRINT_JOURNAL],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "4242")
    ]
    assert journals[0].count(b"\n") > 100
    assert journals[0] == journals[1]
