"""Answers watched from outside: when each token came, and how long an engine's steps took.

Owns the sending of one generation with an exact number of tokens in and out, and the reading of
step times from the arrivals of several streams: each running stream gets one token a step.
Looks at nothing inside the engine. Called by `calibrate_probe`.
"""

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from slalom.clock import Clock
from slalom.engines.protocol import Call, Reply
from slalom.errors import EngineError

_PATH = "/v1/completions"
#: Token ids that every vocabulary has and none uses for control: bytes or ordinary pieces.
_IDS_FROM, _IDS = 40, 200
#: So many tokens show that a stream is well under way.
_UNDER_WAY = 8
_STALL_S = 30.0


class Asked(Protocol):
    """An engine, as far as it answers."""

    model_name: str

    async def generate(self, call: Call) -> Reply:
        """As `Engine.generate`."""
        ...


@dataclass(slots=True)
class Stream:
    """One generation as its client saw it."""

    #: As wished; as the engine counted them once it has said so.
    prompt_tokens: int
    #: What is sent; without it the prompt is made of token ids.
    text: str = ""
    sent_ns: int = 0
    #: Arrival of each piece of text, ns.
    arrivals_ns: list[int] = field(default_factory=list)
    ended_ns: int = 0
    #: Arrival of the first event of the answer, with or without text, ns; 0 before.
    event_ns: int = 0
    #: Output tokens as the engine counted them; text held back until a character is whole makes
    #: fewer pieces than tokens.
    output_tokens: int = 0
    #: Set once it is well under way, and at each token after that; also when it has ended.
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def first_ns(self) -> int:
        """Time to the first token, ns."""
        return self.arrivals_ns[0] - self.sent_ns

    async def next_token(self) -> None:
        """Wait until another token has come, or the stream has ended."""
        if not self.ended_ns:
            self.under_way.clear()
            await self.under_way.wait()


def prompt(tokens: int, salt: int) -> list[int]:
    """Token ids of a prompt; another `salt` gives one that shares no beginning with it."""
    return [_IDS_FROM + (salt * 7919 + index * (2 * salt + 31)) % _IDS for index in range(tokens)]


async def watch(
    engine: Asked,
    clock: Clock,
    stream: Stream,
    *,
    salt: int,
    output_tokens: int,
    place: int | None = None,
) -> Stream:
    """Send one generation and fill `stream` while its answer arrives.

    Args:
        engine: Asked.
        clock: Told of every piece of text.
        stream: What is sent, and what is filled.
        salt: Of its prompt.
        output_tokens: Exact length of the answer.
        place: llama.cpp's slot it is to run in; None for any.

    Raises:
        EngineError: The engine refused it or failed.
    """
    body: dict[str, Any] = {
        "model": engine.model_name,
        "prompt": stream.text or prompt(stream.prompt_tokens, salt),
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "cache_prompt": False,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if place is not None:
        body["id_slot"] = place
    call = Call(_PATH, json.dumps(body).encode(), stall_timeout_s=_STALL_S)
    stream.sent_ns = clock.now_ns()
    reply = await engine.generate(call)
    try:
        if reply.status != 200:
            said = (await reply.read())[:200].decode("utf-8", "replace")
            raise EngineError(f"the engine refused a probe with status {reply.status}: {said}")
        rest = b""
        while data := await reply.read():
            *events, rest = (rest + data).split(b"\n\n")
            _take(stream, events, clock.now_ns())
    finally:
        stream.ended_ns = clock.now_ns()
        stream.under_way.set()
        await reply.close()
    if not stream.arrivals_ns and stream.event_ns:
        # The only token was a part of a character, whose text never comes.
        stream.arrivals_ns.append(stream.event_ns)
    if not stream.arrivals_ns:
        raise EngineError("the engine streamed no token: it cannot be calibrated by streaming")
    return stream


def _take(stream: Stream, events: Sequence[bytes], now_ns: int) -> None:
    for event in events:
        line = event.strip()
        if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
            continue
        document = json.loads(line[len(b"data:") :])
        usage = document.get("usage") or {}
        stream.output_tokens = usage.get("completion_tokens", stream.output_tokens)
        # 0 is what engines say that do not count.
        stream.prompt_tokens = usage.get("prompt_tokens") or stream.prompt_tokens
        if document.get("choices") and not stream.event_ns:
            stream.event_ns = now_ns
        if any(choice.get("text") for choice in document.get("choices") or ()):
            stream.arrivals_ns.append(now_ns)
    if len(stream.arrivals_ns) >= _UNDER_WAY:
        stream.under_way.set()


def step_ns(streams: Sequence[Stream]) -> int:
    """The mean step while all of these streams wrote; 0 if they hardly did at a time.

    Counts tokens rather than looking at gaps, because a client that was held up for a moment sees
    several steps' tokens at once.
    """
    from_ns = max(stream.arrivals_ns[0] for stream in streams)
    to_ns = min(stream.arrivals_ns[-1] for stream in streams)
    paces = []
    for stream in streams:
        inside = [at for at in stream.arrivals_ns if from_ns <= at <= to_ns]
        if len(inside) < _UNDER_WAY:
            return 0
        tokens_each = max(stream.output_tokens / len(stream.arrivals_ns), 1.0)
        paces.append((inside[-1] - inside[0]) / ((len(inside) - 1) * tokens_each))
    return round(statistics.median(paces))
