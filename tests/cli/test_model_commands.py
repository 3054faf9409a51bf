"""`slalom models`: tables from a server or the configuration, inspection, making files."""

import json
from pathlib import Path

import click
import pytest
from typer.testing import CliRunner

from slalom.assembly.model_costs import ModelCosts
from slalom.cli import app
from slalom.cli.model_commands import read_count
from slalom.config.load import load
from slalom.models.measurements import Measurement, Quantity, Tier
from slalom.models.sources import bundled
from tests.cli.stub_server import StubServer
from tests.models.folders import make_folder

RUNNER = CliRunner()


def run(*arguments: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["models", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def unused_port_config(tmp_path: Path) -> str:
    """A configuration whose port nobody listens on."""
    file = tmp_path / "idle.yaml"
    file.write_text("server: {port: 9}", encoding="utf-8")
    return str(file)


def test_ls_shows_the_state_of_a_running_server(stub: StubServer) -> None:
    header, row = run("ls", "--url", stub.url).splitlines()  # of another machine, perhaps
    assert header.split() == ["model", "state", "memory", "waiting", "running", "other", "names"]
    assert row.split("  ")[0] == "slalom-mini"
    assert "loading 42%" in row
    assert "5.0 MiB" in row
    assert "completion, chat" in row
    document = json.loads(run("ls", "--json", "--url", stub.url))
    assert document[0]["memory"] == 5 << 20


def test_ls_finds_the_configured_server(stub: StubServer, tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text(f"server: {{port: {stub.port}}}", encoding="utf-8")
    assert "loading" in run("ls", "-c", str(file))


def test_ls_falls_back_to_the_configuration(tmp_path: Path) -> None:
    table = run("ls", "-c", unused_port_config(tmp_path))
    assert "bundled:slalom-mini" in table
    rows = json.loads(run("ls", "--json", "-c", unused_port_config(tmp_path)))
    assert [row["model"] for row in rows] == ["slalom-mini", "slalom-small"]
    assert all(row["memory"] > 1 << 20 for row in rows)


def test_ls_shows_every_kind_of_engine_and_files_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(
        "server: {port: 9}\n"
        "models:\n"
        "- {id: a, engine: {kind: llama-cpp, source: none.gguf}}\n"
        "- {id: b, engine: {kind: command, cmd: [run, it]}, memory: 1GiB}\n"
        "- {id: c, engine: {kind: remote, base_url: 'http://x.org'}}\n",
        encoding="utf-8",
    )
    rows = {row["model"]: row for row in json.loads(run("ls", "--json", "-c", str(file)))}
    assert rows["a"]["memory"] is None
    assert rows["b"]["source"] == "run it"
    assert (rows["c"]["source"], rows["c"]["memory"]) == ("http://x.org", 0)
    assert "?" in run("ls", "-c", str(file))


def test_ls_shows_what_was_measured_here(stub: StubServer, tmp_path: Path) -> None:
    idle, served = unused_port_config(tmp_path), tmp_path / "here.yaml"
    served.write_text(f"server: {{port: {stub.port}}}", encoding="utf-8")
    (before,) = json.loads(run("ls", "--json", "-c", str(served)))
    assert before["memory"] == 5 << 20
    assert before["estimated"] > 1 << 20
    assert before["file"] == bundled()[0].metadata.file_bytes
    assert (before["measured"], before["load"], before["measured_figures"]) == (None, {}, [])
    costs = ModelCosts(load(Path(idle))[0])
    for quantity, tier, value in (
        (Quantity.LOAD, Tier.DISK, 1_230_000_000),
        (Quantity.FIRST_TOKEN, Tier.PAGE_CACHE, 4_500_000),
        (Quantity.MEMORY_FULL, Tier.RESIDENT, 77 << 20),
    ):
        costs.keep("slalom-mini", [Measurement(quantity, tier, value, 0.0)])
    (after,) = json.loads(run("ls", "--json", "-c", str(served)))
    assert (after["memory"], after["measured"]) == (5 << 20, 77 << 20)
    assert (after["load"], after["first token"]) == (
        {"disk": 1_230_000_000},
        {"page_cache": 4_500_000},
    )
    mini, small = json.loads(run("ls", "--json", "-c", idle))
    assert mini["memory"] == 77 << 20
    assert small["memory"] == small["estimated"]
    table = run("ls", "-c", idle)
    assert "disk 1.23 s" in table
    assert "1970-01-01T00:00:00Z" not in table.splitlines()[2]


def test_profile_measures_and_the_next_ls_shows_it(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "server: {port: 9}\n"
        "models:\n"
        "- {id: mini, aliases: [m], engine: {kind: llama-cpp, source: 'bundled:slalom-mini',"
        " context_tokens: 256, places: 1}}\n",
        encoding="utf-8",
    )
    arguments = ("profile", "m", "-c", str(file), "--repeats", "1")
    (row,) = json.loads(run(*arguments, "--json"))
    seen = {(one["quantity"], one["tier"]): one for one in row["measured"]}
    assert {("load", "page_cache"), ("first_token", "page_cache")} <= set(seen)
    assert seen["memory_full", "resident"]["high"] > 1 << 20
    (listed,) = json.loads(run("ls", "--json", "-c", str(file)))
    assert listed["memory"] == listed["measured"] < listed["estimated"]
    table = run(*arguments)
    assert seen["load", "page_cache"]["count"] == 1
    assert " 2" in next(line for line in table.splitlines() if "load" in line)
    (anew,) = json.loads(run(*arguments, "--json", "--forget"))
    assert all(one["count"] <= 1 for one in anew["measured"] if one["quantity"] == "load")


def test_profile_refuses_what_it_cannot_measure(tmp_path: Path) -> None:
    file = tmp_path / "far.yaml"
    file.write_text(
        "models: [{id: far, engine: {kind: remote, base_url: 'http://x.org'}}]", encoding="utf-8"
    )
    for name, said in (("far", "remote engine"), ("near", "configured are: far")):
        result = RUNNER.invoke(app, ["models", "profile", name, "-c", str(file)])
        assert result.exit_code == 1
        assert said in result.stderr


def test_inspect_shows_metadata_and_memory() -> None:
    text = run("inspect", "slalom-mini")
    for word in ("architecture", "parameters", "context", "KV cache", "fill-in-the-middle"):
        assert word in text
    small = json.loads(run("inspect", "bundled:slalom-mini", "--json"))
    large = json.loads(
        run("inspect", "bundled:slalom-mini", "--json", "--context", "32768", "--places", "8")
    )
    assert small["metadata"]["parameter_count"] == bundled()[0].metadata.parameter_count
    memory = small["memory_bytes"]
    assert memory["total"] == sum(memory[part] for part in ("weights", "kv", "compute", "runtime"))
    assert large["memory_bytes"]["kv"] == 8 * memory["kv"]


def test_inspect_takes_a_path_and_refuses_what_is_no_model(tmp_path: Path) -> None:
    path = str(bundled()[0].path)
    assert json.loads(run("inspect", path, "--json"))["path"] == path
    (tmp_path / "x.gguf").write_bytes(b"no model")
    run("inspect", "x.gguf", code=1)
    run("inspect", "absent.gguf", code=1)


def test_inspect_reads_a_folder_of_safetensors(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    document = json.loads(run("inspect", str(folder), "--json", "--context", "300"))
    assert document["metadata"]["parameter_count"] == 200
    memory = document["memory_bytes"]
    assert memory["total"] == memory["weights"] + memory["kv"] + memory["runtime"]
    assert "qwen2, 4 layers" in run("inspect", str(folder))


def test_inspect_cannot_look_into_a_remote_engine(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "models: [{id: far, engine: {kind: remote, base_url: 'http://x.org'}}]", encoding="utf-8"
    )
    result = RUNNER.invoke(app, ["models", "inspect", "far", "-c", str(file)])
    assert result.exit_code == 1
    assert "runs on a remote engine" in result.stderr


def test_synth_writes_a_model(tmp_path: Path) -> None:
    text = run("synth", "s.gguf", "-p", "4M", "-q", "q8_0", "--seed", "3")
    assert text.startswith("s.gguf: ")
    assert (tmp_path / "s.gguf").stat().st_size > 1 << 20
    found = json.loads(run("inspect", "s.gguf", "--json"))
    assert found["metadata"]["quantisation"].lower() == "q8_0"
    run("synth", "s.gguf", "-q", "q9", code=2)
    run("synth", "s.gguf", "-p", "many", code=2)
    run("synth", "no-such-folder/s.gguf", "-p", "4M", code=1)


def test_numbers_of_parameters() -> None:
    assert [read_count(text) for text in ("500M", "1.5B", "4000000", "12k")] == [
        500_000_000,
        1_500_000_000,
        4_000_000,
        12_000,
    ]
    for wrong in ("", "M", "-3M", "nan", "infB"):
        with pytest.raises((click.UsageError, Exception), match="100M"):
            read_count(wrong)


def test_pull_of_a_bundled_model_finds_it_here() -> None:
    document = json.loads(run("pull", "bundled:slalom-mini", "--json"))
    assert document["path"] == str(bundled()[0].path)
    run("pull", "bundled:nothing", code=1)
