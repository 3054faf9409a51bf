"""The live comparison of residency policies: its load, its arithmetic, its page, one small run."""

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.bench.residency_live.__main__ import report
from slalom.bench.residency_live.compare import Known, Run, counted, load_times, moves
from slalom.bench.residency_live.engines import ANSWER, LONG, SHORT, Times, engine_of
from slalom.bench.residency_live.forecast import Told, forecasts
from slalom.bench.residency_live.load import COMPLETION, GENERATION, ROWS, Load, drawn
from slalom.bench.residency_live.memory import Peak, resident_bytes
from slalom.bench.residency_live.page import Facts, overruns, page, same_order
from slalom.bench.residency_live.setting import (
    FULL,
    POLICIES,
    QUICK,
    Setting,
    configuration,
    prepared,
)
from slalom.bench.scenario_requests import TokenSize
from slalom.config.params import policies as built_policies
from slalom.config.params import scheduler_params
from slalom.config.schema import Config
from slalom.core.actions import LoadReplica, UnloadCause, UnloadReplica
from slalom.core.events import ReplicaReady
from slalom.core.journal import Entry
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.journal.codec import Header, header_for
from slalom.metrics.records import Fate, RequestRecord
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import MIB, MS, SECOND, US

ENGINE = LlamaCppEngine(
    StepProfile("x", dense_flat_ns=MS, dense_ns_per_token=50 * US, decode_seq_ns=MS, ingest_ns=MS),
    slots=2,
    prefix_caching=False,
)
NAMES = ("a", "b", "c", "d", "e", "f")
LOAD_NS = dict.fromkeys(NAMES, 400 * MS)
ENGINES = dict.fromkeys(NAMES, ENGINE)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    files = {}
    for number, name in enumerate(NAMES, 1):
        files[name] = tmp_path / f"{name}.gguf"
        files[name].write_bytes(b"x" * number * 1000)
    return Setting(files, dict.fromkeys(NAMES, 100 * MIB), 300 * MIB)


def _load(setting: Setting, seed: int = 1) -> Load:
    return drawn(setting, FULL, ENGINES, list(LOAD_NS.values()), seed=seed)


def test_the_load_asks_every_model_and_its_targets_suit_the_machine(setting: Setting) -> None:
    load = _load(setting)
    asked = {task: {item.model for item in load.items if item.task == task} for task in load.tasks}
    assert asked == {COMPLETION: {"a", "b", "c", "d"}, GENERATION: {"e", "f"}}
    limits = {task: spec.ttft_ms or 0.0 for task, spec in load.tasks.items()}
    cold_ms = 400
    assert 0 < limits[COMPLETION] < cold_ms < limits[GENERATION]
    assert load.rate_per_s == FULL.rate_max_per_s
    assert len(_load(setting, seed=2).items) != len(load.items)


def test_servers_differ_in_what_gives_way_alone(setting: Setting) -> None:
    load = _load(setting)
    documents = {name: configuration(setting, name, load.tasks) for name in POLICIES}
    sections = [document["scheduler"].pop("residency") for document in documents.values()]
    assert len({str(section) for section in sections}) == len(POLICIES)
    assert all(document == documents["lru"] for document in documents.values())


def test_what_is_prepared_needs_more_memory_than_there_is(tmp_path: Path) -> None:
    found = prepared(QUICK, tmp_path)
    assert len(found.files) == 2 + len(QUICK.parameters)
    assert max(found.needed.values()) <= found.budget_bytes < sum(found.needed.values())
    sizes = list(found.file_bytes.values())
    assert sizes == sorted(sizes)


def test_a_journal_says_what_came_and_went() -> None:
    entries = [
        Entry(0, (), (LoadReplica("a#0", 1, "a"), LoadReplica("b#0", 2, "b"))),
        Entry(3 * SECOND, (ReplicaReady("a#0", 1),), ()),
        Entry(4 * SECOND, (), (UnloadReplica("a#0", 1, UnloadCause.EVICTED),)),
        Entry(5 * SECOND, (), (UnloadReplica("b#0", 2, UnloadCause.FAILED),)),
        Entry(6 * SECOND, (), (LoadReplica("a#0", 3, "a"),)),
        Entry(7 * SECOND, (ReplicaReady("a#0", 3),), ()),
    ]
    assert load_times(entries) == {"a": [3 * SECOND, SECOND]}
    assert moves(entries, {"a": 2 * MIB, "b": MIB}) == {
        "loads": 3.0,
        "evictions": 1.0,
        "swapped_mib": 5.0,
        "cold_s": 4.0,
    }


def test_what_comes_before_the_warm_up_ends_does_not_count() -> None:
    def one(at_s: float, *, good: bool) -> RequestRecord:
        at_ns = round(at_s * SECOND)
        end_ns = at_ns + SECOND
        return RequestRecord(
            "r", COMPLETION, "a", at_ns, at_ns, end_ns, end_ns, 3, Fate.DONE, good=good
        )

    found = counted([one(0.5, good=False), one(2.0, good=True), one(3.0, good=False)], 1.0)
    assert found["requests"] == found["done"] == 2.0
    assert found["attainment"] == 0.5


