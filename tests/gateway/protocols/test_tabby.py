"""Tabby's protocol as its agent speaks it: segments, health, what became of suggestions."""

import hashlib
import json
from typing import Any

import pytest

from slalom.engines.protocol import Capabilities
from slalom.gateway.params import GatewayParams, KeyEntry, ModelFacts, ServedModel
from slalom.gateway.protocols.tabby import completing
from slalom.testing import FakeLauncher, FakeScript
from tests.gateway.house import house, last_body

PATH = "/v1/completions"
CHATS = FakeScript(capabilities=Capabilities())
#: As tabby-agent 1.5.0 sends it.
SEGMENTS: dict[str, Any] = {
    "prefix": "def f(",
    "suffix": "): pass",
    "filepath": "src/b.py",
    "git_url": "https://user:secret@git.example.com/team/shop.git",
    "declarations": [{"filepath": "a.py", "body": "def g(): ..."}],
    "relevant_snippets_from_changed_files": [{"filepath": "c.py", "body": "C", "score": 0.5}],
    "clipboard": "copied",
}


async def test_segments_fill_a_gap_with_what_is_around() -> None:
    async with house() as world:
        body = {"language": "python", "segments": SEGMENTS, "user": "me"}
        status, document, headers = await world.post(PATH, body)
        assert status == 200
        (choice,) = document["choices"]
        assert choice["index"] == 0
        assert choice["text"].startswith(" w0")
        assert document["id"] == headers["x-request-id"]
        seen = last_body(world)
        assert seen["prompt"] == (
            "<PRE># a.py\ndef g(): ...\n# c.py\nC\n# clipboard\ncopied\n# src/b.py\n"
            "def f(<SUF>): pass<MID>"
        )
        assert seen["max_tokens"] == 64
        assert seen["temperature"] == 0
        assert not {"segments", "input_extra", "filename", "repository"} & seen.keys()
        assert "secret" not in json.dumps(seen)
        assert world.ended[-1].task == "completion-multiline"


async def test_openais_completions_stay_openais() -> None:
    async with house() as world:
        body = {"model": "a", "prompt": "x", "max_tokens": 2, "segments": SEGMENTS}
        _, document, _ = await world.post(PATH, body)
        assert document["object"] == "text_completion"


async def test_any_model_goes_on_at_the_end_of_a_file() -> None:
    async with house({"a": FakeLauncher(CHATS)}) as world:
        status, _, _ = await world.post(PATH, {"segments": {"prefix": "x = "}})
        assert status == 200
        seen = last_body(world)
        assert seen["prompt"] == "x = "
        assert not {"input_extra", "filename", "repository", "suffix"} & seen.keys()
        status, document, _ = await world.post(PATH, {"segments": SEGMENTS})
        assert (status, document["error"]["code"]) == (400, "unsupported_by_model")


@pytest.mark.parametrize(
    ("segments", "param"),
    [
        (3, "segments"),
        ({}, "segments.prefix"),
        ({"prefix": 3}, "segments.prefix"),
        ({"prefix": "x", "suffix": []}, "segments.suffix"),
        ({"prefix": "x", "declarations": "y"}, "segments.declarations"),
        ({"prefix": "x", "declarations": [{"filepath": "y"}]}, "segments.declarations"),
        ({"prefix": "x", "clipboard": 3}, "segments.clipboard"),
        ({"prefix": "x", "git_url": 3}, "segments.git_url"),
    ],
)
async def test_a_wrong_segment_is_named(segments: object, param: str) -> None:
    async with house() as world:
        status, document, _ = await world.post(PATH, {"segments": segments})
        assert (status, document["error"]["param"]) == (400, param)


def test_clients_that_name_no_model_get_one_that_fills_gaps() -> None:
    fills = ModelFacts(fills=True)
    chats, coder, other = ServedModel("c"), ServedModel("f", facts=fills), ServedModel("g")
    assert completing((chats, coder, other)) == "f"
    assert completing((chats, other)) == "c"
    assert completing((chats, coder, ServedModel("g", aliases=("completion",)))) == "completion"
    assert completing((coder, ServedModel("g", tasks=("completion",)))) == "completion"
    assert completing(()) == ""


