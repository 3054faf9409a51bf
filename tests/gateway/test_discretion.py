"""Prompts, answers and keys are in no place where they do not belong: errors, logs, metrics."""

import json
import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slalom.testing import FakeScript, Fault, FaultKind
from tests.gateway.house import House
from tests.gateway.whole_server import KEY, whole_server

#: Stands for whatever somebody says to a model.
SECRET = "CanaryThatSings"
BEARER = {"authorization": f"Bearer {KEY}"}
_TURNS = [
    {"role": "system", "content": SECRET},
    {"role": "user", "content": [{"type": "text", "text": SECRET}]},
]
_TOOL = {"name": "f", "description": SECRET}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": _TURNS,
        "stop": [SECRET],
        "tools": [{"type": "function", "function": {**_TOOL, "parameters": {"title": SECRET}}}],
    },
    "/v1/completions": {
        "prompt": SECRET,
        "suffix": SECRET,
        "input_extra": [{"filename": SECRET, "text": SECRET}],
    },
    "/v1/embeddings": {"input": [SECRET]},
    "/v1/messages": {
        "max_tokens": 4,
        "system": SECRET,
        "messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}],
        "tools": [{**_TOOL, "input_schema": {"title": SECRET}}],
    },
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": SECRET}]},
    "/v1/responses": {
        "instructions": SECRET,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": SECRET}]}],
        "tools": [{**_TOOL, "type": "function", "parameters": {"title": SECRET}}],
    },
    "/api/chat": {"messages": [{"role": "user", "content": SECRET}], "options": {"stop": [SECRET]}},
    "/api/generate": {"prompt": SECRET, "system": SECRET},
    "/api/embed": {"input": [SECRET]},
    "/completion": {"prompt": SECRET, "stop": [SECRET]},
    "/infill": {"input_prefix": SECRET, "input_suffix": SECRET, "prompt": SECRET},
    "/tokenize": {"content": SECRET},
    "/apply-template": {"messages": [{"role": "user", "content": SECRET}]},
    "/v1/fim/completions": {"prompt": SECRET, "suffix": SECRET},
    "/v1/estimate": {"messages": _TURNS},
}
#: What takes the place of a field. A text is no wrong value for what tells kinds and names apart,
#: and an error may repeat those.
_WRONG: tuple[Any, ...] = ([SECRET], {"x": SECRET}, SECRET, 5, None, True, [[SECRET]])
#: Answered without the engine's places, so that a scripted fault does not reach them.
TELLS = {"/v1/messages/count_tokens", "/tokenize", "/apply-template", "/v1/estimate"}
_NAMES = frozenset(("role", "type", "name", "model"))


def spoilt(body: Any, top: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body with one of its places, however deep, taken by something wrong."""
    for name in list(body) if isinstance(body, dict) else range(len(body)):
        kept = body[name]
        for wrong in _WRONG:
            if not (isinstance(wrong, str) and name in _NAMES):
                body[name] = wrong
                yield deepcopy(top)
        body[name] = kept
        if isinstance(kept, dict | list):
            yield from spoilt(kept, top)


async def told(world: House, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status, and everything that is said; of an answer that is one only its headers."""
    body = {"model": "a", **body}
    async with world.http.post(world.url + path, json=body, headers=BEARER) as reply:
        said = (await reply.read()).decode(errors="replace")
        headers = str(dict(reply.headers))
        return reply.status, headers if reply.status == 200 else headers + said


async def shown(world: House) -> str:
    """What operators see."""
    found = ""
    for path in ("/admin/requests", "/metrics", "/admin/snapshot", "/admin/evictions"):
        async with world.http.get(world.url + path, headers=BEARER) as reply:
            assert reply.status == 200
            found += await reply.text()
    return found


async def test_errors_never_repeat_what_was_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    refused = 0
    async with whole_server(tmp_path) as world:
        for path, body in BODIES.items():
            working = deepcopy(body)
            for spoilt_body in spoilt(working, working):
                status, said = await told(world, path, spoilt_body)
                assert status < 500 or status == 503, said
                assert SECRET not in said, (path, spoilt_body)
                refused += status == 400
            for more in ({"temperature": SECRET}, {"max_tokens": [SECRET]}, {"stream": SECRET}):
                _, said = await told(world, path, {**body, **more})
                assert SECRET not in said, (path, more)
            raw = json.dumps({"model": "a", **body}).encode()
            for broken in (raw[:-1], raw + SECRET.encode(), b"[" + raw + b"]", raw[:-9] + b"\xff"):
                headers = {**BEARER, "content-type": "application/json"}
                async with world.http.post(world.url + path, data=broken, headers=headers) as reply:
                    assert reply.status == 400
                    assert SECRET not in await reply.text()
        seen = await shown(world)
    assert refused > 200
    for secret in (SECRET, KEY):
        assert secret not in seen
        assert secret not in caplog.text


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.CUT, FaultKind.GARBAGE])
async def test_nor_when_the_engine_fails(
    kind: FaultKind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with whole_server(tmp_path) as world:
        assert (await told(world, "/v1/completions", {"prompt": "x"}))[0] == 200
        engine = world.engine()
        engine.script = replace(engine.script, fault=lambda _number, _asked: Fault(kind))
        assert isinstance(engine.script, FakeScript)
        for path, body in BODIES.items():
            for stream in (False, True):
                status, said = await told(world, path, {**body, "stream": stream})
                assert SECRET not in said, path
                assert status >= 400 or stream or path in TELLS
        seen = await shown(world)
    for secret in (SECRET, KEY):
        assert secret not in seen
        assert secret not in caplog.text


async def test_an_estimate_says_nothing_of_its_request(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        for path, body in BODIES.items():
            if path in TELLS - {"/v1/estimate"}:
                continue
            where = path if path == "/v1/estimate" else f"/v1/estimate{path}"
            status, document, _ = await world.post(where, {"model": "a", **body}, BEARER)
            assert status == 200, document
            assert SECRET not in json.dumps(document)


async def test_a_wrong_key_is_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with whole_server(tmp_path) as world:
        for headers in ({"authorization": f"Bearer {SECRET}"}, {"x-api-key": SECRET}):
            for path in BODIES:
                async with world.http.post(world.url + path, json={}, headers=headers) as reply:
                    assert reply.status == 401
                    assert SECRET not in await reply.text() + str(dict(reply.headers))
    assert SECRET not in caplog.text
