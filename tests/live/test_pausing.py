"""Answers of a real engine that are paused: the same text, in one stream, by greedy decoding."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from slalom.core.actions import EndRequest
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions, capabilities_of
from slalom.gateway.app import app
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.server import GatewayServer
from slalom.models.sources import resolve
from slalom.policies.registry import policies
from slalom.runtime.driver import Runtime
from slalom.testing.scripted_planner import Scripted, urgent_first
from slalom.units import MIB

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

MODEL = "slalom-mini"
PLAIN: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 300,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "def quicksort(items):\n"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Sort a list in Python."}]},
}


async def read(http: aiohttp.ClientSession, url: str, body: dict[str, Any], task: str) -> list[Any]:
    """The events of a streamed answer."""
    async with http.post(url, json=body, headers={"x-slalom-task": task}) as reply:
        assert reply.status == 200, await reply.text()
        parts = (await reply.read()).split(b"\n\n")
    assert parts[-2:] == [b"data: [DONE]", b""]
    return [json.loads(part[6:]) for part in parts[:-2] if part.startswith(b"data: ")]


def text(events: list[Any]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


@pytest.mark.parametrize("path", list(BODIES))
async def test_a_paused_answer_is_the_one_that_was_not_paused(path: str) -> None:
    local = resolve(f"bundled:{MODEL}")
    options = LlamaCppOptions(model=local.path, places=1, threads=1)
    chosen = replace(policies(), admission=Scripted(urgent_first))
    runtime = Runtime(
        Scheduler([ModelSpec(MODEL, "host", 60 * MIB, 1)], [DeviceSpec("host", 99 * MIB)], chosen),
        {MODEL: LlamaCppLauncher(options, model_name=MODEL)},
        capabilities={MODEL: capabilities_of(options, local.metadata)},
    )
    ended: dict[str, EndRequest] = {}
    runtime.on_end.append(lambda end: ended.update({end.task: end}))
    server = GatewayServer(app(runtime, GatewayParams((ServedModel(MODEL),))))
    runtime.start()
    await server.start()
    body = {**PLAIN, **BODIES[path], "stream_options": {"include_usage": True}}
    brief = {**PLAIN, "prompt": "x = ", "max_tokens": 2}
    async with aiohttp.ClientSession() as http:
        try:
            whole = await read(http, server.url + path, body, "chat")
            paused = asyncio.create_task(read(http, server.url + path, body, "batch"))
            pauses = 0
            while not paused.done():
                await read(http, f"{server.url}/v1/completions", brief, "completion")
                pauses += 1
            events = await paused
        finally:
            await http.close()
            await server.stop(1.0)
            await runtime.close()
    assert ended["batch"].pauses >= 2, "else it proves nothing"
    assert text(events) == text(whole)
    assert len({event["id"] for event in events}) == 1
    usages = [event["usage"] for event in events if event.get("usage")]
    assert [usage["completion_tokens"] for usage in usages] == [300]
    assert sum("role" in c.get("delta", {}) for e in events for c in e["choices"]) <= 1
