"""How a protocol says that an answer which had begun cannot go on, without knowing the answer.

Owns the end of a stream that an ingress must write itself because the core that knew the answer is
gone, and what in a stream is a sign of life and no part of the answer. Pure. Called by `ingress`.
"""

import re

import msgspec

from slalom.gateway.error_table import Failure, failure_of
from slalom.gateway.replies import error_body, error_event

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
#: Nothing but comments, empty lines and pings, whole ones.
_SIGNS_OF_LIFE = re.compile(
    rb"(?::[^\r\n]*\r?\n|\r?\n|event: ping\r?\ndata: [^\r\n]*\r?\n\r?\n)*", re.DOTALL
)


def only_signs_of_life(data: bytes) -> bool:
    """Whether nothing of an answer is in this piece of an event stream."""
    return _SIGNS_OF_LIFE.fullmatch(data) is not None


def end_of_stream(protocol: str, content_type: str, failure: Failure, document: bytes) -> bytes:
    """The last bytes of a stream that cannot go on.

    Args:
        protocol: Name of the client's protocol.
        content_type: Of the stream.
        failure: Why.
        document: The failure as the protocol writes it where nothing has begun.
    """
    if content_type.startswith(LINES):
        return msgspec.json.encode({"error": failure.message, "code": failure.code}) + b"\n"
    if not content_type.startswith(EVENTS):
        return b""
    if protocol == "anthropic":
        return b"event: error\ndata: " + document + b"\n\n"
    if protocol == "responses":
        told = {"type": "error", "code": failure.code, "message": failure.message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    if protocol == "openai":
        return error_event(failure)
    return b"data: " + error_body(failure) + b"\n\n"


def failure_told(status: int, body: bytes) -> Failure:
    """The failure that the core answered in a document, to be told at the end of a stream."""
    try:
        error = msgspec.json.decode(body)["error"]
        code, message = str(error.get("code") or error["type"]), str(error["message"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return failure_of("core_lost" if status >= 500 else "engine_error")
    return failure_of(code, message)
