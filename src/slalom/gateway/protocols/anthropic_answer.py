"""Anthropic's words for an answer: message documents, stream events, errors.

Owns the order of content blocks in a stream (one open at a time), stop reasons and usage. What
engines say of tools and reasoning is passed on piece by piece. Used by `anthropic`.
"""

from typing import Any

import msgspec

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer, Choice, Message, ToolPart, Usage

_encode = msgspec.json.encode

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(failure: Failure, request_id: str) -> bytes:
    """The error as Anthropic's API writes it, with our machine-readable code added."""
    fallback = "invalid_request_error" if failure.status < 500 else "api_error"
    error = {
        "type": _ERROR_TYPES.get(failure.status, fallback),
        "message": failure.message,
        "code": failure.code,
    }
    return _encode({"type": "error", "error": error, "request_id": request_id})


class MessageTeller:
    """Tells one answer.

    Args:
        request_id: Id of the request; the message's is made of it.
        model: The model as the client called it.
    """

    stream_type = b"text/event-stream; charset=utf-8"

    def __init__(self, request_id: str, model: str) -> None:
        self._request_id = request_id
        self._model = model
        self._started = False
        #: What the open block holds: "text", "thinking", "tool", or nothing.
        self._open = ""
        self._blocks = 0
        #: Number of the block of each tool call, by the engine's index.
        self._tools: dict[int, int] = {}
        self._stop: Choice = Choice()
        self._usage = Usage()

    def piece(self, piece: Answer) -> bytes:
        """Events for the next piece."""
        if piece.usage is not None:
            self._usage = piece.usage
        told = self._start()
        choice = piece.first
        said = choice.said
        if said.thought:
            told += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            told += self._delta({"type": "thinking_delta", "thinking": said.thought})
        text = said.content or said.refusal
        if text:
            told += self._block("text", {"type": "text", "text": ""})
            told += self._delta({"type": "text_delta", "text": text})
        for part in said.tool_calls or ():
            told += self._tool(part)
        if choice.finish_reason:
            self._stop = choice
        return told

    def end(self) -> bytes:
        """The last events."""
        told = self._start() + self._close()
        delta = _stop_fields(self._stop, tools=bool(self._tools))
        usage = _usage(self._usage)
        told += _event("message_delta", {"delta": delta, "usage": usage})
        return told + _event("message_stop", {})

    def whole(self, answer: Answer) -> bytes:
        """The message."""
        choice = answer.first
        content = _content(choice.said, self._request_id)
        message = self._message(content, answer.usage or Usage())
        tools = any(block["type"] == "tool_use" for block in content)
        return _encode({**message, **_stop_fields(choice, tools=tools)})

    def sign_of_life(self, text: str) -> bytes:
        """A ping, with a comment for people."""
        return f": {text}\n".encode() + _event("ping", {})

    def failed(self, failure: Failure) -> bytes:
        """An error event; the SDKs raise it."""
        return b"event: error\ndata: " + error_body(failure, self._request_id) + b"\n\n"

    def _message(self, content: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
        return {
            "id": f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return _event("message_start", {"message": self._message([], Usage())})

    def _block(self, kind: str, content: dict[str, Any], *, new: bool = False) -> bytes:
        """Open a block unless one of its kind is open."""
        if self._open == kind and not new:
            return b""
        told = self._close()
        self._open = kind
        self._blocks += 1
        fields = {"index": self._blocks - 1, "content_block": content}
        return told + _event("content_block_start", fields)

    def _delta(self, delta: dict[str, Any], block: int = -1) -> bytes:
        index = self._blocks - 1 if block < 0 else block
        return _event("content_block_delta", {"index": index, "delta": delta})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", {"index": self._blocks - 1})

    def _tool(self, part: ToolPart) -> bytes:
        told = b""
        if part.index not in self._tools:
            count = len(self._tools)
            content = _tool_use(part, count, self._request_id, {})
            told = self._block("tool", content, new=True)
            self._tools[part.index] = self._blocks - 1
        if part.function.arguments:
            delta = {"type": "input_json_delta", "partial_json": part.function.arguments}
            told += self._delta(delta, self._tools[part.index])
        return told


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind, **fields}) + b"\n\n"


def _content(said: Message, request_id: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": ""})
    text = said.content or said.refusal
    if text:
        content.append({"type": "text", "text": text})
    for number, part in enumerate(said.tool_calls or ()):
        content.append(_tool_use(part, number, request_id, _arguments(part)))
    return content


def _tool_use(
    part: ToolPart, number: int, request_id: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": part.id or f"toolu_{request_id}_{number}",
        "name": part.function.name or "",
        "input": arguments,
    }


def _arguments(part: ToolPart) -> dict[str, Any]:
    """The arguments as an object; what the model made that is none is not thrown away."""
    text = part.function.arguments or "{}"
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": text}


def _stop_fields(choice: Choice, *, tools: bool) -> dict[str, Any]:
    reason = _STOP_REASONS.get(choice.finish_reason or "stop", "end_turn")
    sequence = choice.stop_reason if isinstance(choice.stop_reason, str) else None
    if reason == "end_turn" and tools:
        reason = "tool_use"
    elif reason == "end_turn" and sequence is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": sequence}


def _usage(usage: Usage) -> dict[str, int]:
    """Cached tokens are not counted twice: the three kinds of input add up to the prompt."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }
