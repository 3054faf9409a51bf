"""`slalom config`: what it prints and when it fails."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from slalom.cli import app
from slalom.config import Config
from slalom.config.example import example

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def run(*arguments: str, code: int = 0, **environ: str) -> str:
    result = RUNNER.invoke(app, ["config", *arguments], env=environ)
    assert result.exit_code == code, result.output
    return result.stdout


def test_show_prints_what_holds(tmp_path: Path) -> None:
    (tmp_path / "slalom.yaml").write_text(
        "server: {port: 1}\nkeys: [{name: a, key: hunter2}]", encoding="utf-8"
    )
    document: dict[str, Any] = yaml.safe_load(run("show"))
    assert document["server"]["port"] == 1
    assert document["keys"][0]["key"] == "***"
    assert json.loads(run("show", "--json")) == document


def test_show_tells_origins(tmp_path: Path) -> None:
    (tmp_path / "slalom.yaml").write_text("server:\n  port: 1\n", encoding="utf-8")
    table = run("show", "--origins", SLALOM__LOG__LEVEL="debug").splitlines()
    assert table[0].split() == ["setting", "origin", "value"]
    rows = {line.split()[0]: line.split()[1:] for line in table[1:]}
    assert rows["server.port"] == ["slalom.yaml:2", "1"]
    assert rows["log.level"] == ["SLALOM__LOG__LEVEL", "debug"]
    assert rows["server.host"] == ["default", "127.0.0.1"]
    document = json.loads(run("show", "--origins", "--json"))
    assert document["server.port"] == {"value": 1, "origin": "slalom.yaml:2"}


def test_check_says_ok_or_where_it_is_wrong(tmp_path: Path) -> None:
    assert "no configuration file" in run("check")
    file = tmp_path / "other.yaml"
    file.write_text("server: {port: 1}", encoding="utf-8")
    assert f"ok: {file}" in run("check", "-c", str(file))
    assert f"ok: {file}" in run("check", SLALOM_CONFIG=str(file))
    file.write_text("server: {prot: 1}", encoding="utf-8")
    run("check", "-c", str(file), code=1)
    wrong = json.loads(run("check", "-c", str(file), "--json", code=1))
    assert wrong["ok"] is False
    assert "did you mean 'port'" in wrong["error"]


def test_schema_is_a_json_schema() -> None:
    schema = json.loads(run("schema"))
    assert set(schema["properties"]) == set(Config.model_fields)


def test_example_is_the_example_and_checks_out(tmp_path: Path) -> None:
    assert run("example") == example()
    (tmp_path / "slalom.yaml").write_text(run("example"), encoding="utf-8")
    assert "ok: slalom.yaml" in run("check")
