"""The demo's parts without a server: the knee, the fleet, counting, the table, its folder."""

import asyncio
import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from slalom.bench import demo
from slalom.bench.demo_calibration import Calibration, knee
from slalom.bench.demo_display import Display
from slalom.bench.demo_report import WIDTH, print_report
from slalom.bench.demo_result import DemoResult, Run, as_document
from slalom.bench.demo_server import Residency
from slalom.bench.demo_setting import (
    MIX,
    PASS_THROUGH,
    QUICK,
    SLALOM,
    SUMMARISER,
    TASKS,
    TRANSLATOR,
    make_fleet,
)
from slalom.bench.load_client import Progress
from slalom.config.schema import Config
from slalom.errors import ConfigError
from slalom.metrics.records import Fate, RequestRecord
from slalom.units import MS, SECOND
from slalom.workload.mix import MixEntry


def test_the_knee_is_where_the_first_thing_saturates() -> None:
    mix = (MixEntry("completion", "a", 9, (1, 1)), MixEntry("translation", "b", 1, (1, 1)))
    # b can do 1/s and gets a tenth: busy for 80 % of its time at 8/s.
    assert knee({"a": 1000.0, "b": 1.0}, mix, ()) == pytest.approx(8.0)
    # Both engines together: 0.09 + 0.01 s of work a request on 1.5 engines' worth.
    assert knee({"a": 10.0, "b": 10.0}, mix, ()) == pytest.approx(0.8 / 0.09)
    # Swapped with each other they share one engine's time.
    assert knee({"a": 10.0, "b": 10.0}, mix, ("a", "b")) == pytest.approx(8.0)


def test_the_models_exceed_a_budget_that_holds_either_large_one(tmp_path: Path) -> None:
    made: list[str] = []
    fleet = make_fleet(QUICK, tmp_path, lambda name, done, total: made.append(name))
    assert set(made) == {SUMMARISER, TRANSLATOR}
    sizes = {spec.id: spec.bytes_needed for spec in fleet.specs}
    assert len(sizes) >= 3
    assert fleet.needed_bytes > fleet.budget_bytes
    for large in (SUMMARISER, TRANSLATOR):
        other = {SUMMARISER, TRANSLATOR} - {large}
        assert sum(sizes[name] for name in sizes if name not in other) <= fleet.budget_bytes
    made.clear()
    assert make_fleet(QUICK, tmp_path, lambda name, done, total: made.append(name)) == fleet
    assert made == []
    # A damaged file is made anew.
    next(tmp_path.glob(f"{TRANSLATOR}*")).write_bytes(b"GGUF")
    make_fleet(QUICK, tmp_path, lambda name, done, total: made.append(name))
    assert set(made) == {TRANSLATOR}


def test_contenders_differ_in_policies_only(tmp_path: Path) -> None:
    fleet = make_fleet(QUICK, tmp_path, lambda name, done, total: None)
    plain, ours = (
        Config.model_validate(fleet.config(contender)) for contender in (PASS_THROUGH, SLALOM)
    )
    assert plain.models == ours.models
    assert plain.tasks == ours.tasks
    assert plain.devices[0].budget == ours.devices[0].budget
    assert (plain.scheduler.admission.kind, plain.scheduler.ordering.kind) == ("open", "fcfs")
    assert ours.scheduler == Config().scheduler, "what is shown is what serves by itself"
    assert plain.scheduler != ours.scheduler
    assert plain.devices == ours.devices
    served = {model.id for model in plain.models}
    assert {entry.model for entry in MIX} == served


def record(number: int, task: str, fate: Fate, *, good: bool = False) -> RequestRecord:
    return RequestRecord(
        request_id=f"demo-{number:04d}",
        task=task,
        model="m",
        scheduled_ns=number * SECOND,
        sent_ns=number * SECOND + MS,
        first_token_ns=number * SECOND + 150 * MS,
        ended_ns=number * SECOND + 12_345 * MS,
        output_tokens=20,
        fate=fate,
        good=good,
    )


