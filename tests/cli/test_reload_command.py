"""`slalom reload`: what is sent to the server, and how its word is told."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from slalom.cli import app
from tests.cli.stub_server import StubServer

RUNNER = CliRunner()
DONE: dict[str, Any] = {
    "object": "reload",
    "id": "reload-1",
    "dry_run": False,
    "models": [
        {"model": "mini", "done": "untouched", "options": []},
        {"model": "coder", "done": "replaced", "options": ["engine.places"]},
        {"model": "chat", "done": "adjusted", "options": ["swap", "pinned"]},
        {"model": "new", "done": "added", "options": []},
        {"model": "old", "done": "removed", "options": []},
    ],
    "applied": ["keys"],
    "needs_restart": ["server.port"],
    "notes": ["chat: there is no room for it"],
}


def run(*words: str) -> Result:
    return RUNNER.invoke(app, ["reload", *words])


def test_what_was_done_is_told_by_model(stub: StubServer) -> None:
    stub.documents["/admin/reload?dry_run=false"] = (200, DONE)
    result = run("--url", stub.url, "--key", "k")
    assert result.exit_code == 0, result.output
    told = result.stdout.replace("\n", " ")
    for words in (
        "coder: replaced",
        "(engine.places)",
        "chat: adjusted without a restart (swap, pinned)",
        "new: added",
        "old: removed",
        "1 model untouched.",
        "In force at once: keys.",
        "Only a restart changes these: server.port.",
        "chat: there is no room for it",
    ):
        assert words in told
    assert "Nothing is changed yet" not in told
    assert stub.asked[-1][2]["authorization"] == "Bearer k"
    as_json = run("--url", stub.url, "--json")
    assert json.loads(as_json.stdout) == DONE


def test_a_dry_run_says_that_it_is_one(stub: StubServer) -> None:
    stub.documents["/admin/reload?dry_run=true"] = (200, {**DONE, "dry_run": True})
    result = run("--dry-run", "--url", stub.url)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Nothing is changed yet")


def test_a_refusal_is_told_with_its_reason(stub: StubServer) -> None:
    problem = {"message": "nothing was changed: slalom.yaml:3: modelz: no such option"}
    error = {"error": {**problem, "code": "reload_refused"}}
    stub.documents["/admin/reload?dry_run=false"] = (400, error)
    result = run("--url", stub.url)
    assert result.exit_code == 1
    assert "slalom.yaml:3" in str(result.exception) + result.output
