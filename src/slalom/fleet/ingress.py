"""An ingress: takes clients, passes their requests on to the core, holds them while it is away.

Owns no state that outlives a request, so that there may be many and each may die. A request whose
answer has not begun waits, within bounds, for the next life of the core, and counts from its first
arrival there. Its server's application; `ray_ingress` runs it.
"""

import asyncio
import logging
import os
import secrets
import time
from dataclasses import dataclass, replace
from itertools import count

from slalom.engines.upstream import UnreachableError
from slalom.errors import EngineError, OverloadedError, SlalomError
from slalom.fleet.core_line import CoreLine
from slalom.fleet.passage import Passage
from slalom.fleet.passing_on import PassedOn, clients_own
from slalom.gateway.auth import AccessError, Keys
from slalom.gateway.departure import Departure
from slalom.gateway.error_table import Failure, failure_of, failure_of_error
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols.registry import Protocols, Route
from slalom.gateway.replies import Receive, Scope, Send, error_body, send_failure, send_json
from slalom.gateway.request_body import ClientGoneError, read_body
from slalom.gateway.request_head import read_head

_log = logging.getLogger(__name__)

STATUS_PATH = "/ingress"
#: Methods of which asking twice does no more than asking once.
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class IngressParams:
    """Bounds of what is held. Every wait for a core ends."""

    #: The fleet's secret.
    secret: str
    #: Longest wait for cores, from a request's first trouble on, s.
    hold_s: float = 30.0
    #: Requests that wait for a core at a time.
    hold_max: int = 1024
    #: A request is sent to no more lives of the core than this.
    attempts_max: int = 5


