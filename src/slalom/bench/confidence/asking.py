"""One completion, asked for and read as an editor does: streamed, or in one piece.

Owns the body and what is noted of the answer. Judges nothing. Called by `live`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from slalom.bench.confidence.holes import Hole
from slalom.bench.confidence.setting import TOKENS_MAX, Way
from slalom.bench.load_client_answer import Answer
from slalom.clock import Clock
from slalom.errors import EngineError
from slalom.metrics.records import NEVER

_PATH = "/v1/completions"
#: Its answers are compared, so nothing may be answered from what was said before.
_HEADERS = {"x-slalom-cache": "off"}
_REQUEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back."""

    request_id: str
    #: From sending to the first text and to the end; an empty answer's first text is its end. ns.
    first_ns: int
    whole_ns: int
    tokens: int
    #: Who wrote it, and what was thought of it (`x-slalom-judged`; empty where nobody looked).
    model: str
    judged: str
    text: str = field(repr=False)

    @property
    def was_cut(self) -> bool:
        """Whether its limit ended it."""
        return self.tokens >= TOKENS_MAX


async def complete(
    session: aiohttp.ClientSession, way: Way, hole: Hole, name: str, clock: Clock
) -> Heard:
    """Ask for what belongs into a hole.

    Args:
        session: With the server's address.
        way: Whom to ask, and how.
        hole: The place.
        name: Of the request.
        clock: For the times.

    Raises:
        EngineError: There is no whole answer.
    """
    headers = {**_HEADERS, "x-request-id": name}
    timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
    began_ns = clock.now_ns()
    async with session.post(_PATH, json=body(way, hole), headers=headers, timeout=timeout) as reply:
        if reply.status != 200:
            raise EngineError(f"{way.name}: status {reply.status}: {await reply.text()}")
        found = await (_streamed(reply, clock) if way.streams else _whole(reply))
        whole_ns = clock.now_ns()
        first_ns, tokens, text = found
        return Heard(
            request_id=reply.headers["x-request-id"],
            first_ns=(whole_ns if first_ns == NEVER else first_ns) - began_ns,
            whole_ns=whole_ns - began_ns,
            tokens=tokens,
            model=reply.headers["x-slalom-model"],
            judged=reply.headers.get("x-slalom-judged", ""),
            text=text,
        )


def body(way: Way, hole: Hole) -> Mapping[str, Any]:
    """The request: up to the end of the line, the likeliest token each time, nothing reused."""
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": way.model,
        "prompt": hole.before,
        "suffix": hole.after,
        "max_tokens": TOKENS_MAX,
        "temperature": 0,
        "stop": ["\n"],
        "cache_prompt": False,
        **(streamed if way.streams else {}),
    }


async def _streamed(reply: aiohttp.ClientResponse, clock: Clock) -> tuple[int, int, str]:
    answer = Answer(reply.status, keep_text=True)
    async for data in reply.content.iter_any():
        answer.feed(data, clock.now_ns())
    answer.end()
    if answer.error_code:
        raise EngineError(f"the answer broke off: {answer.error_code}")
    return answer.first_token_ns, answer.tokens, answer.text


async def _whole(reply: aiohttp.ClientResponse) -> tuple[int, int, str]:
    document = await reply.json()
    return NEVER, document["usage"]["completion_tokens"], document["choices"][0]["text"]