def test_the_twins_engine_takes_the_times_that_were_seen() -> None:
    engine = engine_of("x", Times(150 * MS, 510 * MS, 350 * MS))
    assert engine.alone_ns(SHORT, 1) == pytest.approx(150 * MS, rel=0.02)
    assert engine.alone_ns(LONG, 1) == pytest.approx(510 * MS, rel=0.02)
    assert engine.alone_ns(SHORT, ANSWER) == pytest.approx(350 * MS, rel=0.02)


def test_memory_is_that_of_the_process() -> None:
    assert resident_bytes(os.getpid()) > MIB
    assert resident_bytes(1 << 30) == 0


def _header(setting: Setting, policy: str, load: Load) -> Header:
    config = Config.model_validate(configuration(setting, policy, load.tasks))
    specs = [ModelSpec(name, "host", 100 * MIB, 2, load_ns=400 * MS) for name in setting.files]
    devices = (DeviceSpec("host", setting.budget_bytes),)
    params = scheduler_params(config.scheduler)
    return header_for(Scheduler(specs, devices, built_policies(config.scheduler), params))


def _runs(setting: Setting, figures: Mapping[str, Mapping[str, float]]) -> list[Run]:
    load = _load(setting)
    return [
        Run(policy, repeat, own, Peak(290 * MIB, 3, 9), 0.01, _header(setting, policy, load), load)
        for repeat in range(2)
        for policy, own in figures.items()
    ]


def _figures(good: float, ttft_s: float, evictions: float) -> dict[str, float]:
    found = dict.fromkeys(
        ("ttft_p95_s", "e2e_s", "e2e_p95_s", "loads", "swapped_mib", "cold_s", "done", "requests"),
        8.0,
    )
    shares = {f"attainment.{row.task}": good for row in ROWS}
    return {**found, **shares, "attainment": good, "ttft_s": ttft_s, "evictions": evictions}


def _facts(setting: Setting) -> Facts:
    return Facts(
        command="the command",
        machine="a machine",
        setting=setting,
        known=Known(LOAD_NS, ENGINES, TokenSize(), Path("models.sqlite")),
        load=_load(setting),
        seconds=48.0,
        warm_s=6.0,
        repeats=2,
        separate_cores=True,
        took_s=60.0,
    )


def test_the_page_compares_with_lru_with_the_budget_and_with_the_twin(setting: Setting) -> None:
    runs = _runs(setting, {"lru": _figures(0.6, 1.0, 20.0), "penalty": _figures(0.8, 0.5, 5.0)})
    told = [Told(run.policy, run.repeat, run.figures) for run in runs]
    text = page(_facts(setting), runs, told)
    assert "| penalty | 80.0 ± 0.0% |" in text
    assert "| -50% | +0% | -75% |" in text
    assert "| penalty | 290 | 96.7% | 3 |" in text
    assert "Never above the budget by more than 5%." in text
    assert "- live: penalty 80%, lru 60%" in text
    assert "- the twin: penalty 0.50 s, lru 1.00 s" in text
    assert text.count("The order is the same") == 2
    assert "measure again" not in text


def test_the_page_says_what_went_wrong(setting: Setting) -> None:
    runs = [
        replace(run, peak=Peak(330 * MIB, 3, 9), disturbed=0.4)
        for run in _runs(setting, {"lru": _figures(0.6, 1.0, 9), "penalty": _figures(0.9, 0.5, 9)})
    ]
    turned = {"lru": _figures(0.9, 0.5, 9), "penalty": _figures(0.6, 1.0, 9)}
    told = [Told(run.policy, run.repeat, turned[run.policy]) for run in runs]
    text = page(_facts(setting), runs, told)
    assert overruns(runs, setting.budget_bytes) == runs
    assert "**Above by more than 5% in 4 of 4 runs.**" in text
    assert text.count("The order is **another**") == 2
    assert "measure again" in text


def test_what_is_hardly_apart_is_a_tie() -> None:
    assert same_order({"a": 0.60, "b": 0.63}, {"a": 0.9, "b": 0.1}, 0.05)
    assert not same_order({"a": 0.60, "b": 0.66}, {"a": 0.9, "b": 0.1}, 0.05)


def test_the_twin_plays_the_load_under_the_servers_policies(setting: Setting) -> None:
    figures = {name: _figures(0.5, 1.0, 1.0) for name in ("lru", "penalty")}
    runs = [run for run in _runs(setting, figures) if not run.repeat]
    known = Known(LOAD_NS, ENGINES, TokenSize(), Path("models.sqlite"))
    told = forecasts(runs, setting, FULL, known)
    lru, penalty = (one.figures for one in told)
    assert lru["requests"] == penalty["requests"] > 50
    assert lru["evictions"] > penalty["evictions"] > 0
    assert lru["cold_s"] == pytest.approx(lru["loads"] * 0.4, rel=0.05)


@pytest.mark.slow
def test_a_small_run_of_the_whole(tmp_path: Path) -> None:
    sizes = dataclasses.replace(QUICK, seconds=1.0)
    found = asyncio.run(report(sizes, tmp_path, "the command"))
    for policy in QUICK.policies:
        assert f"| {policy} | " in found.page
    assert {run.policy for run in found.runs} == set(QUICK.policies)
    assert all(run.peak.engines >= 1 for run in found.runs)
    assert not overruns(found.runs, found.setting.budget_bytes)
    assert all(run.figures["loads"] >= 1 for run in found.runs)
