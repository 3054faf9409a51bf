"""The core's side of what ingresses pass on: lets them in, and nobody else.

Owns the check of the fleet's secret, the request's true time of arrival and client, and that one
request is never worked on twice: sent again, it takes the place of its earlier self, whose
connection is dead. Stands in front of the gateway as its server's application.
"""

import asyncio
import time
from dataclasses import dataclass, field

from slalom.fleet.core_line import PING_PATH
from slalom.fleet.passing_on import PassedOn, read_passed_on, without_ours
from slalom.gateway.departure import ON_GONE
from slalom.gateway.error_table import failure_of
from slalom.gateway.inference import ARRIVED_NS
from slalom.gateway.params import GatewayParams
from slalom.gateway.replies import Receive, Scope, Send, error_body, send_body, send_failure
from slalom.gateway.server import HttpApp

#: Longest wait for a request's earlier self to end, s.
_EARLIER_S = 5.0


@dataclass(eq=False, slots=True)
class _Visit:
    """A request that is inside."""

    scope: Scope
    task: "asyncio.Task[object] | None"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """As if its client had left, which it has."""
        tell = self.scope.get(ON_GONE)
        if tell is not None:
            tell()
        elif self.task is not None:
            self.task.cancel()


class FrontDoor:
    """The ASGI application of the core's server.

    Args:
        gateway: What answers.
        secret: The fleet's.
        life: Name of this life of the core.
    """

    def __init__(self, gateway: HttpApp, secret: str, life: str) -> None:
        self._gateway = gateway
        self._secret = secret
        self._life = life.encode()
        self._inside: dict[str, _Visit] = {}
        #: Requests that took the place of their earlier selves.
        self.replaced = 0

    def __repr__(self) -> str:
        return f"<FrontDoor inside={len(self._inside)}>"

    @property
    def params(self) -> GatewayParams:
        """The bounds of its connections."""
        return self._gateway.params

    def start_draining(self) -> None:
        """Take nothing new from now on."""
        self._gateway.start_draining()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._gateway(scope, receive, send)
            return
        told = read_passed_on(scope["headers"], self._secret)
        if told is None:
            failure = failure_of(
                "invalid_api_key", "Only the ingresses of this fleet come in here."
            )
            await send_failure(send, failure, error_body(failure))
        elif scope["path"] == PING_PATH:
            await send_body(send, 200, self._life, content_type=b"text/plain")
        else:
            await self._let_in(told, scope, receive, send)

    async def _let_in(self, told: PassedOn, scope: Scope, receive: Receive, send: Send) -> None:
        arrived_ns = time.monotonic_ns() - told.age_us * 1000
        scope["headers"] = without_ours(scope["headers"])
        scope["client"] = (told.client, 0) if told.client else None
        scope[ARRIVED_NS] = arrived_ns
        try:
            await self._end_earlier(told.token)
        except TimeoutError:
            failure = failure_of("duplicate_request_id")
            await send_failure(send, failure, error_body(failure))
            return
        visit = self._inside[told.token] = _Visit(scope, asyncio.current_task())
        try:
            await self._gateway(scope, receive, send)
        finally:
            visit.over.set()
            if self._inside.get(told.token) is visit:
                del self._inside[told.token]

    async def _end_earlier(self, token: str) -> None:
        while (earlier := self._inside.get(token)) is not None:
            self.replaced += 1
            earlier.end()
            async with asyncio.timeout(_EARLIER_S):
                await earlier.over.wait()
