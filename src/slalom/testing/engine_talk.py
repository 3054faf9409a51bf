"""How the conformance kit talks to an engine: bodies to send, answers read to the end, waiting.

Owns no check. Used by the checks.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from slalom.engines.protocol import Call, Engine, EngineMetrics, Reply
from slalom.testing import patience
from slalom.testing.engine_subject import NotApplicableError, Subject

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
#: Longest wait for something that must happen, seconds: generous, for a busy machine.
PATIENCE_S = 30.0
#: An answer too long to be over before a check acts on it, tokens.
LONG_TOKENS = 3000


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply read to its end."""

    status: int
    text: str
    finish: str | None
    usage: dict[str, int] | None
    reads: int
    document: dict[str, Any] | None = None


@asynccontextmanager
async def running(subject: Subject) -> AsyncIterator[Engine]:
    """An engine of the subject, stopped at the end."""
    engine = await launch(subject)
    try:
        yield engine
    finally:
        await engine.stop(5.0)


async def launch(subject: Subject, replica_id: str = "checked") -> Engine:
    """A fresh engine."""
    return await subject.launcher().launch(replica_id, lambda _fraction: None)


def call(engine: Engine, path: str = COMPLETIONS, *, stall_s: float = 30.0, **more: Any) -> Call:
    """A call with a small prompt in the engine's own words."""
    body: dict[str, Any] = {"model": engine.model_name, "temperature": 0, "seed": 1}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": "Write a function that adds numbers."}]
    elif path == COMPLETIONS:
        body["prompt"] = "def add(first, second):\n"
    body.update(more)
    return Call(path, json.dumps(body).encode(), stall_timeout_s=stall_s)


async def begin_long(engine: Engine, *, tokens: int = LONG_TOKENS, stall_s: float = 30.0) -> Reply:
    """Start a long stream and read its first bytes."""
    reply = await engine.generate(
        call(engine, stream=True, max_tokens=tokens, ignore_eos=True, stall_s=stall_s)
    )
    assert reply.status == 200, f"a stream was answered with status {reply.status}"
    assert await reply.read(), "the stream ended before its first byte"
    return reply


async def ask(engine: Engine, path: str = COMPLETIONS, **more: Any) -> Answer:
    """Send a call and read its answer."""
    return await read_answer(await engine.generate(call(engine, path, **more)))


async def read_answer(reply: Reply, before: bytes = b"") -> Answer:
    """Read a reply to its end, streamed or not."""
    pieces = [before]
    reads = 0
    try:
        while piece := await reply.read():
            pieces.append(piece)
            reads += 1
    finally:
        await reply.close()
    body = b"".join(pieces)
    if not reply.content_type.startswith("text/event-stream"):
        return _whole(reply.status, json.loads(body), reads)
    return _streamed(reply.status, body, reads)


def _whole(status: int, document: dict[str, Any], reads: int) -> Answer:
    choices = document.get("choices") or [{}]
    text = choices[0].get("text") or (choices[0].get("message") or {}).get("content") or ""
    finish = choices[0].get("finish_reason")
    return Answer(status, text, finish, document.get("usage"), reads, document)


def _streamed(status: int, body: bytes, reads: int) -> Answer:
    events = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
    assert events, "a stream without events"
    assert events[-1] == b"[DONE]", "the stream does not end with [DONE]"
    text = ""
    finish: str | None = None
    usage: dict[str, int] | None = None
    for event in events[:-1]:
        document = json.loads(event)
        usage = document.get("usage") or usage
        for choice in document["choices"][:1]:
            text += choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    return Answer(status, text, finish, usage, reads)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """Wait until something holds; the seconds it took.

    Raises:
        AssertionError: It does not hold within `PATIENCE_S`.
    """
    started_s = time.monotonic()
    await patience.until(condition, what, seconds=PATIENCE_S)
    return time.monotonic() - started_s


async def gauges(engine: Engine) -> EngineMetrics:
    """The engine's own figures.

    Raises:
        NotApplicableError: It has none.
    """
    metrics = await engine.metrics()
    if metrics is None:
        raise NotApplicableError("the engine publishes no gauges")
    return metrics
