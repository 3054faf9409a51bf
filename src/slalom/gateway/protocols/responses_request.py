"""The input items and options of OpenAI's Responses in the internal form.

Owns how items become messages: calls join the message before them. Tools are `responses_tools`'
business, the order of turns is `turns`'. Pure. Used by `responses`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from slalom.gateway.protocols.responses_tools import CUSTOM_INPUT, spaced, text_of, wrong
from slalom.gateway.protocols.turns import settled

#: Options that mean the same, and what llama.cpp, vLLM and Slalom add to them.
_SAME = ("model", "stream", "temperature", "top_p", "metadata", "user", "service_tier", "seed")
_ADDED = ("priority", "session_id", "cache_prompt", "id_slot", "top_k", "min_p", "stop")
_ADDED_TOO = ("t_max_prompt_ms", "t_max_predict_ms", "chat_template_kwargs", "parallel_tool_calls")
_NOT_HERE = ("background", "conversation", "prompt")
_EFFORTS = frozenset(("low", "medium", "high"))
_SYSTEM_ROLES = frozenset(("system", "developer"))
#: Items of tools that run at OpenAI: their results went into the answer.
_FOREIGN_ITEMS = frozenset(
    (
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_list_tools", "mcp_call", "compaction"),
    )
)


def options(body: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of the internal body but messages and tools.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    for name in _NOT_HERE:
        if body.get(name) is not None and body[name] is not False:
            raise wrong(name, "is not offered here")
    names = (*_SAME, *_ADDED, *_ADDED_TOO)
    fields = {name: body[name] for name in names if body.get(name) is not None}
    _check(body)
    limit = body.get("max_output_tokens")
    if limit is not None:
        fields["max_tokens"] = limit
    if fields.get("stream"):
        fields["stream_options"] = {"include_usage": True}
    effort = (body.get("reasoning") or {}).get("effort")
    if isinstance(effort, str) and effort in _EFFORTS:
        fields["reasoning_effort"] = effort
    form = (body.get("text") or {}).get("format") or {}
    match form.get("type") if isinstance(form, dict) else None:
        case "json_schema":
            schema = {name: form[name] for name in ("name", "schema", "strict") if name in form}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_object":
            fields["response_format"] = {"type": "json_object"}
    return fields


def _check(body: Mapping[str, Any]) -> None:
    limit = body.get("max_output_tokens", 1)
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit < 1 << 31
    ):
        raise wrong("max_output_tokens", "must be a whole number above 0")
    for name in ("stream", "store", "parallel_tool_calls"):
        if not isinstance(body.get(name), bool | None):
            raise wrong(name, "must be true or false")
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise wrong(name, "must be a number")
    for name in ("metadata", "reasoning", "text"):
        if not isinstance(body.get(name), dict | None):
            raise wrong(name, "must be an object")
    for name in ("instructions", "previous_response_id"):
        if not isinstance(body.get(name), str | None):
            raise wrong(name, "must be a text")


def listed_items(body: Mapping[str, Any]) -> list[Any]:
    """The input as a list of items.

    Raises:
        RequestError: It is neither a text nor a list of items.
    """
    given = body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "must be a text or a list of items")
    return given


class _Turns:
    """Messages as they come together from items."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        #: An answer of the assistant that may still get calls.
        self._answer: dict[str, Any] = {}
        #: What results of tools show, and only a user may: it comes behind the last of them.
        self._pictures: list[dict[str, Any]] = []

    def add(self, message: dict[str, Any]) -> None:
        self.close()
        self.messages.append(message)

    def answer_call(self, call_id: str, parts: list[dict[str, Any]]) -> None:
        if self._answer:
            self.close()
        texts = [part["text"] for part in parts if part["type"] == "text"]
        content = "\n".join(texts)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        self._pictures += [part for part in parts if part["type"] != "text"]

    def say(self, text: str) -> None:
        if "content" in self._answer or "tool_calls" in self._answer:
            self.close()
        self._answer["content"] = text

    def think(self, text: str) -> None:
        if "content" in self._answer or "tool_calls" in self._answer:
            self.close()
        self._answer["reasoning_content"] = self._answer.get("reasoning_content", "") + text

    def call(self, call: dict[str, Any]) -> None:
        self._answer.setdefault("tool_calls", []).append(call)

    def close(self) -> None:
        pictures, self._pictures = self._pictures, []
        if pictures:
            self.messages.append({"role": "user", "content": pictures})
        answer, self._answer = self._answer, {}
        if "content" in answer or "tool_calls" in answer:
            self.messages.append({"role": "assistant", "content": "", **answer})


