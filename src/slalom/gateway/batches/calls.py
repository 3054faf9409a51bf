"""Answers the lines of batches inside this process, by the very path of a client's request.

Owns the request that stands for a line: its headers, its key, its deadline, and the reading of the
answer. Bounds, keys, task rules, records and errors are those of every request. Called by the
runner of batches.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from slalom.batches.answering import Answer, LineCall
from slalom.core.actions import EndRequest
from slalom.gateway.app import Gateway
from slalom.gateway.auth import AccessError
from slalom.gateway.batches.idle import IdlePlaces
from slalom.gateway.declared import LOWEST_TASK
from slalom.gateway.departure import ON_GONE
from slalom.gateway.error_table import failure_of_error
from slalom.gateway.replies import Message, error_body

#: Statuses that may be better next time, unless the answer says otherwise.
_RETRYABLE = frozenset((408, 409, 429, 500, 502, 503, 504))


class InsideCalls:
    """Answers lines through a gateway.

    Args:
        gateway: The application, as the server has it.
        idle: Looks for room.
    """

    def __init__(self, gateway: Gateway, idle: IdlePlaces) -> None:
        self._gateway = gateway
        self._shared = gateway.shared
        self._idle = idle
        #: Begins the ids of lines' requests, by which their ends are told from clients'.
        self._prefix = f"line-{secrets.token_hex(4)}-"
        self._numbers = count(1)
        self._inside = 0
        self._shared.runtime.on_end.append(self._ended)

    async def answer(self, call: LineCall) -> Answer:
        """Serve a line; whatever goes wrong is an answer too."""
        try:
            secret = self._shared.keys.stand_in(call.owner)
        except AccessError as problem:
            failure = failure_of_error(problem)
            return Answer(failure.status, self._shared.new_id(), error_body(failure))
        request_id = f"{self._prefix}{next(self._numbers)}"
        exchange = _Exchange(call.body)
        scope = {
            "type": "http",
            "method": "POST",
            "path": call.endpoint,
            "query_string": b"",
            "headers": _headers(call, request_id, secret),
            "client": None,
            # Nobody hangs up on a line: to give it up, its task is cancelled.
            ON_GONE: None,
        }
        self._inside += 1
        try:
            await self._gateway(scope, exchange.receive, exchange.send)
        finally:
            self._inside -= 1
        return exchange.answer()

    def _ended(self, end: EndRequest) -> None:
        if not end.request_id.startswith(self._prefix):
            self._idle.seen(end.model, self._shared.runtime.now_ns())

    def model_of(self, name: str) -> str:
        """The id of the model that a name stands for."""
        return self._shared.catalogue.find(name).model.id

    def rooms(self, ours: Mapping[str, int]) -> Mapping[str, int]:
        """How many lines may be started now."""
        runtime = self._shared.runtime
        clients = len(self._shared.inside) - self._inside
        return self._idle.rooms(runtime.snapshot(), ours, clients, runtime.now_ns())

    def accepting(self) -> bool:
        """Whether the server takes requests."""
        return not self._shared.draining


@dataclass(slots=True)
class _Exchange:
    """Both sides of one ASGI call."""

    body: bytes
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    read: bool = False

    async def receive(self) -> Message:
        """The body, and then nothing for ever."""
        if self.read:
            await asyncio.get_running_loop().create_future()
        self.read = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Keep what is answered."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            self.parts.append(message.get("body", b""))

    def answer(self) -> Answer:
        """The answer, once it is complete."""
        advice = self.headers.get(b"retry-after", b"")
        final = self.headers.get(b"x-should-retry") == b"false"
        return Answer(
            status=self.status,
            request_id=self.headers.get(b"x-request-id", b"").decode("latin-1"),
            body=b"".join(self.parts),
            retryable=not final and self.status in _RETRYABLE,
            retry_after_s=float(advice) if advice.isdigit() else 0.0,
        )


def _headers(call: LineCall, request_id: str, secret: bytes) -> list[tuple[bytes, bytes]]:
    """All targets are the window's end: no line may name one that is sooner."""
    left_ms = b"%d" % max(1, int(call.left_s * 1000))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(call.body)),
        (b"user-agent", b"slalom-batch"),
        (b"x-request-id", request_id.encode()),
        (b"x-slalom-task", LOWEST_TASK.encode()),
        (b"x-slo-ttft-ms", left_ms),
        (b"x-slo-tpot-ms", left_ms),
        (b"x-slo-e2e-ms", left_ms),
    ]
    if secret:
        headers.append((b"authorization", b"Bearer " + secret))
    return headers
