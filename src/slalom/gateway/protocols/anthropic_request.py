"""Anthropic's messages, tools and options in the internal form.

Owns the meaning of content blocks and the errors that name a field as Anthropic's API does
(``messages.0.content.1.type``). What cannot change an answer here is ignored. Pure. Used by
`anthropic`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slalom.errors import RequestError
from slalom.gateway.protocols.turns import settled

#: Options that mean the same, and what llama.cpp, vLLM and Slalom add to them.
_SAME = ("model", "stream", "max_tokens", "temperature", "top_p", "top_k", "metadata", "seed")
_ADDED = ("priority", "session_id", "cache_prompt", "id_slot", "t_max_prompt_ms")
_ADDED_TOO = ("t_max_predict_ms", "min_p", "chat_template_kwargs")
#: Claude Code's first system block. It changes with every request, says nothing to a model, and
#: would spoil the engine's cache of everything behind it.
_BILLING = "x-anthropic-billing-header"
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Notes:
    """What the client should be told."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def add(self, note: str) -> None:
        """Say it once."""
        self.found[note] = None


def internal_body(body: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The body of the same chat for OpenAI's API.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    fields = {
        name: body[name] for name in (*_SAME, *_ADDED, *_ADDED_TOO) if body.get(name) is not None
    }
    _check(body, fields)
    messages = list(_system(body.get("system")))
    listed = body.get("messages")
    if not isinstance(listed, list) or not listed:
        raise wrong("messages", "must be a list of at least one message")
    for index, message in enumerate(listed):
        messages += _messages(message, f"messages.{index}")
    fields["messages"] = settled(messages)
    _options(body, fields)
    _tools(body, fields, notes)
    return fields


def wrong(name: str, what: str) -> RequestError:
    """An error about one field."""
    return RequestError(f"{name}: {what}.", param=name)


def _check(body: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    limit = fields.get("max_tokens", 1)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit < 1 << 31:
        raise wrong("max_tokens", "must be a whole number above 0")
    for name in ("temperature", "top_p", "top_k"):
        value = fields.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(name, "must be a number")
    if not isinstance(fields.get("stream", False), bool):
        raise wrong("stream", "must be true or false")
    for name in ("metadata", "thinking", "output_config"):
        if not isinstance(body.get(name), dict | None):
            raise wrong(name, "must be an object")


def _options(body: Mapping[str, Any], fields: dict[str, Any]) -> None:
    stop = body.get("stop_sequences")
    if stop is not None:
        if not isinstance(stop, list) or not all(isinstance(word, str) for word in stop):
            raise wrong("stop_sequences", "must be a list of texts")
        fields["stop"] = stop
    user = fields.get("metadata", {}).get("user_id")
    if isinstance(user, str):
        fields["user"] = user
    if fields.get("stream"):
        fields["stream_options"] = {"include_usage": True}
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        asked = fields.get("chat_template_kwargs")
        more = asked if isinstance(asked, dict) else {}
        fields["chat_template_kwargs"] = {"enable_thinking": False, **more}
    output = body.get("output_config")
    form = output.get("format") if isinstance(output, dict) else None
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form.get("schema")}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}


def _system(system: object) -> Iterator[dict[str, Any]]:
    if system is None:
        return
    texts = [text for text in _texts(system, "system") if not text.startswith(_BILLING)]
    if texts:
        yield {"role": "system", "content": "\n".join(texts)}


