"""Writing whole answers: JSON documents and OpenAI-shaped errors, with the request's id.

Owns the shape of an error on the wire and the ASGI messages of an answer that is sent at once.
Streams are `asgi_sink`'s. Called by everything in the gateway that answers.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import msgspec
from starlette.responses import Response

from slalom.gateway.error_table import Failure

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Raw ASGI headers.
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
_encode = msgspec.json.encode


def error_body(failure: Failure) -> bytes:
    """The error as OpenAI's API writes it."""
    return _encode(
        {
            "error": {
                "message": failure.message,
                "type": failure.type,
                "param": failure.param,
                "code": failure.code,
            }
        }
    )


def error_event(failure: Failure) -> bytes:
    """The error as the last event of a stream that has begun; the SDKs raise it."""
    return b"data: " + error_body(failure) + b"\n\ndata: [DONE]\n\n"


def error_headers(failure: Failure) -> Headers:
    """Headers that tell machines whether and when to come again."""
    headers: Headers = []
    if failure.retry_after_s > 0:
        headers.append((b"retry-after", b"%d" % failure.retry_after_s))
    if not failure.retryable and failure.status >= 409:
        headers.append((b"x-should-retry", b"false"))
    if failure.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def send_body(
    send: Send,
    status: int,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    content_type: bytes = JSON,
) -> None:
    """Send a whole answer with its length."""
    lines = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def json_response(
    document: object, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> Response:
    """A document as a side route answers it."""
    return Response(_encode(document), status, headers=headers, media_type="application/json")


async def send_json(
    send: Send, document: object, headers: Iterable[tuple[bytes, bytes]] = (), *, status: int = 200
) -> None:
    """Send a JSON document."""
    await send_body(send, status, _encode(document), headers)


async def send_failure(
    send: Send, failure: Failure, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send an error, in the words of the client's protocol."""
    await send_body(send, failure.status, body, [*headers, *error_headers(failure)])
