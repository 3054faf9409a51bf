"""`slalom serve` as a program: ready, used, drained, refused; and servers started for a call."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.cli import app
from slalom.cli.server_client import ServerClient
from slalom.cli.serving import how_to_use
from slalom.cli.spare_server import configured_url
from slalom.config import Config
from slalom.config.sections import ServerSection

RUNNER = CliRunner()


@contextmanager
def serving(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "slalom", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_says_where_it_listens_and_drains_on_a_signal() -> None:
    with serving("--json", "--journal", "journal") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        assert ready["models"] == ["slalom-mini", "slalom-small"]
        cards = ServerClient(ready["url"]).models()
        assert [card["id"] for card in cards] == ready["models"]
        assert cards[0]["slalom"]["state"] == "cold"
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == ""
        for line in log.splitlines():
            assert "level" in json.loads(line)
    assert list(Path("journal").iterdir())


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = RUNNER.invoke(app, ["serve", "--port", str(port), "--journal", "journal"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_off_loopback_it_wants_keys() -> None:
    result = RUNNER.invoke(app, ["serve", "--host", "0.0.0.0", "--port", "0"])
    assert result.exit_code == 1
    assert "--insecure" in result.stderr


def test_flags_reach_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def fake(config: Config, **_: object) -> int:
        seen.append(config)
        return 0

    monkeypatch.setattr("slalom.assembly.serving.serve", fake)
    arguments = ["serve", "--port", "1", "--insecure", "--budget", "2GiB", "--ordering", "fcfs"]
    arguments += ["--admission", "drop-late", "--journal", "j", "--log-level", "debug", "--json"]
    assert RUNNER.invoke(app, arguments).exit_code == 0
    config = seen[0]
    assert (config.server.port, config.server.insecure) == (1, True)
    assert config.devices[0].budget == 2 << 30
    assert config.scheduler.ordering.kind == "fcfs"
    assert config.scheduler.admission.kind == "drop-late"
    assert config.journal.dir == str(Path("j").absolute())
    assert (config.log.level, config.log.format) == ("debug", "json")
    wrong = RUNNER.invoke(app, ["serve", "--ordering", "fcsf"])
    assert wrong.exit_code == 1
    assert "--ordering: scheduler.ordering: there is no kind 'fcsf'" in wrong.stderr


def test_newcomers_are_told_how_to_use_it() -> None:
    url = "http://127.0.0.1:12345"
    text = how_to_use(url, ["slalom-mini", "slalom-small"])
    for word in (f"curl {url}/v1/completions", f'base_url="{url}/v1"', f'apiBase: "{url}/v1"'):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
    assert "no model is configured" in how_to_use("http://127.0.0.1:1", [])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5"),
        ("0.0.0.0", "http://127.0.0.1:5"),
        ("::", "http://[::1]:5"),
        ("box", "http://box:5"),
    ],
)
def test_the_address_of_the_configured_server(host: str, url: str) -> None:
    assert configured_url(Config(server=ServerSection(host=host, port=5))) == url


@pytest.mark.live
def test_without_a_server_one_is_started_for_the_call(tmp_path: Path) -> None:
    Path("idle.yaml").write_text("server: {port: 9}\n", encoding="utf-8")
    Path("a.py").write_text("import os\n\ndef size(path):\n    return os.\n", encoding="utf-8")
    arguments = ["complete", "a.py:4", "--max-tokens", "8", "--json", "-c", "idle.yaml"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["usage"]["completion_tokens"] <= 8
    assert document["task"] == "completion"
    story = RUNNER.invoke(app, ["explain", "latest", "-c", "idle.yaml"])
    assert story.exit_code == 0, story.stderr
    assert f"Request {document['request_id']}" in story.stdout
    assert "begins to load" in story.stdout
    told = json.loads(RUNNER.invoke(app, ["explain", "latest", "--json"]).stdout)
    assert told["end"]["outcome"] == "done"


def test_a_server_that_cannot_start_for_the_call_says_why() -> None:
    Path("bad.yaml").write_text(
        "server: {port: 9}\nmodels: [{id: m, engine: {kind: llama-cpp, source: none.gguf}}]\n",
        encoding="utf-8",
    )
    result = RUNNER.invoke(app, ["chat", "x", "-c", "bad.yaml"])
    assert result.exit_code == 1
    assert "could not be started" in result.stderr
    assert "none.gguf" in result.stderr
