"""`slalom models load` and its like: what is sent to the server, and how its word is told."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slalom.cli import app
from slalom.cli.model_ask_commands import told
from slalom.units import MIB
from tests.cli.stub_server import CARD, StubServer

RUNNER = CliRunner()
PLAN: dict[str, Any] = {
    "model": "big",
    "device": "host",
    "resident": False,
    "fits": True,
    "asleep": False,
    "needed_bytes": 600 * MIB,
    "free_bytes": 100 * MIB,
    "leaving_bytes": 0,
    "shortfall_bytes": 500 * MIB,
    "victims": ["mini#0"],
    "candidates": [],
    "patience_s": 2.0,
    "takes_s": 0.75,
    "holders": [{"replica_id": "mini#0", "held_bytes": 500 * MIB, "state": "ready"}],
    "detail": "",
}


def run(*words: str) -> Result:
    return RUNNER.invoke(app, ["models", *words])


@pytest.mark.parametrize("what", ["load", "wake", "sleep", "unload", "pin", "unpin"])
def test_each_is_asked_of_the_server_by_its_own_route(what: str, stub: StubServer) -> None:
    document = {"model": "slalom-mini", "asked": what, "state": "loading"}
    stub.documents[f"/admin/models/slalom-mini/{what}"] = (202, document)
    result = run(what, "slalom-mini", "--url", stub.url, "--key", "k")
    assert result.exit_code == 0, result.output
    assert result.stdout == "slalom-mini: loading\n"
    path, _, headers = stub.asked[-1]
    assert path == f"/admin/models/slalom-mini/{what}"
    assert headers["authorization"] == "Bearer k"
    told_as_json = run(what, "slalom-mini", "--url", stub.url, "--json")
    assert json.loads(told_as_json.stdout) == document


def test_a_wait_ends_with_the_state(stub: StubServer) -> None:
    stub.documents["/admin/models/m/load"] = (202, {"model": "m", "asked": "load", "state": "cold"})
    stub.cards = [{**CARD, "id": "m", "slalom": {"state": "ready"}}]
    result = run("load", "m", "--wait", "30", "--url", stub.url)
    assert (result.exit_code, result.stdout) == (0, "m: ready\n")


def test_a_wait_in_vain_is_told(stub: StubServer) -> None:
    stub.documents["/admin/models/m/load"] = (202, {"model": "m", "asked": "load", "state": "cold"})
    stub.cards = [{**CARD, "id": "m", "slalom": {"state": "loading"}}]
    result = run("load", "m", "--wait", "0.01", "--url", stub.url)
    assert result.exit_code == 1
    assert "not ready after 0.01 s" in result.output


def test_a_refusal_says_who_holds_the_memory(stub: StubServer) -> None:
    holders = [{"replica_id": "mini#0", "held_bytes": 500 * MIB, "state": "ready"}]
    error = {"message": "big cannot load: too large", "code": "model_does_not_fit"}
    stub.documents["/admin/models/big/load"] = (503, {"error": {**error, "holders": holders}})
    result = run("load", "big", "--url", stub.url)
    assert result.exit_code == 1
    assert "big cannot load: too large" in result.stderr
    assert "Memory is held by mini#0 500.0 MiB." in result.stderr


def test_a_plan_is_told_in_words(stub: StubServer) -> None:
    stub.documents["/admin/plan?model=big"] = (200, PLAN)
    assert run("plan", "big", "--url", stub.url).stdout.splitlines() == [
        "big needs 600.0 MiB on host; 100.0 MiB are free.",
        "Would give way: mini#0.",
        "They would be told to after 2 s of waiting.",
        "The load itself is expected to take 0.8 s.",
        "mini#0 holds 500.0 MiB (ready).",
    ]
    assert json.loads(run("plan", "big", "--json", "--url", stub.url).stdout) == PLAN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resident": True}, "is up"),
        ({"fits": False, "detail": "too large"}, "can never have them: too large"),
        ({"victims": [], "patience_s": None}, "Nobody can give way"),
        ({"victims": [], "shortfall_bytes": 0, "patience_s": 0.0}, "Nobody would have to"),
        ({"asleep": True}, "The wake itself"),
    ],
)
def test_every_outcome_of_a_plan_has_its_words(change: dict[str, Any], said: str) -> None:
    assert said in " ".join(told({**PLAN, **change}))