def messages_of(items: Iterable[Any]) -> list[dict[str, Any]]:
    """The messages that items stand for.

    Raises:
        RequestError: `param` names the first item that is wrong.
    """
    turns = _Turns()
    for index, item in enumerate(items):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            raise wrong(where, "must be an object")
        _take(item, where, turns)
    turns.close()
    return turns.messages


def _take(item: Mapping[str, Any], where: str, turns: _Turns) -> None:
    match item.get("type"):
        case None | "message":
            _take_message(item, where, turns)
        case "reasoning":
            turns.think("".join(_reasoning(item)))
        case "function_call":
            turns.call(_call(item, where, text_of(item, "arguments", where)))
        case "custom_tool_call":
            wrapped = {CUSTOM_INPUT: text_of(item, "input", where)}
            turns.call(_call(item, where, msgspec.json.encode(wrapped).decode()))
        case "function_call_output" | "custom_tool_call_output":
            parts = _content(item.get("output"), f"{where}.output")
            turns.answer_call(text_of(item, "call_id", where), parts)
        case str(kind) if kind in _FOREIGN_ITEMS:
            pass
        case str(kind):
            raise wrong(f"{where}.type", f"{kind[:80]!a} is not understood here")
        case _:
            raise wrong(f"{where}.type", "must be a text")


def _take_message(item: Mapping[str, Any], where: str, turns: _Turns) -> None:
    role = item.get("role")
    parts = _content(item.get("content"), f"{where}.content")
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if role == "assistant":
        turns.say(text)
    elif role == "user":
        plain = all(part["type"] == "text" for part in parts)
        turns.add({"role": role, "content": text if plain else parts})
    elif isinstance(role, str) and role in _SYSTEM_ROLES:
        turns.add({"role": "system", "content": text})
    else:
        raise wrong(f"{where}.role", "must be 'user', 'assistant', 'system' or 'developer'")


def _content(content: object, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise wrong(where, "must be a text or a list of parts")
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _part(part: object, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise wrong(where, "must be an object")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": text_of(part, "text", where)}
        case "refusal":
            return {"type": "text", "text": text_of(part, "refusal", where)}
        case "input_image":
            url = {"url": text_of(part, "image_url", where)}
            if isinstance(part.get("detail"), str):
                url["detail"] = part["detail"]
            return {"type": "image_url", "image_url": url}
        case str(kind):
            raise wrong(f"{where}.type", f"{kind[:80]!a} is not understood here")
        case _:
            raise wrong(f"{where}.type", "must be a text")


def _reasoning(item: Mapping[str, Any]) -> Iterable[str]:
    """The text of a thought: in full if it is there, else its summary."""
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [
            part["text"]
            for part in (parts if isinstance(parts, list) else ())
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        if texts:
            return texts
    return ()


def _call(item: Mapping[str, Any], where: str, arguments: str) -> dict[str, Any]:
    name = text_of(item, "name", where)
    namespace = item.get("namespace")
    function = {
        "name": spaced(namespace, name) if isinstance(namespace, str) else name,
        "arguments": arguments,
    }
    return {"id": text_of(item, "call_id", where), "type": "function", "function": function}


def with_instructions(
    instructions: str | None, messages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The whole conversation, as chat templates take it."""
    head = [{"role": "system", "content": instructions}] if instructions else []
    return settled([*head, *messages])
