"""A finished answer without a word: what a client gets whose request a newer one replaced.

Owns its bytes, whole and as the last events of a stream. Well-formed, so that no client takes it
for an error: it asked again itself. Called by `inference`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_encode = msgspec.json.encode
END_MARK = b"data: [DONE]\n\n"


@dataclass(slots=True)
class EmptyAnswer:
    """How the answer looks like the one that was asked for."""

    #: Whether a chat was asked for; else a text completion.
    chat: bool
    model: str
    answer_id: str
    #: Unix time, seconds.
    created_s: int

    def whole(self) -> bytes:
        """As the body of an answer that is not streamed."""
        empty: dict[str, Any] = {"text": ""}
        if self.chat:
            empty = {"message": {"role": "assistant", "content": ""}}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return _encode({**self._frame("chat.completion"), **_choices(empty), "usage": usage})

    def events(self, begun: bytes = b"") -> bytes:
        """As the end of a stream.

        Args:
            begun: Events that the client has got; the end has their id.
        """
        frame = self._frame("chat.completion.chunk")
        frame.update(_identity(begun))
        empty: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return b"data: " + _encode({**frame, **_choices(empty)}) + b"\n\n" + END_MARK

    def _frame(self, kind_of_chat: str) -> dict[str, Any]:
        return {
            "id": self.answer_id,
            "object": kind_of_chat if self.chat else "text_completion",
            "created": self.created_s,
            "model": self.model,
        }


def _choices(empty: Mapping[str, Any]) -> dict[str, Any]:
    return {"choices": [{"index": 0, **empty, "logprobs": None, "finish_reason": "stop"}]}


def _identity(begun: bytes) -> dict[str, Any]:
    """Id, time and model of the first event that has them."""
    start = begun.find(b"data: {")
    if start < 0:
        return {}
    try:
        event = msgspec.json.decode(begun[start + 6 :].partition(b"\n")[0])
    except msgspec.DecodeError:
        return {}
    return {name: event[name] for name in ("id", "created", "model") if name in event}
