"""Clients that know what they were told: each token names its request and its place.

Owns the sending, in time and beside each other, and the judgement of one answer. Knows nothing of
Ray. Used by the fault tests.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

#: Error codes that tell a client clearly to come again.
RETRYABLE = frozenset({500, 502, 503, 504, 429})
#: What becomes of a request whose ingress died: nobody is left to tell more.
CONNECTION_LOST = "connection lost"


@dataclass(slots=True)
class Outcome:
    """One request, and what its client saw."""

    id: str
    url: str
    tokens_asked: int
    sent_s: float
    ended_s: float = 0.0
    status: int = 0
    #: Of the error, where there was one.
    code: str = ""
    message: str = ""
    retry_after: str = ""
    said: list[str] = field(default_factory=list)
    #: How many times the stream said that it is over.
    dones: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is all there, once, in order, and nobody else's."""
        return not self.code and self.dones == 1 and self.said == self.expected()

    @property
    def took_s(self) -> float:
        """From sending to the end."""
        return self.ended_s - self.sent_s

    def expected(self) -> list[str]:
        """The whole answer, token by token."""
        return [f"{self.id}:{place}" for place in range(self.tokens_asked)]

    def wrong(self, bound_s: float) -> str:
        """What is not as it has to be; empty if all is."""
        if self.said != self.expected()[: len(self.said)]:
            return f"{self.id} was told {self.said}"
        if self.took_s > bound_s:
            return f"{self.id} took {self.took_s:.1f} s"
        if self.whole or self.code == CONNECTION_LOST:
            return ""
        if not self.code:
            return f"{self.id} ended after {len(self.said)} tokens without a word"
        if self.status != 200 and self.status not in RETRYABLE:
            return f"{self.id} got {self.status} {self.code}"
        return "" if self.message else f"{self.id} got {self.code} without a message"


class Traffic:
    """Requests for several models by several ingresses, at an even pace.

    Args:
        name: Beginning of the ids.
        urls: Of the ingresses, in turn.
        models: In turn.
        per_s: Requests per second.
        tokens: Of each answer.
        headers: Of every request: authorisation.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        models: Sequence[str],
        per_s: float,
        tokens: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._per_s, self._tokens = name, per_s, tokens
        self._headers = headers
        self._turns = itertools.cycle([(url, model) for model in models for url in urls])
        self.outcomes: list[Outcome] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, seconds: float) -> None:
        """Send for a time; what was sent goes on after it."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            for number in range(round(seconds * self._per_s)):
                url, model = next(self._turns)
                self._tasks.append(
                    asyncio.create_task(self._one(session, url, model, f"r-{self._name}-{number}"))
                )
                await asyncio.sleep(1 / self._per_s)
            await asyncio.gather(*self._tasks)

    async def _one(self, session: aiohttp.ClientSession, url: str, model: str, name: str) -> None:
        self.outcomes.append(await ask(session, url, model, name, self._tokens))


async def ask(
    session: aiohttp.ClientSession, url: str, model: str, name: str, tokens: int
) -> Outcome:
    """One streamed completion, read to its end."""
    outcome = Outcome(name, url, tokens, time.monotonic())
    body = {"model": model, "prompt": f"<{name}>", "max_tokens": tokens, "stream": True}
    headers = {"x-request-id": name}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with session.post(
            f"{url}/v1/completions", json=body, headers=headers, timeout=timeout
        ) as reply:
            outcome.status = reply.status
            outcome.retry_after = reply.headers.get("retry-after", "")
            if reply.status != 200:
                _note(outcome, (await reply.json()).get("error"))
            else:
                async for line in reply.content:
                    _line(outcome, line.strip())
    except (aiohttp.ClientError, OSError, TimeoutError):
        outcome.code = outcome.code or CONNECTION_LOST
    outcome.ended_s = time.monotonic()
    return outcome


def _line(outcome: Outcome, line: bytes) -> None:
    if not line.startswith(b"data:"):
        return
    data = line[5:].strip()
    if data == b"[DONE]":
        outcome.dones += 1
        return
    document = json.loads(data)
    if "error" in document:
        _note(outcome, document["error"])
    for choice in document.get("choices", ()):
        outcome.said += choice.get("text", "").split()


def _note(outcome: Outcome, error: object) -> None:
    fields = error if isinstance(error, dict) else {}
    outcome.code = str(fields.get("code") or fields.get("type") or "error without a code")
    outcome.message = str(fields.get("message") or "")
