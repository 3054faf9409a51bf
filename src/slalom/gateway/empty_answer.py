"""A finished answer of Slalom's own: without a word, or with what the completion cache holds.

Owns its bytes, whole and as the last events of a stream, and why there is no engine's answer.
Well-formed, so that no client takes it for an error. Called by `inference`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_encode = msgspec.json.encode
END_MARK = b"data: [DONE]\n\n"

#: Say why the answer is empty: a newer request has taken its place; it would have come too late,
#: and its task wants none then; it would only have read the prompt ahead, and others need the
#: engine.
SUPERSEDED = (b"x-slalom-outcome", b"superseded")
LATE = (b"x-slalom-outcome", b"late")
SKIPPED = (b"x-slalom-outcome", b"skipped")
_NOTHING: Mapping[str, int] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(slots=True)
class EmptyAnswer:
    """How the answer looks like the one that was asked for."""

    #: Whether a chat was asked for; else a text completion.
    chat: bool
    model: str
    answer_id: str
    #: Unix time, seconds.
    created_s: int
    #: Header that says why it is ours; None where the engine did what was asked.
    header: tuple[bytes, bytes] | None = SUPERSEDED
    #: Said inside a stream, for one that has begun.
    remark: str = ""
    text: str = ""
    finish: str = "stop"
    #: Whether the end of a stream tells the usage: nothing was computed.
    usage: bool = False

    def whole(self) -> bytes:
        """As the body of an answer that is not streamed."""
        said: dict[str, Any] = {"text": self.text}
        if self.chat:
            said = {"message": {"role": "assistant", "content": self.text}}
        return _encode({**self._frame("chat.completion"), **self._choices(said), "usage": _NOTHING})

    def events(self, begun: bytes = b"") -> bytes:
        """As the end of a stream.

        Args:
            begun: Events that the client has got; the end has their id.
        """
        frame = self._frame("chat.completion.chunk")
        frame.update(_identity(begun))
        said: dict[str, Any] = {"delta": {}} if self.chat else {"text": self.text}
        events = b"data: " + _encode({**frame, **self._choices(said)}) + b"\n\n"
        if self.usage:
            events += b"data: " + _encode({**frame, "choices": [], "usage": _NOTHING}) + b"\n\n"
        return events + END_MARK

    def _frame(self, kind_of_chat: str) -> dict[str, Any]:
        return {
            "id": self.answer_id,
            "object": kind_of_chat if self.chat else "text_completion",
            "created": self.created_s,
            "model": self.model,
        }

    def _choices(self, said: Mapping[str, Any]) -> dict[str, Any]:
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": self.finish}
        return {"choices": [choice]}


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
