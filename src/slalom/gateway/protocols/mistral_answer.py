"""Mistral's words for an answer: documents and events of fill-in-the-middle, errors.

Owns their shape: a text completion is told as a message, and the usage comes with the last piece.
Used by `mistral`.
"""

from typing import Any

import msgspec

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer, Usage

_encode = msgspec.json.encode

#: What engines call the end of an answer, where it is not called so here.
_FINISH = {"length": "length", "tool_calls": "tool_calls", "error": "error"}


def error_body(failure: Failure, request_id: str) -> bytes:
    """The error as Mistral's API writes it."""
    return _encode(
        {
            "object": "error",
            "message": failure.message,
            "type": failure.type,
            "param": failure.param,
            "code": failure.code,
            "request_id": request_id,
        }
    )


class FillTeller:
    """Tells one answer.

    Args:
        request_id: Id of the request; the answer's is made of it.
        model: The model as the client called it.
        created_s: Unix time, seconds.
    """

    stream_type = b"text/event-stream; charset=utf-8"

    def __init__(self, request_id: str, model: str, created_s: int) -> None:
        self._request_id = request_id
        self._identity = {"id": request_id, "created": created_s, "model": model}
        self._usage = Usage()
        self._finish = "stop"

    def piece(self, piece: Answer) -> bytes:
        """The next text; usage and finish are kept for the end."""
        if piece.usage is not None:
            self._usage = piece.usage
        choice = piece.first
        if choice.finish_reason:
            self._finish = _FINISH.get(choice.finish_reason, "stop")
        return self._event(choice.said.content, None) if choice.said.content else b""

    def end(self) -> bytes:
        """The last piece, with the usage, and the end mark."""
        return self._event("", self._finish, usage=_usage(self._usage)) + b"data: [DONE]\n\n"

    def whole(self, answer: Answer) -> bytes:
        """The document."""
        choice = answer.first
        message = {"role": "assistant", "content": choice.said.content or "", "tool_calls": None}
        finish = _FINISH.get(choice.finish_reason or "stop", "stop")
        return _encode(
            {
                **self._identity,
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": _usage(answer.usage or Usage()),
            }
        )

    def sign_of_life(self, text: str) -> bytes:
        """A comment of the event stream."""
        return f": {text}\n\n".encode()

    def failed(self, failure: Failure) -> bytes:
        """An error in the place of a piece; clients raise it."""
        return b"data: " + error_body(failure, self._request_id) + b"\n\n"

    def _event(self, text: str, finish: str | None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        document = {
            **self._identity,
            "object": "chat.completion.chunk",
            "choices": [choice],
            **more,
        }
        return b"data: " + _encode(document) + b"\n\n"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
