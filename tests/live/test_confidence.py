"""A small model's answer looked at on real llama.cpp: both gates, every protocol that completes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.live.live_server import LiveServer, events, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SMALL, LARGE = "slalom-mini", "slalom-small"
BEFORE = "def area(width, height):\n    return "
AFTER = "\n\n\nprint(area(2, 3))\n"
ASK: dict[str, Any] = {"prompt": BEFORE, "suffix": AFTER, "max_tokens": 32, "temperature": 0}
#: What the models are made to write: one fits, one does not.
FITS = {"grammar": 'root ::= "width * height"'}
BREAKS = {"grammar": 'root ::= "width * * height"'}
TOKENS = 900


def alias(name: str, min_logprob: float, *, parse: bool) -> dict[str, Any]:
    gates = {"min_logprob": min_logprob, "parse": parse, "language": "python"}
    return {"id": name, "targets": [SMALL, LARGE], "kind": "confident", **gates}


#: No answer is as sure as the first wants it; every answer is as sure as the others want it.
ALIASES = [
    alias("doubting", 0.0, parse=False),
    alias("trusting", -100.0, parse=False),
    alias("parsing", -100.0, parse=True),
]
LIMITS = dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms"))
CONFIG = {
    "models": [{**model(name), "pinned": True} for name in (SMALL, LARGE)],
    "aliases": ALIASES,
    # Without targets: how long this machine takes decides nothing.
    "tasks": {"completion": LIMITS, "completion-multiline": LIMITS, "generation": LIMITS},
}


async def test_both_gates_on_a_real_engine(tmp_path: Path) -> None:
    async with live_server(tmp_path, CONFIG) as server:

        async def both_up() -> bool:
            return [await server.state(name) for name in (SMALL, LARGE)] == ["ready", "ready"]

        await server.until(both_up, "both models are up")
        for stream in (False, True):
            await _first_gate(server, stream=stream)
            await _second_gate(server, stream=stream)
        await _every_protocol(server)
        await _an_abandoned_answer_costs_no_more(server)


async def _first_gate(server: LiveServer, *, stream: bool) -> None:
    small, _ = await _complete(server, SMALL, stream=stream)
    large, _ = await _complete(server, LARGE, stream=stream)
    kept, headers = await _complete(server, "trusting", stream=stream)
    assert (headers["x-slalom-model"], headers["x-slalom-judged"]) == (SMALL, "trusted")
    assert _same(kept, small)
    moved, headers = await _complete(server, "doubting", stream=stream)
    assert headers["x-slalom-model"] == LARGE
    assert headers["x-slalom-judged"] == f"unsure; taken over from {SMALL}"
    assert _same(moved, large)


async def _second_gate(server: LiveServer, *, stream: bool) -> None:
    small, _ = await _complete(server, SMALL, stream=stream, **FITS)
    kept, headers = await _complete(server, "parsing", stream=stream, **FITS)
    assert headers["x-slalom-judged"] == "trusted"
    assert _text(kept) == "width * height"
    assert _same(kept, small)
    moved, headers = await _complete(server, "parsing", stream=stream, **BREAKS)
    assert headers["x-slalom-judged"] == f"broken; taken over from {SMALL}"
    assert _text(moved) == "width * * height", "the large one was made to say so, too"
    asked, headers = await _complete(server, "parsing", stream=stream, logprobs=1, **FITS)
    assert headers["x-slalom-judged"] == "trusted"
    assert any(choice["logprobs"] for document in asked for choice in document["choices"])


async def _every_protocol(server: LiveServer) -> None:
    around = {"prefix": BEFORE, "suffix": AFTER}
    by_hand = f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>"
    native = {"input_prefix": BEFORE, "input_suffix": AFTER, "n_predict": 12, "temperature": 0}
    ollama = {"options": {"num_predict": 12, "temperature": 0}, "stream": False}
    asks: dict[str, tuple[str, dict[str, Any]]] = {
        "marks": ("/v1/completions", {"prompt": by_hand, "max_tokens": 12, "temperature": 0}),
        "tabby": ("/v1/completions", {"segments": around}),
        "mistral": ("/v1/fim/completions", ASK),
        "llama.cpp": ("/infill", native),
        "ollama": ("/api/generate", {"prompt": BEFORE, "suffix": AFTER, **ollama}),
        "chat": (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0},
        ),
    }
    for name, (path, body) in asks.items():
        plain, _ = await _post(server, path, {**body, "model": SMALL})
        kept, headers = await _post(server, path, {**body, "model": "trusting"})
        assert headers["x-slalom-judged"] == "trusted", name
        assert _shape(kept) == _shape(plain), name
        _, headers = await _post(server, path, {**body, "model": "doubting"})
        assert headers["x-slalom-judged"] == f"unsure; taken over from {SMALL}", name


async def _an_abandoned_answer_costs_no_more(server: LiveServer) -> None:
    """The small engine stops where the large one takes over."""
    long = {"max_tokens": TOKENS, "ignore_eos": True, "suffix": None}
    engine = _engine(server, SMALL)
    spent = []
    for name in (SMALL, "doubting"):
        before = _cpu_s(engine)
        _, headers = await _complete(server, name, stream=True, **long)
        spent.append(_cpu_s(engine) - before)
    assert headers["x-slalom-model"] == LARGE
    assert spent[1] < spent[0] / 2


async def _complete(
    server: LiveServer, name: str, *, stream: bool, **more: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The documents of an answer, one if it is not streamed; and its headers."""
    body = {**ASK, "model": name, "stream": stream, **more}
    async with server.session.post(f"{server.url}/v1/completions", json=body) as reply:
        told = await reply.read()
        assert reply.status == 200, told
        if not stream:
            return [json.loads(told)], dict(reply.headers)
        *found, done = events(told)
        assert done == "[DONE]"
        return found, dict(reply.headers)


async def _post(
    server: LiveServer, path: str, body: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    async with server.session.post(f"{server.url}{path}", json=body) as reply:
        document: dict[str, Any] = await reply.json()
        assert reply.status == 200, document
        return document, dict(reply.headers)


def _text(documents: list[dict[str, Any]]) -> str:
    return "".join(choice["text"] for one in documents for choice in one["choices"])


def _same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """The same words, in documents that have the same fields and no probabilities."""
    shapes = [
        {field for document in answer for field in _shape(document)} for answer in (one, other)
    ]
    return _text(one) == _text(other) and shapes[0] == shapes[1]


def _shape(document: Any, at: str = "") -> set[str]:
    """The names of all fields with something in them, and where they stand."""
    return set(_fields(document, at))


def _fields(document: Any, at: str) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _fields(value, f"{at}.{name}")
    elif isinstance(document, list):
        for value in document:
            yield from _fields(value, f"{at}[]")
    elif document is not None:
        yield at


def _engine(server: LiveServer, name: str) -> psutil.Process:
    return next(one for one in server.engines() if any(name in part for part in one.cmdline()))


def _cpu_s(engine: psutil.Process) -> float:
    spent = engine.cpu_times()
    return float(spent.user + spent.system)
