"""An engine whose answers are written down: it reads a file by a tool, then tells what was in it.

Owns the conversation only: with tools offered and none answered, it calls the one that runs
commands; with an answer of a tool, it repeats that; else it says one sentence. Streamed in small
pieces, as engines do. Stands behind Slalom as a remote engine in the tests of agents.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

#: What it says where nothing is to be done.
SENTENCE = "The slalom course is set."
#: Names of tools that run a command, in the order of preference.
RUNNERS = ("Bash", "bash", "run_shell_command", "exec_command", "shell", "run_terminal_command")
_COMMAND = "cat fact.txt"
_USAGE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
_BASE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "scripted",
}


@dataclass
class Script:
    """What it was asked, and where it listens."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def answered(self) -> list[str]:
        """What tools answered, of all requests."""
        return [_text(m) for body in self.bodies for m in body["messages"] if m["role"] == "tool"]


@asynccontextmanager
async def scripted_model() -> AsyncIterator[Script]:
    """Serve it on loopback."""
    script = Script()

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        script.bodies.append(body)
        try:
            message = _answer(body)
        except (AttributeError, KeyError, TypeError):
            return web.json_response({"error": {"message": "not understood"}}, status=400)
        if not body.get("stream"):
            finish = "tool_calls" if "tool_calls" in message else "stop"
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return web.json_response({**_BASE, "choices": [choice], "usage": _USAGE})
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for chunk in _chunks(message):
            await reply.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await reply.write(b"data: [DONE]\n\n")
        return reply

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/completions", _complete)
    app.router.add_post("/v1/embeddings", _embed)
    app.router.add_get("/health", _healthy)
    app.router.add_get("/v1/models", _healthy)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()


async def _healthy(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "scripted"}]})


async def _complete(request: web.Request) -> web.Response:
    """The same sentence, whatever the prompt."""
    body = await request.json()
    choice = {"index": 0, "text": SENTENCE, "finish_reason": "stop", "logprobs": None}
    whole = {**_BASE, "object": "text_completion", "choices": [choice], "usage": _USAGE}
    if not body.get("stream"):
        return web.json_response(whole)
    events = b"data: " + json.dumps(whole).encode() + b"\n\ndata: [DONE]\n\n"
    return web.Response(body=events, content_type="text/event-stream")


async def _embed(request: web.Request) -> web.Response:
    given = (await request.json())["input"]
    count = len(given) if isinstance(given, list) else 1
    rows = [{"object": "embedding", "index": i, "embedding": [0.5, 0.5]} for i in range(count)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return web.json_response({"object": "list", "model": "x", "data": rows, "usage": usage})


def _answer(body: Mapping[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"The file says {_text(last)}"}
    tool = _runner(body)
    if tool is None:
        return {"role": "assistant", "content": SENTENCE}
    function = {"name": tool["name"], "arguments": json.dumps(_arguments(tool))}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _runner(body: Mapping[str, Any]) -> dict[str, Any] | None:
    functions = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    return next((functions[name] for name in RUNNERS if name in functions), None)


def _arguments(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The command in the words of this tool's schema."""
    known = tool["parameters"]["properties"]
    values: dict[str, Any] = {"description": "read the fact", "is_background": False}
    for name in ("command", "cmd"):
        is_list = known.get(name, {}).get("type") == "array"
        values[name] = ["bash", "-lc", _COMMAND] if is_list else _COMMAND
    return {name: value for name, value in values.items() if name in known}


def _chunks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    finish = "stop"
    if "tool_calls" in message:
        finish = "tool_calls"
        call = message["tool_calls"][0]
        head: dict[str, Any] = {
            **call,
            "index": 0,
            "function": {**call["function"], "arguments": ""},
        }
        deltas.append({"tool_calls": [head]})
        pieces = _pieces(call["function"]["arguments"])
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in pieces]
    else:
        deltas += [{"content": piece} for piece in _pieces(message["content"])]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    last: dict[str, Any] = {**_BASE, "choices": [], "usage": _USAGE}
    return [*({**_BASE, "choices": [choice]} for choice in choices), last]


def _pieces(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]