async def test_health_has_what_the_agent_waits_for() -> None:
    facts = ModelFacts(fills=True)
    params = GatewayParams((ServedModel("chats"), ServedModel("a", facts=facts)))
    async with house({"chats": FakeLauncher(CHATS), "a": FakeLauncher()}, params=params) as world:
        _, document, _ = await world.get("/v1/health")
        assert document["model"] == "a"
        assert document["device"]
        assert document["version"]["git_describe"].startswith("v0.")
        status, posted, _ = await world.post("/v1/health", None)
        assert (status, posted) == (200, document)
        _, settings, _ = await world.get("/v1beta/server_setting")
        assert settings == {"disable_client_side_telemetry": True}


EVENT = {
    "type": "select",
    "completion_id": "req-1",
    "choice_index": 0,
    "elapsed": 900,
    "text": "SECRET",
}


async def test_what_became_of_suggestions_is_kept_if_wanted_within_bounds() -> None:
    secret = {"authorization": "Bearer s"}
    digest = hashlib.sha256(b"s").digest()
    key = KeyEntry("boss", digest, admin=True)
    params = GatewayParams((ServedModel("a"),), keys=(key,), feedback_max=2)
    async with house(params=params) as world:
        assert (await world.get("/v1/health"))[0] == 401
        for event in ("view", "view", "dismiss", "select", "unheard-of"):
            report = {**EVENT, "type": event, "select_kind": "line"}
            async with world.http.post(
                f"{world.url}/v1/events?select_kind=line", json=report, headers=secret
            ) as reply:
                assert (reply.status, await reply.text()) == (200, "")
        _, kept, _ = await world.get("/admin/feedback", secret)
        assert kept["counts"] == {"seen": 2, "accepted": 1, "dismissed": 1}
        assert [one["event"] for one in kept["latest"]] == ["accepted", "dismissed"]
        first = kept["latest"][0]
        assert (first["completion_id"], first["elapsed_ms"]) == ("req-1", 900)
        assert (first["key"], first["line_only"]) == ("boss", True)
        assert "SECRET" not in json.dumps(kept)


@pytest.mark.parametrize("report", [{}, {"type": 3}, {"type": ["select"]}])
async def test_a_report_without_an_event_is_refused(report: dict[str, Any]) -> None:
    async with house() as world:
        status, document, _ = await world.post("/v1/events", report)
        assert (status, document["error"]["param"]) == (400, "type")


@pytest.mark.parametrize("changes", [{"elapsed": -1}, {"elapsed": "x"}, {"completion_id": {}}])
async def test_odd_reports_do_no_harm(changes: dict[str, Any]) -> None:
    key = KeyEntry("boss", hashlib.sha256(b"s").digest(), admin=True)
    params = GatewayParams((ServedModel("a"),), keys=(key,), feedback_max=9)
    headers = {"authorization": "Bearer s"}
    async with house(params=params) as world:
        status = (
            await world.http.post(
                f"{world.url}/v1/events", json={**EVENT, **changes}, headers=headers
            )
        ).status
        assert status == 200
        _, kept, _ = await world.get("/admin/feedback", headers)
        assert None in kept["latest"][0].values()


async def test_nothing_is_kept_by_default() -> None:
    key = KeyEntry("boss", hashlib.sha256(b"s").digest(), admin=True)
    params = GatewayParams((ServedModel("a"),), keys=(key,))
    headers = {"authorization": "Bearer s"}
    async with house(params=params) as world:
        await (await world.http.post(f"{world.url}/v1/events", json=EVENT, headers=headers)).read()
        _, kept, _ = await world.get("/admin/feedback", headers)
        assert kept["latest"] == []
        assert not any(kept["counts"].values())