class Ingress:
    """The ASGI application.

    Args:
        line: The way to the core; its `run` is somebody else's to start.
        gateway: Bounds of connections and bodies, and the keys.
        params: Bounds of what is held.
    """

    def __init__(self, line: CoreLine, gateway: GatewayParams, params: IngressParams) -> None:
        self._line = line
        self._gateway = gateway
        self._params = params
        self._keys = Keys(gateway.keys)
        self._routes = Protocols(gateway).routes
        self._draining = False
        self._bytes_inside = 0
        self._id_head = secrets.token_hex(4)
        self._id_numbers = count(1)
        self.inside = 0
        #: Waiting for a core now; and since the start: sent again, given up.
        self.held = 0
        self.resent = 0
        self.given_up = 0

    def __repr__(self) -> str:
        return f"<Ingress inside={self.inside} held={self.held}>"

    @property
    def params(self) -> GatewayParams:
        """The bounds of its connections."""
        return self._gateway

    def start_draining(self) -> None:
        """Take nothing new from now on."""
        self._draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        if scope["path"] == STATUS_PATH:
            await send_json(send, self.status())
            return
        departure = Departure(scope, receive)
        self.inside += 1
        body_bytes = 0
        try:
            self._admit()
            arrived_ns = time.monotonic_ns()
            body = await self._body(scope, receive)
            body_bytes = len(body)
            self._bytes_inside += body_bytes
            passage, told = self._begin(scope, body, send)
            departure.watch()
            await self._pass(passage, told, arrived_ns, scope)
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            if not departure.explains_cancellation():
                raise
        except SlalomError as problem:
            await self._refuse(scope, send, failure_of_error(problem))
        finally:
            departure.ignore()
            self.inside -= 1
            self._bytes_inside -= body_bytes

    def status(self) -> dict[str, object]:
        """What there is to see of it."""
        life = self._line.life
        return {
            "status": "draining" if self._draining else "ok",
            "pid": os.getpid(),
            "core": {
                "reachable": life is not None,
                "life": life.address.life if life is not None else None,
                "pid": life.address.pid if life is not None else None,
            },
            "inside": self.inside,
            "held": self.held,
            "resent": self.resent,
            "given_up": self.given_up,
        }

    def _admit(self) -> None:
        if self._draining:
            raise OverloadedError("The server is shutting down.", retry_after_s=5, code="draining")
        most = self._gateway.inflight_max
        if self.inside > most:
            raise OverloadedError(
                f"There are already {most} requests in this ingress.",
                retry_after_s=1,
                code="too_many_requests",
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = read_head(scope["headers"], frozenset()).content_length
        if self._bytes_inside + max(declared, 0) > self._gateway.bodies_bytes_max:
            raise OverloadedError(
                "The bodies of all requests in this ingress are too large together.",
                retry_after_s=1,
                code="too_many_bytes",
            )
        bytes_max = self._gateway.body_bytes_max
        return await read_body(receive, declared_bytes=declared, bytes_max=bytes_max)

    def _begin(self, scope: Scope, body: bytes, send: Send) -> tuple[Passage, PassedOn]:
        token = f"{self._id_head}-{next(self._id_numbers)}"
        headers = clients_own(scope["headers"])
        request_id = read_head(headers, frozenset()).request_id
        if not request_id:  # the same request has the same id, however often a core sees it
            request_id = f"req-{token}"
            headers = [line for line in headers if line[0] != b"x-request-id"]
            headers.append((b"x-request-id", request_id.encode()))
        query = scope.get("query_string", b"")
        target = scope.get("raw_path") or scope["path"].encode()
        if query:
            target += b"?" + query
        route = self._route(scope)
        passage = Passage(
            scope["method"],
            target.decode("latin-1"),
            headers,
            body,
            send,
            request_id,
            route,
            repeatable=route is not None or scope["method"] in _SAFE,
        )
        client = (scope.get("client") or ("",))[0]
        return passage, PassedOn(0, token, client)

    def _route(self, scope: Scope) -> Route | None:
        return self._routes.get(scope["path"]) if scope["method"] == "POST" else None

    async def _pass(self, passage: Passage, told: PassedOn, arrived_ns: int, scope: Scope) -> None:
        """Send it to the core until it has its answer, or may not be sent again."""
        patience = _Patience(self._params.hold_s)
        while True:
            life = self._line.life
            if life is None:
                if not await self._hold(scope, patience):
                    self.given_up += 1
                    await passage.end_badly(failure_of("core_away"))
                    return
                continue
            age_us = (time.monotonic_ns() - arrived_ns) // 1000
            ours = replace(told, age_us=age_us).headers(self._params.secret)
            try:
                await passage.attempt(life, ours)
                return
            except UnreachableError:
                self._line.suspect(life)
                patience.begin()
            except EngineError:
                if passage.over:
                    return
                self._line.suspect(life)
                patience.begin()
                if not passage.may_repeat or passage.attempts >= self._params.attempts_max:
                    await passage.end_badly(failure_of("core_lost"))
                    return
                self.resent += 1

    async def _hold(self, scope: Scope, patience: "_Patience") -> bool:
        """Wait for a core; False where there is none in time, or no room to wait."""
        seconds = patience.left_s()
        if self.held >= self._params.hold_max or seconds <= 0 or not self._is_known(scope):
            return False
        self.held += 1
        try:
            async with asyncio.timeout(seconds):
                await self._line.ready()
        except TimeoutError:
            return False
        finally:
            self.held -= 1
        return True

    def _is_known(self, scope: Scope) -> bool:
        """Whether its key is good, where keys are needed: nobody else is waited for."""
        head = read_head(scope["headers"], frozenset())
        try:
            self._keys.caller(head.authorization, head.api_key)
        except AccessError:
            return False
        return True

    async def _refuse(self, scope: Scope, send: Send, failure: Failure) -> None:
        route = self._route(scope)
        document = error_body(failure) if route is None else route.protocol.error_body(failure, "")
        await send_failure(send, failure, document)


@dataclass(eq=False, slots=True)
class _Patience:
    """How long a request may still wait for cores, from its first trouble on."""

    seconds: float
    _until_s: float = -1.0

    def begin(self) -> None:
        """The first trouble is here, unless it was before."""
        if self._until_s < 0:
            self._until_s = time.monotonic() + self.seconds

    def left_s(self) -> float:
        """Seconds that are left."""
        self.begin()
        return self._until_s - time.monotonic()
