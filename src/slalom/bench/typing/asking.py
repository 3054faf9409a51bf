"""One request of an editor or of the background, streamed, with what it took.

Owns sending and reading; whoever cancels the call closes the connection, as editors do. Judges
nothing. Called by the typists and the background.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from slalom.bench.load_client_answer import Answer
from slalom.clock import Clock
from slalom.metrics.records import NEVER

#: Says that an answer came out of the completion cache.
CACHE_HEADER = "x-slalom-cache"


@dataclass(slots=True)
class Heard:
    """What came back, kept up to date while it comes."""

    #: When the request left, and when its first text came; `NEVER` before. ns of the clock.
    sent_ns: int = NEVER
    first_ns: int = NEVER
    #: When the answer was whole; `NEVER` for one that never was, or that has no word because a
    #: newer request took its place.
    whole_ns: int = NEVER
    #: Tokens that came, as the server counts them where it says.
    tokens: int = 0
    text: str = field(default="", repr=False)
    #: Why there is no whole answer, for what is neither whole nor cut by us.
    failed: str = ""
    #: Whether the server says that a newer request took its place.
    replaced: bool = False
    #: Whether the server had it from its cache.
    cached: bool = False


async def ask(
    session: aiohttp.ClientSession,
    path: str,
    fields: Mapping[str, Any],
    heard: Heard,
    *,
    clock: Clock,
    headers: Mapping[str, str],
) -> None:
    """Send a request and read its stream to the end.

    Args:
        session: With the server's address.
        path: For example ``/v1/completions``.
        fields: Of the body; streaming and usage are added.
        heard: Filled in; what came before a cancellation stays.
        clock: For the times.
        headers: Sent along.
    """
    body = {**fields, "stream": True, "stream_options": {"include_usage": True}}
    sent = {"content-type": "application/json", **headers}
    answer = Answer(0, keep_text=True)
    heard.sent_ns = clock.now_ns()
    try:
        async with session.post(path, data=json.dumps(body), headers=sent) as response:
            answer.begin(response.status, response.headers)
            async for data in response.content.iter_any():
                answer.feed(data, clock.now_ns())
                heard.tokens, heard.first_ns = answer.tokens, answer.first_token_ns
            answer.end()
    except (aiohttp.ClientError, OSError) as problem:
        heard.failed = type(problem).__name__
        return
    heard.text, heard.replaced = answer.text, answer.replaced
    heard.cached = answer.headers.get(CACHE_HEADER) == "hit"
    heard.failed = answer.error_code
    if not heard.failed and not heard.replaced:
        heard.whole_ns = clock.now_ns()
        if heard.first_ns == NEVER:  # nothing belongs there: that, too, is an answer
            heard.first_ns = heard.whole_ns
