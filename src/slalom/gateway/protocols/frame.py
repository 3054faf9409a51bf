"""What a protocol is to the gateway: a table of routes with a reading and a writing side.

Owns the shapes only: what a protocol is asked, what it answers, how an answer is written. Every
request is turned into the internal form, which is OpenAI's, because every engine speaks that.
Filled by one file per protocol, read by `registry`, `inference`, `preparation` and `cold_routes`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from slalom.gateway import request_body
from slalom.gateway.error_table import Failure
from slalom.gateway.params import GatewayParams, KeyEntry
from slalom.gateway.replies import error_body
from slalom.gateway.shared import Shared


class Writer(Protocol):
    """Writes the answer to one request in its protocol's words. Made anew for each request."""

    #: Content type of a streamed answer; empty takes the engine's.
    stream_type: bytes
    #: Whether the end of a streamed answer has been given out; nothing may follow it.
    ended: bool

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for bytes of the engine's stream, which may be cut anywhere."""
        ...

    def finish(self) -> bytes:
        """What is left to say when the engine's stream is over."""
        ...

    def whole(self, body: bytes) -> bytes:
        """The client's answer for the engine's, not streamed.

        Raises:
            EngineError: The engine's answer cannot be read.
        """
        ...

    def sign_of_life(self, text: str) -> bytes:
        """What keeps a waiting client patient: a comment, a ping, an empty line.

        Args:
            text: What it waits for, for people; one line.
        """
        ...

    def failed(self, failure: Failure) -> bytes:
        """The end of a stream that had begun and cannot go on."""
        ...


@dataclass(slots=True)
class Asked:
    """An inference request as its protocol sees it."""

    request_id: str
    path: str
    raw: bytes
    #: The parsed body; not to be written to.
    body: dict[str, Any]
    #: Those that the protocol asks for in its table, and those that declare tasks; lower case.
    headers: Mapping[str, str]
    key: KeyEntry | None
    #: Unix time, seconds.
    received_s: int = 0


@dataclass(slots=True)
class Internal:
    """The same request in the internal form."""

    #: Chat completions, completions or embeddings (`resolution`'s paths).
    path: str
    #: OpenAI's fields, with `model` as the client wrote it and `stream` where it wants one.
    body: dict[str, Any]
    writer: Writer
    #: The client's own bytes where they mean the same as `body`; else empty.
    raw: bytes = b""
    #: What the client should be told about its request (`x-slalom-notice`).
    notices: tuple[str, ...] = ()
    #: What it takes besides its own body, from what the protocol keeps, bytes.
    more_bytes: int = 0
    #: Whether a completion is meant for the cursor of an editor, also where nothing is behind it.
    at_cursor: bool = False
    #: Whether there is nothing to do where the model is not up: it is only to be let go.
    lets_go: bool = False


#: Reads a body.
#:
#: Raises:
#:     RequestError: `param` names the field as this protocol calls it.
ReadBody = Callable[[Asked], Internal]


@dataclass(slots=True)
class SideAsk:
    """A request for a side route."""

    request: Request
    shared: Shared
    key: KeyEntry | None
    #: Bytes of its body; given back when it has been answered.
    body_bytes: int = 0

    async def document(self) -> dict[str, Any]:
        """The JSON body, read within the gateway's bounds.

        Raises:
            RequestError: It is too large, or not a JSON object.
            OverloadedError: There is no room for it now.
        """
        kind = self.request.headers.get("content-type", "")
        request_body.check_media_type(kind.encode("latin-1"))
        return request_body.parse(await self.body())

    async def body(self) -> bytes:
        """The body as it came, read within the gateway's bounds.

        Raises:
            RequestError: It is too large.
            OverloadedError: There is no room for it now.
        """
        declared = self.request.headers.get("content-length", "")
        raw = await request_body.read_body(
            self.request.receive,
            declared_bytes=int(declared) if declared.isdecimal() else -1,
            bytes_max=self.shared.params.body_bytes_max,
        )
        self.shared.take_bytes(len(raw))
        self.body_bytes += len(raw)
        return raw


@dataclass(frozen=True, slots=True)
class SideRoute:
    """A document that a protocol offers beside inference."""

    #: In Starlette's form, for example ``/v1/responses/{id}``.
    path: str
    endpoint: Callable[[SideAsk], Awaitable[Response]]
    methods: tuple[str, ...] = ("GET",)
    #: Whether only admin keys may ask.
    admin: bool = False
    #: Whether this request means this protocol, where others have the path too.
    claims: Callable[[Request], bool] | None = None


def openai_error(failure: Failure, _request_id: str) -> bytes:
    """The error as OpenAI's API writes it."""
    return error_body(failure)


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """One protocol."""

    name: str
    #: By the path of each inference route (POST, JSON).
    reads: Mapping[str, ReadBody]
    #: An error as a document: before the head of an answer, and on side routes.
    error_body: Callable[[Failure, str], bytes] = openai_error
    side_routes: tuple[SideRoute, ...] = ()
    #: Request headers that `reads` look at, lower case.
    headers: frozenset[str] = field(default_factory=frozenset)
    #: Header that carries the request's id besides `x-request-id`; empty for none.
    id_header: bytes = b""
    #: Told when the configuration was read anew; None where the protocol keeps nothing of it.
    reload: Callable[[GatewayParams], None] | None = None
    #: Whether a request means this protocol, on a path that an earlier row of the registry has.
    claims: Callable[[Asked], bool] | None = None
