"""Fill-in-the-middle on real llama.cpp with the bundled model, by every protocol that asks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mistralai.client import Mistral

from tests.live.live_server import HEADERS, KEY, LiveServer, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SMALL = "slalom-small"
BEFORE = "def area(width, height):\n    return "
AFTER = "\n\n\nprint(area(2, 3))\n"
ASK: dict[str, Any] = {"model": SMALL, "prompt": BEFORE, "suffix": AFTER, "temperature": 0}


async def post(server: LiveServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with server.session.post(f"{server.url}{path}", json=body, headers=HEADERS) as reply:
        document: dict[str, Any] = await reply.json()
        assert reply.status == 200, document
        return document


async def text_of(server: LiveServer, **more: Any) -> tuple[str, str]:
    document = await post(server, "/v1/completions", {**ASK, "max_tokens": 12, **more})
    choice = document["choices"][0]
    return choice["text"], choice["finish_reason"]


async def test_every_protocol_fills_the_same_gap(tmp_path: Path) -> None:
    async with live_server(tmp_path, {"models": [model(SMALL)]}) as server:
        text, _ = await text_of(server)
        assert text
        by_hand = f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>"
        assert (await text_of(server, prompt=by_hand, suffix=None))[0] == text
        assert (await text_of(server, suffix=None))[0] != text
        assert await asyncio.to_thread(_mistral, server.url) == (text, text)
        segments = {"prefix": BEFORE, "suffix": AFTER}
        tabby = (await post(server, "/v1/completions", {"segments": segments}))["choices"][0]
        assert tabby["text"].startswith(text)
        await _marks_are_texts(server)
        await _other_files_are_read(server, text)


def _mistral(url: str) -> tuple[str, str]:
    """Whole and streamed, by the official client."""
    ask: dict[str, Any] = {**ASK, "max_tokens": 12}
    with Mistral(api_key=KEY, server_url=url) as sdk:
        assert any(card.capabilities.completion_fim for card in sdk.models.list().data)
        whole = sdk.fim.complete(**ask).choices[0].message.content
        with sdk.fim.stream(**ask) as events:
            pieces = [event.data for event in events]
    assert pieces[-1].usage.prompt_tokens > 10
    return whole, "".join(piece.choices[0].delta.content for piece in pieces)


async def _marks_are_texts(server: LiveServer) -> None:
    """A mark in a text costs the tokens of its characters, and an answer ends at one."""

    async def tokens(prompt: str) -> int:
        ask = {**ASK, "prompt": prompt, "max_tokens": 1}
        usage = (await post(server, "/v1/completions", ask))["usage"]
        return int(usage["prompt_tokens"])

    assert await tokens(f"{BEFORE}<|fim_middle|>") - await tokens(BEFORE) > 3
    # The ids of marks in the bundled vocabulary. Of the first kind llama.cpp knows that they end
    # an answer; the others are texts to it, and no text either, unless it is told to show them.
    for mark in (6141, 6142, 6143, 6138, 6139, 6140):
        _, finish = await text_of(server, logit_bias={str(mark): 100}, max_tokens=8)
        assert finish == "stop", mark
    text, _ = await text_of(server, logit_bias={"6138": 100}, max_tokens=8)
    assert text == ""


async def _other_files_are_read(server: LiveServer, text: str) -> None:
    extra = [{"filename": "shapes.py", "text": "WIDTH = 3\n" * 20}]
    body = {**ASK, "max_tokens": 12, "input_extra": extra, "filename": "area.py"}
    document = await post(server, "/v1/completions", body)
    alone = await post(server, "/v1/completions", {**ASK, "max_tokens": 1})
    assert document["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 60
    native = {"input_prefix": BEFORE, "input_suffix": AFTER, "n_predict": 12, "temperature": 0}
    found = await post(server, "/infill", {**native, "model": SMALL})
    assert found["content"] == text
    with_files = {**native, "model": SMALL, "input_extra": extra, "filename": "area.py"}
    assert (await post(server, "/infill", with_files))["tokens_evaluated"] > 60
