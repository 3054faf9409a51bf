"""Ollama's client and llama.cpp's own API on real llama.cpp with the bundled model."""

from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.live.live_server import KEY, LiveServer, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SMALL = "slalom-small"
QUESTION = "def add(a, b):"
COLD = {"temperature": 0, "num_predict": 8}
CURSOR = {
    "input_prefix": "def add(a, b):\n    ",
    "input_suffix": "\n\n\nprint(add(1, 2))\n",
    "prompt": "re",
    "n_predict": 8,
    "temperature": 0,
}


async def test_both_make_round_trips(tmp_path: Path) -> None:
    async with live_server(tmp_path, {"models": [model(SMALL)]}) as server:
        await _ollama(server)
        await _llama_cpp(server)


async def _ollama(server: LiveServer) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with ollama.AsyncClient(server.url, headers=headers) as sdk:
        assert (await sdk.generate(SMALL)).done_reason == "load"
        messages = [{"role": "user", "content": QUESTION}]
        whole = await sdk.chat(SMALL, messages, options=COLD)
        stream = await sdk.chat(SMALL, messages, options=COLD, stream=True)
        parts = [part async for part in stream]
        assert whole.message.content
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        last = parts[-1]
        assert (last.done_reason, last.eval_count) == ("length", 8)
        assert last.prompt_eval_count == whole.prompt_eval_count
        assert last.eval_duration
        assert last.total_duration
        assert 0 < last.eval_duration < last.total_duration
        raw = await sdk.generate(SMALL, QUESTION, raw=True, options=COLD)
        assert raw.response
        filled = await sdk.generate(SMALL, "def add(a, b):\n    ", "\n\nadd(1, 2)", options=COLD)
        assert filled.done
        (card,) = (await sdk.list()).models
        assert card.details
        assert (card.details.family, card.details.quantization_level) == ("qwen2", "Q8_0")
        (running,) = (await sdk.ps()).models
        assert (running.model, running.context_length) == (SMALL, 1024)


async def _llama_cpp(server: LiveServer) -> None:
    tokens = (await _post(server, "/tokenize", {"content": QUESTION}))["tokens"]
    assert len(tokens) > 3
    assert (await _post(server, "/detokenize", {"tokens": tokens}))["content"] == QUESTION
    messages = {"messages": [{"role": "user", "content": "hi"}]}
    prompt = (await _post(server, "/apply-template", messages))["prompt"]
    assert prompt.startswith("<|im_start|>user\nhi")
    told = await _post(server, "/completion", {"prompt": QUESTION, "n_predict": 4})
    assert told["tokens_evaluated"] == len(tokens)
    assert (told["tokens_predicted"], told["stop_type"]) == (4, "limit")
    assert told["timings"]["predicted_ms"] > 0
    filled = await _post(server, "/infill", CURSOR)
    # What llama.cpp's own server makes of the same question.
    prompt = "<|fim_prefix|>{input_prefix}{prompt}<|fim_suffix|>{input_suffix}<|fim_middle|>"
    own = {"prompt": prompt.format(**CURSOR), "n_predict": 8, "temperature": 0}
    same = await _post(server, "/completion", own)
    assert filled["tokens_evaluated"] == same["tokens_evaluated"]
    assert filled["content"]
    assert same["content"].startswith(filled["content"])


async def _post(server: LiveServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with server.session.post(f"{server.url}{path}", json=body) as reply:
        assert reply.status == 200, await reply.text()
        found: dict[str, Any] = await reply.json()
        return found
