"""The live comparison: its loads, its arithmetic, its page, and one small run of the whole."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.bench.live_tables import paired
from slalom.bench.sla_live import setting
from slalom.bench.sla_live.__main__ import report
from slalom.bench.sla_live.compare import Run, with_forecasts
from slalom.bench.sla_live.forecast import forecast
from slalom.bench.sla_live.keystrokes import Spent, Typing, device_s, spent
from slalom.bench.sla_live.loads import MIX, mixed, tasks_for, typed
from slalom.bench.sla_live.machine import Watch
from slalom.bench.sla_live.page import Facts, page, ranking, same_order
from slalom.bench.sla_live.setting import (
    BY_LITELLM,
    DIRECT,
    FCFS,
    OURS,
    QUICK,
    SABER,
    configuration,
    engine_target,
    litellm_target,
    state_in,
)
from slalom.config.footprint import model_specs
from slalom.config.params import policies as built_policies
from slalom.config.params import scheduler_params
from slalom.config.schema import Config
from slalom.core.actions import Dispatch
from slalom.core.events import AttemptFailed, AttemptFinished, FailureKind, RequestArrived
from slalom.core.journal import Entry
from slalom.core.request import DeviceSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.journal.codec import header_for
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import GIB, MS, SECOND, US

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


def test_targets_hold_alone_and_every_task_has_one() -> None:
    tasks = tasks_for(ENGINE)
    for row in MIX:
        task = tasks[row.task]
        alone_ms = ENGINE.alone_ns(sum(row.prompt) // 2, sum(row.output) // 2) / MS
        first_ms = ENGINE.alone_ns(sum(row.prompt) // 2, 1) / MS
        assert task.ttft_ms is not None or task.e2e_ms is not None
        assert task.e2e_ms is None or task.e2e_ms > 2 * alone_ms
        assert task.ttft_ms is None or task.ttft_ms > 2 * first_ms


def test_loads_have_names_of_their_own_and_typists_never_cancel() -> None:
    tasks = tasks_for(ENGINE)
    items = mixed("m", tasks, 50.0, 4.0, seed=1, name="knee-0")
    assert {item.task for item in items} == {row.task for row in MIX}
    assert all(item.id.startswith("knee-0-") for item in items)
    keys = typed("m", ENGINE, 50.0, 4.0, seed=1, name="typist-0")
    assert all(item.give_up_after_ns < 0 and item.supersedes for item in keys)
    stale = sum(item.stale_after_ns >= 0 for item in keys)
    assert 0.4 < stale / len(keys) < 0.8


def test_every_way_has_the_same_engine(tmp_path: Path) -> None:
    command = engine_target("slalom-mini").command
    assert "--port ${PORT}" in command
    section = Config.model_validate(configuration("slalom-mini")).models[0].engine
    for name in ("context_tokens", "places", "threads", "micro_batch_tokens", "batch_tokens"):
        assert f'"{name}": {getattr(section, name)}' in command
    assert '"kv_unified": false' in command
    proxy = litellm_target("slalom-mini", "http://127.0.0.1:1", tmp_path).command
    assert "--port ${PORT}" in proxy
    assert "http://127.0.0.1:1/v1" in (tmp_path / "litellm.yaml").read_text("utf-8")


@pytest.mark.parametrize("before", ["elsewhere", None])
def test_what_is_learned_stays_in_the_folder(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if before is not None:
        monkeypatch.setenv("XDG_STATE_HOME", before)
    with state_in(tmp_path):
        assert os.environ["XDG_STATE_HOME"] == str(tmp_path)
    assert os.environ.get("XDG_STATE_HOME") == before


def _arrival(name: str, at_ns: int) -> RequestArrived:
    return RequestArrived(Request(name, "m", "completion", Sla(), at_ns, 10, 10, 10))


def test_device_time_is_shared_by_those_that_run() -> None:
    a, b = "typist-0-1.0", "typist-0-1.1"
    entries = [
        Entry(SECOND, (_arrival(a, SECOND),), (Dispatch(a, 0, "m/0", 0),)),
        Entry(2 * SECOND, (_arrival(b, 2 * SECOND),), (Dispatch(b, 0, "m/0", 0),)),
        Entry(4 * SECOND, (AttemptFailed(a, 0, FailureKind.ABORTED, delivered=True),), ()),
        Entry(5 * SECOND, (AttemptFinished(b, 0, 7),), ()),
        Entry(9 * SECOND, (), ()),
    ]
    book = device_s(entries, {a: 2 * SECOND})
    assert book == {a: (2.0, 0.5), b: (2.0, 0.0)}
    assert spent(book, 0, {a, "never-started"}) == Spent(all_s=4.0, stale_s=2.0, after_s=0.5)
    assert spent(book, 1, {a}) == Spent(0.0, 0.0, 0.0)


_BURNS = "import time\nwhile time.process_time() < 0.3: pass"
_STARTS_ONE = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {_BURNS!r}], check=True)
print("ended", flush=True)
sys.stdin.read()
"""


