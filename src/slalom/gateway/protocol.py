"""uvicorn's HTTP protocol with bounds on heads and connections, and a call when a client leaves.

Owns what must be refused before there is a request for the app, in the same error shape as all
else. Does not know routes or runtime. Used by `server`.
"""

import asyncio
import secrets
from typing import Any, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from slalom.gateway.departure import ON_GONE
from slalom.gateway.error_table import failure_of
from slalom.gateway.params import GatewayParams
from slalom.gateway.replies import error_body, error_headers

#: A connection that is one too many may ask for so long before it is closed, seconds.
_SURPLUS_S = 1.0
#: What uvicorn writes for `Expect: 100-continue`; the client waits for it.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: A body that was refused is read on for this many times the largest body, then cut off.
_DISCARD_FACTOR = 4


class BoundedConfig(Config):
    """uvicorn's configuration with the gateway's parameters."""

    params: GatewayParams


class _RefusedError(Exception):
    """Stops the parser; what to answer is in the protocol."""


class HeldHead:
    """A transport that writes the head of an answer together with what follows it.

    One system call and one wake-up of the client less for every answer.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        """Hold the first write back until the second."""
        if self._head is None or data == _CONTINUE:
            self._transport.write(data)
        elif self._head:
            self._transport.write(self._head + data)
            self._head = None
        else:
            self._head = data

    def close(self) -> None:
        """Write what is held, then close."""
        if self._head:
            self._transport.write(self._head)
        self._head = None
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport itself."""
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._params = config.params
        #: Code of the error table to answer instead of the app.
        self._refusal = ""
        self._in_head = True
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._discarded_bytes = 0
        #: Runs while a head, or a body, is on its way; not for requests that come in one piece.
        self._late_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; a silent one does not stay for ever."""
        super().connection_made(transport)
        allowed_s = self._params.header_timeout_s
        if len(self.connections) > self._params.connections_max:
            self._refusal = "too_many_connections"
            allowed_s = _SURPLUS_S
        self._late_timer = self.loop.call_later(allowed_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the task that serves this client."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        super().connection_lost(exc)
        self._stop_late_timer()
        if cycle is not None and not cycle.response_complete:
            tell = cast("dict[str, Any]", cycle.scope).get(ON_GONE)
            if tell is not None:
                tell()

    def data_received(self, data: bytes) -> None:
        """Parse, within the bounds of a head."""
        self._unset_keepalive_if_required()
        self._chunk_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing is upgraded here: the request is answered as it stands
        except httptools.HttpParserError:
            self._refuse(self._refusal or "invalid_http")
            return
        if self._in_head and self._head_bytes > self._params.header_bytes_max:
            self._refuse("headers_too_large")
        elif self._late_timer is None and (self._head_bytes or not self._in_head):
            params = self._params
            allowed_s = params.header_timeout_s if self._in_head else params.body_timeout_s
            self._late_timer = self.loop.call_later(allowed_s, self._late)

    def on_message_begin(self) -> None:
        """Begin a request; the app may leave a call for when the client goes."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[ON_GONE] = None

    def on_headers_complete(self) -> None:
        """Start the app, unless the request is refused."""
        self._in_head = False
        self._stop_late_timer()
        limit = self._params.header_bytes_max
        if max(self._head_bytes, self._chunk_bytes) > limit:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limit:
                self._refusal = "headers_too_large"
        if self._refusal:
            raise _RefusedError
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # nothing follows the head of such an answer
            self.cycle.transport = cast("asyncio.Transport", HeldHead(self.transport))

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; what comes after the answer is thrown away, within bounds.

        Closing at once instead would reset the connection before the client has read why.
        """
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > _DISCARD_FACTOR * self._params.body_bytes_max:
                self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there: read on, so that a client's leaving is noticed."""
        self._in_head = True
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._stop_late_timer()
        super().on_message_complete()
        self.flow.resume_reading()

    def _late(self) -> None:
        """A head that does not come is closed; a body that does not come is told so."""
        self._late_timer = None
        if self._in_head or self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse("body_timeout")

    def _stop_late_timer(self) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
            self._late_timer = None

    def _refuse(self, code: str) -> None:
        """Answer without the app, and close."""
        if self.transport.is_closing():
            return
        failure = failure_of(code)
        body = error_body(failure)
        lines = [
            STATUS_LINE[failure.status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n" % len(body),
            b"x-request-id: conn-%s\r\n" % secrets.token_hex(6).encode(),
            *(b"%s: %s\r\n" % header for header in error_headers(failure)),
            b"\r\n",
            body,
        ]
        self.transport.write(b"".join(lines))
        self.transport.close()
