"""`slalom explain` as a command; the story itself is tested in test_explain."""

import json
from pathlib import Path

from typer.testing import CliRunner

from slalom.cli import app
from slalom.core.events import AttemptFinished, FirstToken, ReplicaReady
from tests.cli.test_explain import Recorder, ask, epoch

RUNNER = CliRunner()


def record(directory: Path) -> None:
    recorder = Recorder(directory)
    recorder.step(0, ask("req-late", 0, ttft=500, e2e=3000))
    recorder.step(900, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(1000, FirstToken("req-late", 1))
    recorder.step(1400, AttemptFinished("req-late", 1, 9))
    recorder.step(1500, ask("req-open", 1500))
    recorder.writer.close()


def test_the_story_is_printed(tmp_path: Path) -> None:
    record(tmp_path)
    result = RUNNER.invoke(app, ["explain", "latest", "--journal", str(tmp_path)])
    assert result.exit_code == 0
    text = result.stdout
    assert text.startswith("Request req-late\nchat on small, arrived 20")
    for line in (
        "small#0 begins to load",
        "It waited 900.0 ms for small to be loaded.",
        "missed by 500.0 ms",
        "held, 1.60 s to spare",
    ):
        assert line in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_json_has_the_same_in_numbers(tmp_path: Path) -> None:
    record(tmp_path)
    result = RUNNER.invoke(app, ["explain", "req-late", "--json", "--journal", str(tmp_path)])
    document = json.loads(result.stdout)
    assert document["waited_ns"] == {"loading": 900_000_000, "places": 0, "paused": 0}
    assert [target["held"] for target in document["targets"]] == [False, True]
    assert document["end"]["outcome"] == "done"


def test_a_request_that_runs_is_told_so_far(tmp_path: Path) -> None:
    record(tmp_path)
    result = RUNNER.invoke(app, ["explain", "req-open", "--journal", str(tmp_path)])
    assert "It has not ended yet" in result.stdout
    assert "It did not wait." in result.stdout


def test_what_cannot_be_explained_is_told(tmp_path: Path) -> None:
    record(tmp_path / "j")
    unknown = RUNNER.invoke(app, ["explain", "req-lat3", "--journal", str(tmp_path / "j")])
    assert unknown.exit_code == 1
    assert "nearest: req-late" in unknown.stderr
    Path("slalom.yaml").write_text("journal: {dir: none}", encoding="utf-8")
    off = RUNNER.invoke(app, ["explain", "latest"])
    assert off.exit_code == 1
    assert "journal.dir is none" in off.stderr
