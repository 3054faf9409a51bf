"""Tabby's words for an answer: one document with a choice.

Owns its shape. Tabby's API has no streams, so that what a stream would be told is the same
document at the end. Used by `tabby`.
"""

import msgspec

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer
from slalom.gateway.replies import error_body


class ChoiceTeller:
    """Tells one answer.

    Args:
        request_id: Id of the request, by which clients report what became of it.
    """

    stream_type = b"application/json"

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._said: list[str] = []

    def piece(self, piece: Answer) -> bytes:
        """Nothing yet."""
        self._said.append(piece.first.said.content or "")
        return b""

    def end(self) -> bytes:
        """The document."""
        return self._document("".join(self._said))

    def whole(self, answer: Answer) -> bytes:
        """The document."""
        return self._document(answer.first.said.content or "")

    def sign_of_life(self, text: str) -> bytes:
        """White space, which JSON may begin with."""
        return b"\n"

    def failed(self, failure: Failure) -> bytes:
        """The error in place of the document."""
        return error_body(failure)

    def _document(self, text: str) -> bytes:
        choices = [{"index": 0, "text": text}]
        return msgspec.json.encode({"id": self._request_id, "choices": choices})
