"""The engines in the twin's world: whole scenarios, the same everywhere, and bounded in memory."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.bench import twin as speed
from slalom.bench.twin_loads import fleet, one_replica
from slalom.core.actions import Dispatch, Outcome
from slalom.core.events import AttemptFinished, FirstToken
from slalom.core.journal import Entry
from slalom.core.request import Sla
from slalom.twin.engine_specs import LlamaCppEngine, VllmEngine
from slalom.twin.faults import FaultPlan
from slalom.twin.profiles import find_profile
from slalom.twin.records_file import RecordsFile
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, Scenario
from slalom.units import MS, SECOND

PROFILE = find_profile("a100/starcoder2-15b")


def with_engine(engine: VllmEngine | LlamaCppEngine, count: int = 120) -> Scenario:
    scenario = one_replica(count, 6.0)
    return replace(scenario, models=(replace(scenario.models[0], engine=engine),))


ENGINES: list[VllmEngine | LlamaCppEngine] = [
    VllmEngine(PROFILE, kv_blocks=2_000),
    VllmEngine(PROFILE, kv_blocks=900, budget_tokens=512, seqs_max=64, by_priority=True),
    LlamaCppEngine(PROFILE, slots=16),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_everybody_is_served_and_every_token_is_accounted_for(
    engine: VllmEngine | LlamaCppEngine,
) -> None:
    scenario = with_engine(engine)
    arrivals = {arrival.request.id: arrival for arrival in scenario.arrivals}
    result = run(replace(scenario, arrivals=arrivals.values()))
    assert {end.outcome for end in result.ends} == {Outcome.DONE}
    assert {end.request_id: end.output_tokens for end in result.ends} == {
        name: arrival.output_tokens for name, arrival in arrivals.items()
    }
    for end in result.ends:
        assert end.dispatch_ns + PROFILE.ingest_ns < end.first_token_ns <= end.ended_ns
        arrival = arrivals[end.request_id]
        fastest_ns = engine.alone_ns(arrival.request.prompt_tokens, arrival.output_tokens)
        assert end.ended_ns - end.dispatch_ns >= fastest_ns - MS


@pytest.mark.parametrize("engine", ENGINES)
def test_leaving_clients_and_faults_end_well(engine: VllmEngine | LlamaCppEngine) -> None:
    scenario = with_engine(engine)
    arrivals = [
        replace(arrival, patience_ns=index % 5 * 200 * MS if index % 2 else -1)
        for index, arrival in enumerate(scenario.arrivals)
    ]
    faults = FaultPlan(crash=0.002, slow=0.02, error=0.05)
    result = run(replace(scenario, arrivals=arrivals, faults=faults))
    outcomes = [end.outcome for end in result.ends]
    assert len(outcomes) == len(arrivals)
    assert {Outcome.DONE, Outcome.CANCELLED} <= set(outcomes)
    assert result.snapshot.running == result.snapshot.waiting == 0


def test_the_next_step_of_a_session_finds_its_prefix() -> None:
    base = one_replica(1)
    first = next(iter(base.arrivals))
    request = replace(first.request, prompt_tokens=6_000, sla=Sla())

    def ttft_of_second(shared_tokens: int) -> int:
        longer = replace(request, id="second", prompt_tokens=6_100)
        then = Arrival(longer, 5, shared_tokens=shared_tokens, session="s")
        whole = Arrival(request, 5, session="s", then=then, gap_ns=SECOND)
        ends = run(replace(base, arrivals=[whole])).ends
        second = next(end for end in ends if end.request_id == "second")
        return second.first_token_ns - second.arrived_ns

    assert ttft_of_second(6_005) < ttft_of_second(0) / 4


def test_a_run_that_keeps_nothing_says_the_same_and_its_records_are_on_disk(
    tmp_path: Path,
) -> None:
    kept = run(one_replica(200))
    told: list[Entry] = []
    bare = run(one_replica(200), watch=told.append, keep=False)
    assert (bare.entries, bare.ends) == ((), ())
    assert tuple(told) == kept.entries
    assert bare.snapshot == kept.snapshot
    with RecordsFile(tmp_path / "records.jsonl") as records:
        run(one_replica(200), watch=records, keep=False)
    text = (tmp_path / "records.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert records.count == len(lines) == 200
    assert [line["request_id"] for line in lines] == [end.request_id for end in kept.ends]
    assert [line["ended_ns"] for line in lines] == [end.ended_ns for end in kept.ends]


_PRINT_RUN = """
import hashlib
from slalom.bench.twin_loads import fleet
from slalom.journal.codec import encode_entry
from slalom.twin.run import run
digest = hashlib.sha256()
for entry in run(fleet(150, 30.0, replicas=60)).entries:
    digest.update(encode_entry(entry))
print(digest.hexdigest())
"""


def test_two_hash_seeds_give_the_same_bytes() -> None:
    def printed(hash_seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", _PRINT_RUN]
        return subprocess.run(command, env=env, capture_output=True, check=True, text=True).stdout

    assert len({printed(hash_seed) for hash_seed in ("1", "2", "3")}) == 1


def test_littles_law_inside_a_stepping_engine() -> None:
    """Time in the engine, summed over requests, is the time-weighted number in it."""
    result = run(with_engine(ENGINES[0]))
    area, inside, last_ns = 0, 0, 0
    for entry in result.entries:
        area += inside * (entry.now_ns - last_ns)
        last_ns = entry.now_ns
        inside -= sum(isinstance(event, AttemptFinished) for event in entry.events)
        inside += sum(isinstance(action, Dispatch) for action in entry.actions)
    assert inside == 0
    assert area == sum(end.ended_ns - end.dispatch_ns for end in result.ends) > 0


def test_every_replica_of_a_fleet_works() -> None:
    result = run(fleet(300, 60.0, replicas=60))
    assert len({end.replica_id for end in result.ends}) > 55
    firsts = [e for entry in result.entries for e in entry.events if isinstance(e, FirstToken)]
    assert len(firsts) == 300


def test_the_speed_page_names_every_load() -> None:
    speeds = [speed.measure(title, 40) for title in speed.LOADS]
    assert [each.requests for each in speeds] == [40] * len(speeds)
    text = speed.page(speeds)
    assert all(title in text for title in speed.LOADS)
    assert all(each.cpu_s > 0 and each.calls > 80 for each in speeds)
