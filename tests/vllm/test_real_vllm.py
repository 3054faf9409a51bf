"""Real vLLM on the CPU behind Slalom: opt-in (`make test-vllm`), minutes long.

One server for all of it, because a start takes most of the time.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.live_server import LiveServer, live_server
from tests.vllm.model_folder import write_folder
from tests.vllm.server import (
    MODEL,
    PATIENCE_S,
    PROMPT,
    alone_ms,
    completion,
    configuration,
    engine_url,
    gauges,
    keep,
    post,
    processes,
    streaming,
    tokens_per_s,
)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]

SOURCE = "bundled:slalom-small"
TWIN = {"id": "twin", "engine": {"kind": "llama-cpp", "source": SOURCE}}


async def test_real_vllm(tmp_path: Path, vllm_python: Path) -> None:
    folder = write_folder(SOURCE, tmp_path / "model")
    config = configuration(vllm_python, folder)
    config["models"].append(TWIN)
    async with live_server(tmp_path, config) as server:
        began = time.monotonic()
        await _answers_whole(server)
        figures: dict[str, Any] = {"ready_s": round(time.monotonic() - began, 1)}
        figures["memory_mib"] = await _measured_mib(server)
        await _answers_in_a_stream(server)
        await _chats(server)
        await _fills_in(server)
        figures["same_characters"] = await _says_what_llama_cpp_says(server)
        await _a_client_that_leaves_frees_its_place(server)
        await _the_smaller_priority_is_first(server)
        figures |= await _what_slalom_adds(server)
        figures["back_after_kill_s"] = await _comes_back_after_a_kill(server)
        keep(figures)


async def _answers_whole(server: LiveServer) -> None:
    status, told, headers = await post(server, "/v1/completions", completion(8, logprobs=1))
    assert status == 200, told
    assert told["usage"]["completion_tokens"] == 8
    assert len(told["choices"][0]["logprobs"]["token_logprobs"]) == 8
    assert told["metrics"]["time_to_first_token_ms"] > 0, "--enable-per-request-metrics"
    assert headers["x-slalom-model"] == MODEL


async def _measured_mib(server: LiveServer) -> int:
    async with server.session.get(f"{server.url}/v1/models/{MODEL}") as reply:
        details = (await reply.json())["slalom"]
    return int(details["replicas"][0]["measured_bytes"]) >> 20


async def _answers_in_a_stream(server: LiveServer) -> None:
    async with streaming(server, 16) as reply:
        headers, text = reply.headers, (await reply.read()).decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert text.endswith("data: [DONE]\n\n")
    assert events[-1]["usage"]["completion_tokens"] == 16
    assert events[-1]["usage"]["prompt_tokens_details"] is not None, (
        "--enable-prompt-tokens-details"
    )
    assert float(headers["x-slalom-predicted-e2e-ms"]) > 0
    assert float(headers["x-slalom-predicted-ttft-ms"]) > 0


async def _chats(server: LiveServer) -> None:
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 4, "temperature": 0}
    status, told, _ = await post(server, "/v1/chat/completions", body)
    assert status == 200, told
    assert told["choices"][0]["message"]["content"]


async def _fills_in(server: LiveServer) -> None:
    body = {**completion(8), "prompt": "def area(w, h):\n    return ", "suffix": "\n\n\nprint(1)\n"}
    status, told, headers = await post(server, "/v1/completions", body)
    assert status == 200, told
    assert headers["x-slalom-task"].startswith("completion"), "its folder says how it fills in"


async def _says_what_llama_cpp_says(server: LiveServer) -> int:
    """Characters in which both agree: the same weights, computed in other number formats."""
    _, ours, _ = await post(server, "/v1/completions", completion(24))
    _, theirs, _ = await post(server, "/v1/completions", completion(24, model="twin"))
    pair = ours["choices"][0]["text"], theirs["choices"][0]["text"]
    same = next((at for at, two in enumerate(zip(*pair, strict=False)) if len({*two}) > 1), None)
    agreed = min(map(len, pair)) if same is None else same
    assert agreed >= 4, pair
    return agreed


async def _a_client_that_leaves_frees_its_place(server: LiveServer) -> None:
    async with streaming(server, 1900) as reply:
        await reply.content.readany()
        assert (await gauges(server)).running == 1
        reply.close()

    async def idle() -> bool:
        return (await gauges(server)).running == 0

    await server.until(idle, "vLLM has stopped writing", seconds=30)
    assert (await gauges(server)).generated_tokens < 1900


async def _the_smaller_priority_is_first(server: LiveServer) -> None:
    """Asked directly, with more than it has places: it takes the urgent one before the others."""
    url, done = engine_url(server), []

    async def ask(name: str, tokens: int, priority: int) -> None:
        await post(server, "/v1/completions", completion(tokens, priority=priority), url=url)
        done.append(name)

    fillers = [asyncio.ensure_future(ask("filler", 400, 0)) for _ in range(4)]

    async def full() -> bool:
        return (await gauges(server)).running == 4

    await server.until(full, "vLLM is full", seconds=30)
    others = [asyncio.ensure_future(ask(f"late-{n}", 40, 50)) for n in range(6)]

    async def waiting() -> bool:
        return (await gauges(server)).waiting == 6

    await server.until(waiting, "six wait", seconds=30)
    urgent = asyncio.ensure_future(ask("urgent", 40, 1))
    await asyncio.gather(*fillers, *others, urgent)
    behind = [name for name in done if name != "filler"]
    assert behind.index("urgent") < 4, "among the first that found a place"
    assert behind[-1] != "urgent"


async def _what_slalom_adds(server: LiveServer) -> dict[str, Any]:
    url = engine_url(server)
    figures: dict[str, Any] = {}
    for name, where in (("direct", url), ("slalom", server.url)):
        await alone_ms(server, where, 5)
        figures[f"{name}_one_token_ms"] = round(await alone_ms(server, where), 2)
        for width in (1, 4):
            speed = await tokens_per_s(server, where, width)
            figures[f"{name}_tokens_per_s_{width}"] = round(speed, 1)
    return figures


async def _comes_back_after_a_kill(server: LiveServer) -> float:
    for process in processes(server):
        process.kill()
    began = time.monotonic()

    async def gone() -> bool:
        return not processes(server) or await server.state(MODEL) != "ready"

    await server.until(gone, "the end of vLLM is noticed", seconds=60)
    status, told, _ = await post(server, "/v1/completions", completion(4))
    assert status == 200, told
    return round(time.monotonic() - began, 1)


async def test_a_model_that_vllm_does_not_know_is_told_in_words(
    tmp_path: Path, vllm_python: Path
) -> None:
    folder = write_folder(SOURCE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "slalomine", "architectures": ["SlalomineForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    asked = configuration(vllm_python, folder)
    asked["scheduler"]["load_failures_max"] = 1
    async with live_server(tmp_path, asked) as server:
        status, told, _ = await post(server, "/v1/completions", {"model": MODEL, "prompt": PROMPT})
        assert status >= 500
        assert "vLLM does not know the model type slalomine" in told["error"]["message"]


async def test_profiling_measures_it(tmp_path: Path, vllm_python: Path) -> None:
    """`slalom models profile` loads it, asks it and remembers what that took."""
    folder = write_folder(SOURCE, tmp_path / "model")
    path = tmp_path / "slalom.yaml"
    path.write_text(yaml.safe_dump(configuration(vllm_python, folder)))
    command = ["-m", "slalom", "models", "profile", MODEL, "--repeats", "1", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--config", str(path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    (profiled,) = json.loads(out)
    quantities = {row["quantity"] for row in profiled["measured"]}
    assert {"load", "memory"} <= {name.split("_")[0] for name in quantities}, quantities
