"""How one client's answer is written: its protocol's words for answers, errors and silence.

Owns only the bundle of what the sinks need of a protocol. Built by `preparation`, used by
`asgi_sink`.
"""

from dataclasses import dataclass

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.frame import WireProtocol, Writer


@dataclass(slots=True)
class AnswerForm:
    """The form of the answer to one request."""

    protocol: WireProtocol
    writer: Writer
    request_id: str

    def error_body(self, failure: Failure) -> bytes:
        """An error instead of an answer."""
        return self.protocol.error_body(failure, self.request_id)
