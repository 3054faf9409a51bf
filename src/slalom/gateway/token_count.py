"""How many tokens a chat has: asked of an engine that can tell, else estimated.

Owns the two ways in which engines offer their tokenizer (llama.cpp's template and tokens, vLLM's
count). Such a question needs no place in the engine and no decision. Called by side routes.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from slalom.engines.protocol import Call, Engine
from slalom.errors import EngineError
from slalom.gateway import upstream_call
from slalom.gateway.runtime_port import RuntimePort

#: Longest time to wait for an engine's count, seconds.
_PATIENCE_S = 5.0
#: Longest answer of a tokenizer that is read, bytes.
_ANSWER_BYTES_MAX = 64 << 20
#: What of a chat becomes part of its prompt.
_PROMPT_FIELDS = ("messages", "tools", "tool_choice", "chat_template_kwargs")


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of tokens and where it comes from: ``engine`` or ``estimate``."""

    tokens: int
    source: str


async def count_chat(runtime: RuntimePort, model_id: str, body: Mapping[str, Any]) -> Counted:
    """Count the prompt of a chat.

    Args:
        runtime: Knows the engines; none is started for this.
        model_id: The model.
        body: A checked chat in the internal form.
    """
    engine = runtime.engine_of(model_id)
    if engine is not None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                tokens = await _of_engine(engine, body)
        except (EngineError, TimeoutError):
            tokens = -1
        if tokens >= 0:
            return Counted(tokens, "engine")
    return Counted(upstream_call.prompt_tokens(body, chat=True), "estimate")


async def _of_engine(engine: Engine, body: Mapping[str, Any]) -> int:
    """The engine's count, or -1."""
    prompt_fields = {name: body[name] for name in _PROMPT_FIELDS if name in body}
    rendered = await ask(engine, "/apply-template", prompt_fields)
    prompt = rendered.get("prompt")
    if isinstance(prompt, str):
        question = {"content": prompt, "add_special": True, "parse_special": True}
        tokens = (await ask(engine, "/tokenize", question)).get("tokens")
        return len(tokens) if isinstance(tokens, list) else -1
    counted = await ask(engine, "/tokenize", {"model": engine.model_name, **prompt_fields})
    count = counted.get("count")
    return count if isinstance(count, int) else -1


async def ask(engine: Engine, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """Ask an engine something that needs no place in it; empty where it does not answer that.

    Raises:
        EngineError: The connection failed.
    """
    call = Call(path=path, body=msgspec.json.encode(question), stall_timeout_s=_PATIENCE_S)
    reply = await engine.generate(call)
    try:
        parts: list[bytes] = []
        size = 0
        while (data := await reply.read()) and size <= _ANSWER_BYTES_MAX:
            size += len(data)
            parts.append(data)
    finally:
        await reply.close()
    if reply.status != 200 or size > _ANSWER_BYTES_MAX:
        return {}
    try:
        return msgspec.json.decode(b"".join(parts), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
