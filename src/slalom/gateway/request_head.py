"""The headers of an inference request that matter, picked out in one pass.

Owns which headers are read and which go on to the engine, and what a usable request id is.
Pure. Called by `inference`.
"""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
#: Longest trace header passed on, bytes; longer ones are dropped.
_TRACE_BYTES_MAX = 512


@dataclass(slots=True)
class RequestHead:
    """What the head of a request says."""

    content_type: bytes | None = None
    #: -1 where the body comes without a length.
    content_length: int = -1
    authorization: bytes | None = None
    api_key: bytes | None = None
    #: Usable id chosen by the client, or empty.
    request_id: str = ""
    #: The client's program, as it calls itself.
    user_agent: str = ""
    traceparent: str = ""
    tracestate: str = ""
    #: Headers that the resolution of tasks may look at, lower-case names.
    watched: Mapping[str, str] = field(default_factory=dict)

    def upstream_headers(self, request_id: str) -> Mapping[str, str]:
        """The headers that go on to the engine."""
        headers = {"x-request-id": request_id}
        if self.traceparent:
            headers["traceparent"] = self.traceparent
            if self.tracestate:
                headers["tracestate"] = self.tracestate
        return headers


def read_head(headers: Iterable[tuple[bytes, bytes]], watched: AbstractSet[bytes]) -> RequestHead:
    """Pick out what matters.

    Args:
        headers: Raw ASGI headers, names in lower case.
        watched: Further names to keep.
    """
    head = RequestHead()
    kept: dict[str, str] = {}
    for name, value in headers:
        if name == b"content-type":
            head.content_type = value
        elif name == b"content-length":
            head.content_length = int(value) if value.isdigit() else -1
        elif name == b"authorization":
            head.authorization = value
        elif name == b"x-api-key":
            head.api_key = value
        elif name == b"user-agent":
            head.user_agent = value.decode("latin-1")
        elif name == b"x-request-id":
            head.request_id = value.decode() if _ID.fullmatch(value) else ""
        elif name == b"traceparent" and len(value) <= _TRACE_BYTES_MAX:
            head.traceparent = value.decode("latin-1")
        elif name == b"tracestate" and len(value) <= _TRACE_BYTES_MAX:
            head.tracestate = value.decode("latin-1")
        if name in watched:
            kept[name.decode("latin-1")] = value.decode("latin-1")
    head.watched = kept
    return head
