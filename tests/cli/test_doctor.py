"""`slalom doctor`: what it finds, what it advises, when it fails."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from slalom.cli import app, machine_checks
from slalom.cli.checks import Finding, run_checks
from tests.cli.stub_server import StubServer

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the import of the engine, which takes a second of a process."""
    done = ("llama.cpp", "ok", "not imported in tests", "")
    monkeypatch.setattr(machine_checks, "_engine", lambda: done)


def found(text: str) -> dict[str, Finding]:
    Path("slalom.yaml").write_text(text, encoding="utf-8")
    return {finding.name: finding for finding in run_checks(None)}


def status(text: str, name: str) -> str:
    return found(text)[name].status


IDLE = "server: {port: 0}\n"


def test_a_good_machine_passes() -> None:
    Path("slalom.yaml").write_text(IDLE, encoding="utf-8")
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    for name in ("python", "cores", "memory", "llama.cpp", "configuration", "keys", "port"):
        assert name in result.stdout
    assert "FAIL" not in result.stdout
    document: dict[str, Any] = json.loads(RUNNER.invoke(app, ["doctor", "--json"]).stdout)
    assert document["ok"] is True
    assert {"name", "status", "found", "advice"} == set(document["checks"][0])


def test_a_wrong_configuration_fails_with_its_place() -> None:
    Path("slalom.yaml").write_text("server: {prot: 1}", encoding="utf-8")
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "did you mean 'port'" in result.stdout
    assert RUNNER.invoke(app, ["doctor", "--json"]).exit_code == 1


def test_ports(stub: StubServer) -> None:
    assert "is running there" in found(f"server: {{port: {stub.port}}}")["port"].found
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen()
        port = silent.getsockname()[1]
        assert machine_checks.bind_problem("127.0.0.1", port)
    assert machine_checks.bind_problem("127.0.0.1", 0) is None
    stub.cards = [{"id": "someone-elses"}]
    taken = found(f"server: {{port: {stub.port}}}")["port"]
    assert taken.status == "fail"
    assert "--port" in taken.advice


def test_exposure_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    off = "server: {port: 0, host: 0.0.0.0}\n"
    assert status(off, "keys") == "fail"
    assert status("server: {port: 0, host: 0.0.0.0, insecure: true}\n", "keys") == "warn"
    monkeypatch.setenv("K_THERE", "secret")
    assert status(off + "keys: [{name: a, key_env: K_THERE}]", "keys") == "ok"
    broken = list(run_with(off + "keys: [{name: a, key_env: K_NOT_THERE}]"))
    assert any(f.status == "fail" and "K_NOT_THERE" in f.found for f in broken)


def run_with(text: str) -> list[Finding]:
    Path("slalom.yaml").write_text(text, encoding="utf-8")
    return list(run_checks(None))


def test_the_journals_folder(tmp_path: Path) -> None:
    assert status(f"{IDLE}journal: {{dir: none}}", "journal") == "warn"
    assert status(f"{IDLE}journal: {{dir: deep/er}}", "journal") == "ok"
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert status(f"{IDLE}journal: {{dir: file/x}}", "journal") == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert status(f"{IDLE}journal: {{dir: locked/x}}", "journal") == "fail"


def test_models_that_are_not_there_or_do_not_fit() -> None:
    models = f"""{IDLE}
devices: [{{budget: 1GiB}}]
models:
- {{id: absent, engine: {{kind: llama-cpp, source: none.gguf}}}}
- {{id: not-pulled, engine: {{kind: llama-cpp, source: "hf:nobody/nothing-here"}}}}
- {{id: huge, memory: 2GiB, engine: {{kind: llama-cpp, source: "bundled:slalom-mini"}}}}
- {{id: no-program, memory: 1MiB, engine: {{kind: command, cmd: no-such-program-here}}}}
- {{id: no-size, engine: {{kind: command, cmd: sh}}}}
- {{id: no-key, engine: {{kind: remote, base_url: "http://x.org", api_key_env: K_NOT_THERE}}}}
- {{id: fine, engine: {{kind: llama-cpp, source: "bundled:slalom-mini"}}}}
"""
    findings = found(models)
    wrong = {name for name, finding in findings.items() if finding.status == "fail"}
    names = ("absent", "not-pulled", "huge", "no-program", "no-size", "no-key")
    assert wrong == {f"model {name}" for name in names}
    assert "slalom models pull" in findings["model not-pulled"].advice
    assert "take turns" in findings["memory host"].found
    assert findings["model fine"].status == "ok"


def test_budgets() -> None:
    pinned = (
        f"{IDLE}devices: [{{budget: 1GiB}}]\nmodels:\n"
        "- {id: a, pinned: true, memory: 600MiB, engine: {kind: command, cmd: sh}}\n"
        "- {id: b, pinned: true, memory: 600MiB, engine: {kind: command, cmd: sh}}\n"
    )
    assert status(pinned, "memory host") == "fail"
    assert status(f"{IDLE}devices: [{{id: host}}, {{id: gpu0}}]", "memory budget") == "fail"
    assert status(f"{IDLE}models: []", "configuration") == "warn"


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "open_files_max", lambda: 100)
    warning = found(IDLE)["open files"]
    assert warning.status == "warn"
    assert "ulimit -n" in warning.advice


def test_machines_that_are_too_small_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "available_bytes", lambda: 1 << 20)
    monkeypatch.setattr(machine_checks, "_PYTHON_MIN", (9, 0))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    results = {name: state for name, state, _, _ in machine_checks.run()}
    assert results["memory"] == "warn"
    assert results["python"] == "fail"
    assert results["cores"] == "warn"


def test_engines_whose_server_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["python", "-m", machine_checks._ENGINE_MODULE]
    gone = SimpleNamespace(info={"pid": 77, "ppid": 1, "cmdline": command})
    monkeypatch.setattr("psutil.process_iter", lambda _: [gone])
    name, state, text, advice = machine_checks._strays()
    assert (name, state, advice) == ("processes", "warn", "kill 77")
    assert "77" in text