def _texts(content: object, where: str) -> list[str]:
    """The texts of something that may hold nothing else."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise wrong(where, "must be a text or a list of blocks")
    texts: list[str] = []
    for index, block in enumerate(content):
        text = block.get("text") if isinstance(block, dict) else None
        if not isinstance(text, str) or block.get("type") != "text":
            raise wrong(f"{where}.{index}", "must be a text block")
        texts.append(text)
    return texts


def _messages(message: object, where: str) -> Iterator[dict[str, Any]]:
    if not isinstance(message, dict):
        raise wrong(where, "must be an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in {"user", "assistant", "system"}:
        raise wrong(f"{where}.role", "must be 'user' or 'assistant'")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    where = f"{where}.content"
    if not isinstance(content, list):
        raise wrong(where, "must be a text or a list of blocks")
    blocks = [_block(block, f"{where}.{index}") for index, block in enumerate(content)]
    if role == "system":
        yield {"role": role, "content": "\n".join(_texts(content, where))}
    elif role == "assistant":
        yield _of_assistant(blocks, where)
    else:
        yield from _of_user(blocks, where)


def _block(block: object, where: str) -> dict[str, Any]:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise wrong(where, "must be a block with a type")
    return block


def _of_assistant(blocks: list[dict[str, Any]], where: str) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        at = f"{where}.{index}"
        match block["type"]:
            case "text":
                texts.append(_text(block, "text", at))
            case "thinking":
                thoughts.append(_text(block, "thinking", at))
            case "redacted_thinking":
                pass  # sealed for its author
            case "tool_use":
                calls.append(_call(block, at))
            case kind:
                raise wrong(f"{at}.type", f"{kind[:80]!a} is not understood here")
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    arguments = block.get("input", {})
    if not isinstance(arguments, dict):
        raise wrong(f"{where}.input", "must be an object")
    function = {
        "name": _text(block, "name", where),
        "arguments": msgspec.json.encode(arguments).decode(),
    }
    return {"id": _text(block, "id", where), "type": "function", "function": function}


def _of_user(blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """A user's turn: results of tools as messages of their own, then what the user says.

    Only a user may show pictures, so that those in results come with the user's own words.
    """
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        at = f"{where}.{index}"
        if block["type"] != "tool_result":
            parts.append(_part(block, at))
            continue
        results = _result(block, at)
        texts = [part["text"] for part in results if part["type"] == "text"]
        yield {
            "role": "tool",
            "tool_call_id": _text(block, "tool_use_id", at),
            "content": "\n".join(texts),
        }
        parts += [part for part in results if part["type"] != "text"]
    if parts or not blocks:
        yield _user(parts)


def _user(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if all(part["type"] == "text" for part in parts):
        return {"role": "user", "content": "\n".join(part["text"] for part in parts)}
    return {"role": "user", "content": parts}


def _result(block: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    content = block.get("content")
    if content is None:
        content = ""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise wrong(f"{where}.content", "must be a text or a list of blocks")
    where = f"{where}.content"
    return [_part(_block(part, f"{where}.{n}"), f"{where}.{n}") for n, part in enumerate(content)]


def _part(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {"type": "text", "text": _text(block, "text", where)}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image(block, where)}}
        case "document":
            return {"type": "text", "text": _document(block, where)}
        case "search_result":
            texts = _texts(block.get("content"), f"{where}.content")
            return {"type": "text", "text": "\n".join([str(block.get("title") or ""), *texts])}
        case "tool_reference":
            return {"type": "text", "text": _text(block, "tool_name", where)}
        case kind:
            raise wrong(f"{where}.type", f"{kind[:80]!a} is not understood here")


def _source(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise wrong(f"{where}.source", "must be an object with a type")
    return source


def _image(block: Mapping[str, Any], where: str) -> str:
    source = _source(block, where)
    where = f"{where}.source"
    match source.get("type"):
        case "base64":
            kind, data = _text(source, "media_type", where), _text(source, "data", where)
            return f"data:{kind};base64,{data}"
        case "url":
            return _text(source, "url", where)
    raise wrong(where, "must have type 'base64' or 'url'")


def _document(block: Mapping[str, Any], where: str) -> str:
    source = _source(block, where)
    where = f"{where}.source"
    match source.get("type"):
        case "text":
            return _text(source, "data", where)
        case "content":
            return "\n".join(_texts(source.get("content"), f"{where}.content"))
    raise wrong(where, "must have type 'text' or 'content': other documents cannot be read here")


def _text(block: Any, name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "must be a text")
    return value


def _tools(body: Mapping[str, Any], fields: dict[str, Any], notes: Notes) -> None:
    tools = body.get("tools")
    if not isinstance(tools, list | None):
        raise wrong("tools", "must be a list")
    known = [
        _tool(tool, f"tools.{index}")
        for index, tool in enumerate(tools or ())
        if not _is_foreign(tool, notes)
    ]
    choice = _choice(body.get("tool_choice"))
    if known:
        fields |= {"tools": known, **choice}


def _choice(choice: object) -> dict[str, Any]:
    """The fields that say which tools may be called, and how many at a time."""
    if choice is None:
        return {}
    if not isinstance(choice, dict):
        raise wrong("tool_choice", "must be an object with a type")
    kind, fields = choice.get("type"), dict[str, Any]()
    if kind == "tool":
        function = {"name": _text(choice, "name", "tool_choice")}
        fields["tool_choice"] = {"type": "function", "function": function}
    elif isinstance(kind, str) and kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[kind]
    else:
        raise wrong("tool_choice.type", "must be 'auto', 'any', 'tool' or 'none'")
    if choice.get("disable_parallel_tool_use") is True:
        fields["parallel_tool_calls"] = False
    return fields


def _is_foreign(tool: object, notes: Notes) -> bool:
    """Whether a tool runs, or is described, at Anthropic: the model here does not know it."""
    if not isinstance(tool, dict) or "input_schema" in tool:
        return False
    kind = tool.get("type")
    if not isinstance(kind, str) or kind == "custom":
        return False
    notes.add(f"tool type {kind[:64]!a} is not known here and was left out")
    return True


def _tool(tool: object, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise wrong(where, "must be an object")
    for name in ("type", "description"):
        if not isinstance(tool.get(name), str | None):
            raise wrong(f"{where}.{name}", "must be a text")
    if tool.get("name") == "":
        raise wrong(f"{where}.name", "must be a text")
    schema = tool.get("input_schema", {"type": "object"})
    if not isinstance(schema, dict):
        raise wrong(f"{where}.input_schema", "must be an object")
    function = {"name": _text(tool, "name", where), "parameters": schema}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}