@pytest.fixture
def result() -> DemoResult:
    plain = [record(i, task, Fate.DONE, good=i == 0) for i, task in enumerate(TASKS)]
    ours = [record(i, task, Fate.DONE, good=i < 3) for i, task in enumerate(TASKS)]
    ours[4] = record(4, TASKS[4], Fate.REFUSED)
    runs = [
        Run(PASS_THROUGH.name, 0, 0, plain, 10 * SECOND, Residency(4, 2)),
        Run("slalom", 0, 0, ours, 10 * SECOND, Residency(3, 1)),
    ]
    calibration = Calibration({"m": 3.0}, 2.5)
    return DemoResult({"machine": "2 cores"}, calibration, 3.0, runs, "/kept")


def report(result: DemoResult) -> str:
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, highlight=False)
    print_report(result, [PASS_THROUGH.name, "slalom"], TASKS, console)
    return out.getvalue()


def test_the_report_fits_and_holds_both(result: DemoResult) -> None:
    text = report(result)
    table = text[text.index("task") :].splitlines()
    assert "…" not in text
    # Lines that are to be copied are not broken.
    assert all(len(line) <= WIDTH for line in table if "explain" not in line)
    for task in TASKS:
        assert task in text
    (total,) = (line.split() for line in table if line.startswith("all"))
    assert total[1:3] == [PASS_THROUGH.name, "5"]
    assert total[7:] == ["20%", "0.10", "0", "0"]
    assert "pass-through: 4 loads, 2 evictions" in text
    assert "slalom gave 3.00 times as many answers on time" in text
    assert "slalom explain demo-0004 --journal /kept/slalom-0/journal" in text


def test_a_defeat_is_called_one(result: DemoResult) -> None:
    plain, ours = result.runs
    turned = [
        Run(PASS_THROUGH.name, 0, 0, ours.records, 10 * SECOND, plain.residency),
        Run("slalom", 0, 0, plain.records, 10 * SECOND, ours.residency),
    ]
    text = report(DemoResult(result.setting, None, 3.0, turned, "/kept"))
    assert "slalom gave only 0.33 times as many" in text


def test_the_document_holds_the_same(result: DemoResult) -> None:
    document = json.loads(json.dumps(as_document(result, [PASS_THROUGH.name, "slalom"], TASKS)))
    ours = document["contenders"]["slalom"]
    assert ours["total"]["good"] == 3
    assert ours["total"]["refused"] == 1
    assert (ours["loads"], ours["evictions"]) == (3, 1)
    assert set(ours["tasks"]) == set(TASKS)
    assert document["calibration"]["knee_per_s"] == 2.5
    assert document["order"] == [PASS_THROUGH.name, "slalom"]
    assert document["send_lag_ms"]["p50"] == 1.0


async def test_progress_is_told_in_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    progress = Progress(total=4, sent=3, good=1)
    progress.ended[Fate.REFUSED] = 2
    async with Display(Console(file=out, width=120)).watching("slalom", progress):
        pass
    assert "sent 3/4  running 1  on time 1  refused 2  failed 0" in out.getvalue()


async def test_progress_is_live_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, highlight=False)
    progress = Progress(total=2, sent=1)
    async with asyncio.timeout(20), Display(console).watching("slalom", progress):
        while "sent 1/2" not in out.getvalue():  # noqa: ASYNC110 - a display tells no event
            await asyncio.sleep(0)
        progress.sent = 2
    assert "sent 2/2" in out.getvalue()


def test_a_kept_folder_must_be_new(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="not empty"):
        demo._folder(tmp_path)
    assert demo._folder(tmp_path / "new") == tmp_path / "new"


def test_the_next_demo_replaces_the_last_ones_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mine = demo._folder(None)
    assert mine.name == str(os.getpid())
    mine.mkdir(parents=True)
    # No process has this number.
    old = mine.with_name("999999999")
    old.mkdir()
    assert demo._folder(None) == mine
    assert mine.is_dir()
    assert not old.exists()


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"rate": 0.0}, {"requests": 0}])
def test_senseless_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="positive"):
        demo.run(**wrong)  # type: ignore[arg-type]
