"""The benchmark of chains: its load, its three ways, its page, and one small run of the whole."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from slalom.bench.chains import __main__ as command
from slalom.bench.chains.__main__ import QUICK, report
from slalom.bench.chains.loads import (
    BY_ITSELF,
    CHAINED,
    SPLIT,
    STEPS,
    WAYS,
    Mixture,
    alone_s,
    load,
    renamed,
    requests,
    requests_per_chain,
    template,
)
from slalom.bench.chains.page import Facts, Run, page
from slalom.bench.scenario_requests import Speech
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.loads import tasks_for
from slalom.config.chain_sections import ChainSection
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import MS, SECOND, US
from slalom.workload.load import LoadItem

ENGINE = LlamaCppEngine(
    StepProfile(
        "x",
        dense_flat_ns=MS,
        dense_ns_per_token=50 * US,
        decode_seq_ns=300 * US,
        ingest_ns=500 * US,
    ),
    slots=4,
    prefix_caching=False,
)
WHAT = Mixture(chains_per_s=2.0, people_per_s=5.0, seconds=5.0, deadline_s=6.0)


def items() -> list[LoadItem]:
    return load("m", tasks_for(ENGINE), WHAT, seed=1, name="x")


def test_the_load_has_chains_with_the_deadline_and_people() -> None:
    found = items()
    assert [item.at_ns for item in found] == sorted(item.at_ns for item in found)
    chains = [item for item in found if item.link is not None]
    assert 0 < len(chains) < len(found)
    for first in chains:
        assert first.link is not None
        assert first.link.deadline_ns - first.at_ns == 6 * SECOND
        assert len(first.link.rest) == len(STEPS) - 1
        assert first.then is not None
        assert first.then.prompt_tokens > first.prompt_tokens


def test_the_ways_differ_in_what_they_say_and_in_nothing_else() -> None:
    texts, speech, shares = Texts(seed=0), Speech(), [1.0, 2.0, 3.0]
    first = next(item for item in items() if item.link is not None)
    by_way = {way: requests([first], texts, speech, way, shares)[0] for way in WAYS}
    assert len({request.body for request in by_way.values()}) == 1
    assert len({request.link for request in by_way.values()}) == 1, "and all are judged alike"
    assert "x-slalom-chain" in by_way[CHAINED].headers
    for way in (BY_ITSELF, SPLIT):
        assert not any("chain" in name for name in by_way[way].headers)
    second = by_way[SPLIT].then
    assert second is not None
    assert second.headers["x-slo-e2e-ms"] == "2000"
    assert "x-slo-ttft-ms" not in second.headers
    assert "x-slo-ttft-ms" in by_way[BY_ITSELF].headers


def test_runs_have_names_of_their_own_and_the_same_sizes() -> None:
    first = next(item for item in items() if item.link is not None)
    others = [renamed(first, way) for way in WAYS]
    assert len({one.link.chain for one in others if one.link is not None}) == len(WAYS)
    assert len({one.id for one in others}) == len({one.session for one in others}) == len(WAYS)
    assert {one.prompt_tokens for one in others} == {first.prompt_tokens}
    assert others[0].then is not None
    assert others[0].then.session == others[0].session


def test_the_server_knows_the_steps_and_a_chain_is_worth_several_requests() -> None:
    section = ChainSection.model_validate(template("m")["fix"])
    assert [step.name for step in section.steps] == [step.name for step in STEPS]
    assert len(alone_s(ENGINE)) == len(STEPS)
    assert requests_per_chain(ENGINE) > 1


def _run(way: str, repeat: int, on_time: Sequence[bool]) -> Run:
    rows = [
        RequestRecord(
            f"{n}", "chat", "m", 0, 0, -1, SECOND, 5, Fate.DONE, good, 200, "", f"c{n}", 1, 1
        )
        for n, good in enumerate(on_time)
    ]
    result = RunResult.of(way, repeat, rows, SECOND)
    return Run(way, repeat, result, RunResult.of(way, repeat, [], SECOND), 0.25)


def test_the_page_tells_what_telling_of_chains_changes() -> None:
    runs = [
        *(_run(BY_ITSELF, repeat, [True, False]) for repeat in range(2)),
        *(_run(SPLIT, repeat, [True, True, True, False]) for repeat in range(2)),
        *(_run(CHAINED, repeat, [True, True]) for repeat in range(2)),
    ]
    facts = Facts("the command", "m", WHAT, [1, 2, 3], 2.0, 9.9, 1.1, 2, 12.0, separate_cores=True)
    text = page(facts, runs)
    assert "| whole chains on time, % | 50.0 ± 0.0 | 75.0 ± 0.0 | 100.0 ± 0.0 |" in text
    assert f"against *{BY_ITSELF}*: 50.0 ± 0.0 points" in text
    assert f"against *{SPLIT}*: 25.0 ± 0.0 points" in text
    assert "at most 25% of the machine" in text
    assert "6.00 s, 3.0 times" in text


@pytest.mark.slow
def test_a_small_run_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def calibrated(*_: object) -> dict[str, object]:
        return {}

    # A calibration needs a machine for itself; how fast the engine is does not matter here.
    monkeypatch.setattr(command, "calibrated", calibrated)
    monkeypatch.setattr(command, "twin_engine", lambda _: ENGINE)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        text = asyncio.run(report(QUICK, tmp_path, "quick"))
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)
    assert "| people's own requests on time, %" in text
