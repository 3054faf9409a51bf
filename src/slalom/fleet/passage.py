"""One client's request on its way through an ingress, over as many lives of the core as it takes.

Owns what of an answer has been passed on, and so whether the request may be sent again: nothing of
an answer is ever given out twice. Does not own waiting for a core: `ingress` does.
"""

from dataclasses import dataclass, field

from slalom.engines.upstream import UnreachableError
from slalom.engines.upstream_connection import UpstreamReply
from slalom.fleet.broken_off import EVENTS, LINES, end_of_stream, failure_told, only_signs_of_life
from slalom.fleet.core_line import CoreLife
from slalom.fleet.passing_on import Lines, clients_own
from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.frame import openai_error
from slalom.gateway.protocols.registry import Route
from slalom.gateway.replies import Send, send_failure

#: A core may be silent for so long while a request waits; that it lives is asked otherwise, s.
_SILENCE_S = 3600.0
#: An answer with a length of at most this is passed on when it is complete, bytes.
_WHOLE_BYTES_MAX = 64 << 20


@dataclass(eq=False, slots=True)
class Passage:
    """A request with its body, and how far its answer has got."""

    method: str
    #: Path and query.
    target: str
    #: The client's own.
    headers: Lines
    body: bytes
    send: Send
    request_id: str
    #: The inference route; None for anything else.
    route: Route | None = None
    #: Whether asking twice does no more than asking once.
    repeatable: bool = False
    #: Sent to a core so often.
    attempts: int = 0
    #: Whether the head of an answer, and whether any of its words, went to the client.
    head_sent: bool = False
    begun: bool = False
    over: bool = False
    _content_type: str = field(default="", repr=False)

    @property
    def may_repeat(self) -> bool:
        """Whether it can be sent to another life of the core."""
        return not self.over and not self.begun and (self.repeatable or not self.attempts)

    async def attempt(self, life: CoreLife, ours: Lines) -> None:
        """Send it to a core and pass its answer on.

        Args:
            life: The core.
            ours: Headers that tell the core about the request.

        Raises:
            UnreachableError: Nothing was sent.
            EngineError: The core went away; see `may_repeat`.
        """
        method = "GET" if self.method == "HEAD" else self.method
        self.attempts += 1
        try:
            reply = await life.upstream.forward(
                method,
                self.target,
                [*self.headers, *ours],
                self.body,
                stall_timeout_s=_SILENCE_S,
                reuse=self.repeatable,
            )
        except UnreachableError:
            self.attempts -= 1
            raise
        try:
            length = _length(reply)
            if 0 <= length <= _WHOLE_BYTES_MAX:
                await self._pass_whole(reply)
            else:
                await self._pass_stream(reply)
        finally:
            reply.abort()

    async def _pass_whole(self, reply: UpstreamReply) -> None:
        body = await reply.read_all(_WHOLE_BYTES_MAX)
        if self.head_sent:  # a stream was promised, and this is a refusal
            await self.end_badly(failure_told(reply.status, body))
            return
        self.begun = True
        length = (b"content-length", b"%d" % len(body))
        await self._head(reply.status, [*clients_own(reply.headers or ()), length])
        await self._body(body, more=False)

    async def _pass_stream(self, reply: UpstreamReply) -> None:
        if not self.head_sent:
            self._content_type = reply.content_type
            await self._head(reply.status, clients_own(reply.headers or ()))
        is_events = reply.content_type.startswith(EVENTS)
        while piece := await reply.read():
            if not self.begun:
                self.begun = not (is_events and only_signs_of_life(piece))
            await self._body(piece, more=True)
        await self._body(b"", more=False)

    async def end_badly(self, failure: Failure) -> None:
        """Tell the client that there will be no (more of an) answer, in its protocol's words."""
        protocol = self.route.protocol if self.route is not None else None
        write = openai_error if protocol is None else protocol.error_body
        document = write(failure, self.request_id)
        if not self.head_sent:
            self.head_sent = self.over = True
            headers = [(b"x-request-id", self.request_id.encode())]
            await send_failure(self.send, failure, document, headers)
            return
        name = protocol.name if protocol is not None else ""
        if self._content_type.startswith((EVENTS, LINES)):
            last = end_of_stream(name, self._content_type, failure, document)
            await self._body(last, more=False)
        # Anything else is cut off by its connection's end: its length or last chunk is missing.

    async def _head(self, status: int, headers: Lines) -> None:
        self.head_sent = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, data: bytes, *, more: bool) -> None:
        if data or not more:
            self.over = not more
            await self.send({"type": "http.response.body", "body": data, "more_body": more})


def _length(reply: UpstreamReply) -> int:
    """Of the answer's body, bytes; -1 where it comes in pieces."""
    for name, value in reply.headers or ():
        if name == b"content-length" and value.isdigit():
            return int(value)
    return -1
