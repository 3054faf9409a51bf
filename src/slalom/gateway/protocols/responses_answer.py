"""OpenAI's Responses in that API's words: response documents, items, numbered stream events.

Owns the order of items and events in a stream and the document that grows with them, within a
bound. What becomes of a finished response is its maker's. Used by `responses`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer, EventTooLargeError, ToolPart, Usage
from slalom.gateway.protocols.responses_tools import CUSTOM_INPUT, Tools

_encode = msgspec.json.encode

#: Takes a finished response and the assistant's message in the internal form.
Keep = Callable[[dict[str, Any], dict[str, Any]], None]

#: Event that opens a text, by the kind of item that it is in.
_PART = {"reasoning": "reasoning_text", "message": "output_text"}


@dataclass(slots=True)
class _Item:
    """One item of the output."""

    kind: str
    id: str
    index: int
    #: Text, or arguments, in pieces.
    pieces: list[str] = field(default_factory=list)
    call_id: str = ""
    #: The engine's name of the tool.
    tool: str = ""
    status: str = "in_progress"

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ResponseTeller:
    """Tells one answer.

    Args:
        frame: The response without what the answer brings; not written to.
        tools: The request's tools.
        bytes_max: Largest output that is put together.
        keep: Called with a finished response.
    """

    stream_type = b"text/event-stream; charset=utf-8"

    def __init__(self, frame: dict[str, Any], tools: Tools, bytes_max: int, keep: Keep) -> None:
        self._frame = frame
        self._tools = tools
        self._bytes_left = bytes_max
        self._keep = keep
        self._number = 0
        self._items: list[_Item] = []
        #: The text or thought that is being written.
        self._open: _Item | None = None
        #: Calls by the engine's index; they stay open, as their pieces may come in turns.
        self._calls: dict[int, _Item] = {}
        self._finish = "stop"
        self._usage = Usage()

    def piece(self, piece: Answer) -> bytes:
        """Events for the next piece."""
        if piece.usage is not None:
            self._usage = piece.usage
        told = self._begin()
        choice = piece.first
        said = choice.said
        if said.thought:
            told += self._write("reasoning", said.thought)
        text = said.content or said.refusal
        if text:
            told += self._write("message", text)
        for part in said.tool_calls or ():
            told += self._call(part)
        self._finish = choice.finish_reason or self._finish
        return told

    def end(self) -> bytes:
        """The last events."""
        told, response = self._settle()
        return told + self._event(f"response.{response['status']}", {"response": response})

    def whole(self, answer: Answer) -> bytes:
        """The response."""
        for index, part in enumerate(answer.first.said.tool_calls or ()):
            part.index = index
        self.piece(answer)
        return _encode(self._settle()[1])

    def sign_of_life(self, text: str) -> bytes:
        """An event, as clients do not count comments, with a comment for people."""
        told = self._begin()
        if not told:  # without what an agent sends by the ten thousand bytes
            response = {**self._response("in_progress"), "tools": [], "instructions": None}
            told = self._event("response.in_progress", {"response": response})
        return f": {text}\n".encode() + told

    def failed(self, failure: Failure) -> bytes:
        """The response as a failed one."""
        told = self._begin()
        response = self._response("failed")
        response["error"] = {
            "code": "rate_limit_exceeded" if failure.status == 429 else "server_error",
            "message": failure.message,
            "type": failure.code,
        }
        return told + self._event("response.failed", {"response": response})

    def _settle(self) -> tuple[bytes, dict[str, Any]]:
        """Close what is open; the finished response."""
        cut = self._finish in {"length", "content_filter"}
        status = "incomplete" if cut else "completed"
        told = self._begin() + self._close(status)
        for item in self._calls.values():
            told += self._close_call(item)
        response = self._response(status)
        if cut:
            reason = "max_output_tokens" if self._finish == "length" else "content_filter"
            response["incomplete_details"] = {"reason": reason}
        self._keep(response, self._message())
        return told, response

    def _begin(self) -> bytes:
        if self._number:
            return b""
        response = self._response("in_progress")
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        document = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: ".encode() + _encode(document) + b"\n\n"

    def _grow(self, text: str) -> None:
        self._bytes_left -= len(text.encode("utf-8", "replace"))
        if self._bytes_left < 0:
            raise EventTooLargeError("The answer is larger than this server puts together.")

    def _new(self, kind: str) -> _Item:
        prefix = {"reasoning": "rs", "message": "msg"}.get(kind, "fc")
        index = len(self._items)
        item = _Item(kind, f"{prefix}_{self._frame['id'][5:]}_{index}", index)
        self._items.append(item)
        return item

    def _place(self, item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index}

    def _item_event(self, what: str, item: _Item) -> bytes:
        fields = {"output_index": item.index, "item": self._document(item)}
        return self._event(f"response.output_item.{what}", fields)

    # -- texts and thoughts ----------------------------------------------------------------

    def _write(self, kind: str, text: str) -> bytes:
        self._grow(text)
        told = b""
        item = self._open
        if item is None or item.kind != kind:
            told = self._close("completed")
            item = self._open = self._new(kind)
            told += self._item_event("added", item)
            fields = {**self._place(item), "content_index": 0, "part": _part(item)}
            told += self._event("response.content_part.added", fields)
        item.pieces.append(text)
        fields = {**self._place(item), "content_index": 0, "delta": text}
        if kind == "message":
            fields["logprobs"] = []
        return told + self._event(f"response.{_PART[kind]}.delta", fields)

    def _close(self, status: str) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        item.status = status
        fields = {**self._place(item), "content_index": 0, "text": item.text}
        if item.kind == "message":
            fields["logprobs"] = []
        told = self._event(f"response.{_PART[item.kind]}.done", fields)
        fields = {**self._place(item), "content_index": 0, "part": _part(item)}
        told += self._event("response.content_part.done", fields)
        return told + self._item_event("done", item)

    # -- calls -----------------------------------------------------------------------------

    def _call(self, part: ToolPart) -> bytes:
        told = b""
        item = self._calls.get(part.index)
        if item is None:
            told = self._close("completed")
            tool = part.function.name or ""
            item = self._new("custom" if tool in self._tools.custom else "function")
            item.tool = tool
            item.call_id = part.id or f"call_{item.id}"
            self._calls[part.index] = item
            told += self._item_event("added", item)
        text = part.function.arguments
        if text:
            self._grow(text)
            item.pieces.append(text)
            if item.kind == "function":
                fields = {**self._place(item), "delta": text}
                told += self._event("response.function_call_arguments.delta", fields)
        return told

    def _close_call(self, item: _Item) -> bytes:
        item.status = "completed"
        place = self._place(item)
        if item.kind == "custom":  # its text is inside JSON, which must be complete to be read
            text = _custom_input(item.text)
            kind = "response.custom_tool_call_input"
            told = self._event(f"{kind}.delta", {**place, "delta": text})
            told += self._event(f"{kind}.done", {**place, "input": text})
        else:
            fields = {**place, "arguments": item.text, "name": self._names(item)[0]}
            told = self._event("response.function_call_arguments.done", fields)
        return told + self._item_event("done", item)

    def _names(self, item: _Item) -> tuple[str, str]:
        return self._tools.names.get(item.tool, (item.tool, ""))

    # -- documents -------------------------------------------------------------------------

    def _document(self, item: _Item) -> dict[str, Any]:
        part = [] if not item.pieces else [_part(item)]
        match item.kind:
            case "reasoning":
                return {"type": "reasoning", "id": item.id, "summary": [], "content": part}
            case "message":
                fields = {"role": "assistant", "status": item.status, "content": part}
                return {"type": "message", "id": item.id, **fields}
        name, namespace = self._names(item)
        fields = {"id": item.id, "call_id": item.call_id, "name": name}
        if namespace:
            fields["namespace"] = namespace
        if item.kind == "custom":
            text = _custom_input(item.text) if item.status == "completed" else ""
            return {"type": "custom_tool_call", **fields, "input": text}
        arguments = item.text or ("{}" if item.status == "completed" else "")
        return {
            "type": "function_call",
            **fields,
            "arguments": arguments,
            "status": item.status,
        }

    def _response(self, status: str) -> dict[str, Any]:
        response = {**self._frame, "status": status}
        if status != "in_progress":
            response["output"] = [self._document(item) for item in self._items]
            response["usage"] = _usage(self._usage)
        return response

    def _message(self) -> dict[str, Any]:
        """The answer as a later turn's history has it."""
        texts = dict.fromkeys(_PART, "")
        calls = []
        for item in self._items:
            if item.kind in texts:
                texts[item.kind] += item.text
                continue
            function = {"name": item.tool, "arguments": item.text or "{}"}
            calls.append({"id": item.call_id, "type": "function", "function": function})
        message: dict[str, Any] = {"role": "assistant", "content": texts["message"]}
        if texts["reasoning"]:
            message["reasoning_content"] = texts["reasoning"]
        if calls:
            message["tool_calls"] = calls
        return message


def _part(item: _Item) -> dict[str, Any]:
    if item.kind == "reasoning":
        return {"type": "reasoning_text", "text": item.text}
    return {"type": "output_text", "text": item.text, "annotations": [], "logprobs": []}


def _custom_input(arguments: str) -> str:
    """The text that was asked for as the one field of an object."""
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    text = found.get(CUSTOM_INPUT) if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