def test_a_program_that_came_and_went_is_ours() -> None:
    watch = Watch()
    with subprocess.Popen(
        [sys.executable, "-c", _STARTS_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ended\n"
        assert watch.ours_s() >= 0.3
        assert 0 <= watch.share() <= 1
        server.communicate(timeout=10)


def _records(good: int, e2e_ms: float = 100.0) -> list[RequestRecord]:
    end_ns = round(e2e_ms * MS)
    return [
        RequestRecord(
            f"r{n}", "completion", "m", 0, 0, end_ns // 2, end_ns, 10, Fate.DONE, good=n < good
        )
        for n in range(10)
    ]


def _run(way: str, repeat: int, good: int, load: str = "light") -> Run:
    records = _records(good)
    return Run(way, load, repeat, RunResult.of(way, repeat, records, SECOND), tuple(records))


def test_ratios_are_of_pairs_and_have_an_interval() -> None:
    runs = [_run(DIRECT, 0, 4), _run(DIRECT, 1, 5), _run(OURS, 0, 8), _run(OURS, 1, 10)]
    ratio = paired(runs, OURS, DIRECT, "goodput_per_s", ratio=True)
    assert ratio is not None
    assert (ratio.mean, ratio.margin) == (2.0, 0.0)
    points = paired(runs, OURS, DIRECT, "attainment")
    assert points is not None
    assert points.mean == pytest.approx(0.45)
    assert paired(runs, SABER, DIRECT, "attainment") is None
    nothing = [_run(DIRECT, 0, 0), _run(OURS, 0, 8)]
    assert paired(nothing, OURS, DIRECT, "goodput_per_s", ratio=True) is None
    assert ranking(runs, lambda run: run.result.total.attainment) == [(OURS, 0.9), (DIRECT, 0.45)]


@pytest.mark.parametrize(
    ("told", "same"),
    [({"a": 0.8, "b": 0.5}, True), ({"a": 0.5, "b": 0.8}, False), ({"b": 0.8}, True)],
)
def test_another_order_is_one_that_clearly_differs(told: dict[str, float], same: bool) -> None:
    assert same_order({"a": 0.9, "b": 0.6}, told) is same
    assert same_order({"a": 0.62, "b": 0.6}, told) is True


def _facts(left_out: str = "") -> Facts:
    calibration = {"key": {"device": "a machine", "engine": "an engine"}}
    return Facts(
        *("the command", "a model", calibration, tasks_for(ENGINE)),
        saturated_per_s=10.0,
        seconds=1.0,
        repeats=2,
        separate_cores=True,
        left_out=left_out,
    )


def _typists() -> list[Typing]:
    def one(way: str, repeat: int, after_s: float) -> Typing:
        result = RunResult.of(way, repeat, _records(8), SECOND)
        return Typing(way, repeat, result, 6, 10, 3.0, Spent(4.0, 3.0, after_s))

    off, on = setting.SUPERSESSION
    return [one(off, 0, 2.0), one(off, 1, 2.0), one(on, 0, 0.5), one(on, 1, 0.5)]


def _all_runs(worse: int = 9) -> Sequence[Run]:
    goods = {DIRECT: 9, BY_LITELLM: 8, FCFS: 9, SABER: 9, OURS: worse}
    return [_run(way, repeat, good) for repeat in range(2) for way, good in goods.items()]


def test_the_page_compares_with_the_engine_directly_and_with_passing_through() -> None:
    runs = _all_runs()
    told = {(way, "light-0"): RunResult.of(way, 0, _records(9), SECOND) for way in (DIRECT, OURS)}
    text = page(_facts(), with_forecasts(runs, told), _typists())
    assert f"| {BY_LITELLM} | 8.00 ± 0.00 | 0.89 ± 0.00 | 80.0 ± 0.0% |" in text
    assert f"light, {OURS} beside {FCFS}: no clear difference" in text
    assert "By the twin the ranking is the same" in text
    assert "| supersession off | 20 | 12 | 4.00 ± 0.00 | 3.00 ± 0.00 | 2.00 ± 0.00 | 50% |" in text
    assert "| supersession on | 20 | 12 | 4.00 ± 0.00 | 3.00 ± 0.00 | 0.50 ± 0.00 | 12% |" in text
    assert "left out" not in text
    assert "measure again" not in text


def test_the_page_says_what_went_wrong() -> None:
    runs = [replace(run, disturbed=0.4) for run in _all_runs(worse=5)]
    text = page(_facts("it is not installed"), runs, _typists())
    assert f"light, {OURS} beside {FCFS}: worse (-40.0 ± 0.0 points" in text
    assert "LiteLLM is left out: it is not installed." in text
    assert "measure again" in text
    assert "The twin was not asked." in text


def test_the_twin_plays_the_load_under_the_servers_policies() -> None:
    items = mixed("slalom-mini", tasks_for(ENGINE), 60.0, 2.0, seed=3, name="overload-0")
    found = {}
    for name, section in setting.POLICIES.items():
        config = Config.model_validate(configuration("slalom-mini", section))
        scheduler = Scheduler(
            model_specs(config),
            (DeviceSpec("host", GIB),),
            built_policies(config.scheduler),
            scheduler_params(config.scheduler),
        )
        found[name] = forecast(header_for(scheduler), items, ENGINE, 2.0)
    assert all(result.total.injected == len(items) for result in found.values())
    assert len({result.total.good for result in found.values()}) > 1
    assert forecast(header_for(scheduler), [], ENGINE, 2.0).total.injected == 0


@pytest.mark.slow
def test_a_small_run_of_the_whole(tmp_path: Path) -> None:
    sizes = replace(QUICK, seconds=0.5)
    text = asyncio.run(report(sizes, tmp_path, "the command"))
    for way in (DIRECT, FCFS, SABER, OURS):
        assert f"| {way} | " in text
    assert "| supersession on | " in text
    assert "By the twin the ranking" in text
