"""Random worlds with faults: safe after every step, everything ends, every journal replays."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from slalom.core.journal import replay
from slalom.policies.registry import POLICIES
from slalom.testing.swarm import run_seed, scenario_for
from slalom.twin.run import build_scheduler, run


def test_every_world_is_survived_and_its_journal_replays(seeds: range) -> None:
    for seed in seeds:
        try:
            survived = run_seed(seed)
        except Exception as error:
            error.add_note(f"to see it again: python -m slalom.testing.swarm {seed}")
            raise
        if type(survived.scenario.policies.admission) in POLICIES["admission"].values():
            counters = dict(survived.result.snapshot.counters)
            assert "plan_misfits" not in counters, f"seed {seed}: a plan asked for the impossible"
        fresh = build_scheduler(survived.scenario)
        assert replay(fresh, survived.result.entries) is None, f"seed {seed} replays otherwise"


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
