"""Ollama's messages, prompts and options in the internal form.

Owns the meaning of the fields and the errors that name one as Ollama's API does
(``options.num_predict``). What only says how an engine is started is the configuration's here,
and the client is told so. Pure. Used by `ollama`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slalom.errors import RequestError
from slalom.gateway.params import ModelFacts
from slalom.gateway.protocols.turns import settled
from slalom.gateway.request_body import check_tools, whole_numbers

#: Options that engines know by the same name.
_NUMBERS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"),
    *("presence_penalty", "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta"),
)
_WHOLE = ("top_k", "repeat_last_n", "mirostat", "seed", "num_keep", "num_predict", "num_ctx")
#: Options that say how an engine is started.
_OF_ENGINE = (
    *("numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only"),
    *("use_mmap", "use_mlock", "embedding_only", "num_thread"),
)
#: Fields of Slalom's own and of llama.cpp that may be added.
_ADDED = ("metadata", "priority", "session_id", "cache_prompt", "id_slot", "t_max_prompt_ms")
_ADDED_TOO = ("t_max_predict_ms", "user", "service_tier")
_TOP_LOGPROBS_MAX = 20
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
#: The first characters of pictures in base64.
_PICTURES = {"/9j/": "jpeg", "iVBOR": "png", "R0lG": "gif", "UklG": "webp"}


def wrong(name: str, what: str) -> RequestError:
    """An error about one field."""
    return RequestError(f"{name}: {what}.", param=name)


def text_of(body: Mapping[str, Any], name: str, where: str = "") -> str:
    """A field that is a text, or left out.

    Raises:
        RequestError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(f"{where}{name}", "must be a text")
    return value


def flag_of(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A field that is true or false, or left out.

    Raises:
        RequestError: It is something else.
    """
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise wrong(name, "must be true or false")
    return default if value is None else value


def settings(body: Mapping[str, Any], facts: ModelFacts, notices: list[str]) -> dict[str, Any]:
    """What chats and texts have in common: sampling, length, stream, log probabilities.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    fields = {name: body[name] for name in (*_ADDED, *_ADDED_TOO) if body.get(name) is not None}
    fields["stream"] = flag_of(body, "stream", default=True)
    if fields["stream"]:
        fields["stream_options"] = {"include_usage": True}
    _options(body.get("options"), fields, facts, notices)
    if keep_alive_s(body) is not None:
        fields["keep_alive"] = body["keep_alive"]
    return fields


def keep_alive_s(body: Mapping[str, Any]) -> float | None:
    """How long the model is to stay after this request, seconds; below 0 for ever.

    Raises:
        RequestError: It is neither a number of seconds nor a duration such as ``5m``.
    """
    value = body.get("keep_alive")
    if value is None or value == "":
        return None
    found = math.nan
    if isinstance(value, str):
        found = _duration_s(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63:
        found = float(value)
    if math.isnan(found):
        raise wrong("keep_alive", "must be a number of seconds or a duration such as '5m'")
    return found


def _duration_s(text: str) -> float:
    """Go's durations, ``1h30m``, and plain numbers; NaN for anything else."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    parts = _DURATION.findall(rest)
    if parts and "".join(number + unit for number, unit in parts) == rest:
        return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        return sign * float(rest) if len(rest) < 40 else math.nan
    except ValueError:
        return math.nan


def _options(
    options: object, fields: dict[str, Any], facts: ModelFacts, notices: list[str]
) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise wrong("options", "must be an object")
    whole_numbers(options)
    for name in (*_NUMBERS, "seed", "num_keep", "num_predict", "num_ctx"):
        value = options.get(name)
        if value is not None:
            _check_number(f"options.{name}", value, whole=name in _WHOLE)
    fields.update({name: options[name] for name in _NUMBERS if options.get(name) is not None})
    if options.get("seed") is not None:
        fields["seed"] = options["seed"]
    if options.get("num_keep") is not None:
        fields["n_keep"] = options["num_keep"]
    limit = options.get("num_predict")
    if limit is not None and limit > 0:  # below 1 it is no limit, and the model's own holds
        fields["max_tokens"] = limit
    stop = options.get("stop")
    if stop is not None:
        words = [stop] if isinstance(stop, str) else stop
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise wrong("options.stop", "must be a text or a list of texts")
        fields["stop"] = words
    _check_context(options.get("num_ctx"), facts, notices)
    foreign = [name for name in _OF_ENGINE if options.get(name) is not None]
    if foreign:
        notices.append(f"{', '.join(foreign)}: set in this server's configuration, ignored")


def _check_number(where: str, value: object, *, whole: bool) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or abs(value) >= 1 << 63:
        raise wrong(where, "must be a whole number" if whole else "must be a number")
    if where == "options.num_predict" and value >= 1 << 31:
        raise wrong(where, f"must be below {1 << 31}")


def _check_context(asked: int | None, facts: ModelFacts, notices: list[str]) -> None:
    """A context is given when an engine is started: more than that cannot be had by asking.

    A prompt that does not fit is refused by the engine and never cut, so that it is enough to say.
    """
    if asked is not None and asked > facts.context_tokens > 0:
        notices.append(f"num_ctx {asked}: this model is served with {facts.context_tokens} tokens")


def chat_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What only chats have: the form of the answer, thinking, log probabilities.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    fields: dict[str, Any] = {}
    schema = form_of(body)
    if schema is not None:
        fields["response_format"] = response_format(schema)
    think = body.get("think")
    if isinstance(think, str):
        fields["chat_template_kwargs"] = {"enable_thinking": True, "reasoning_effort": think}
    elif isinstance(think, bool):
        fields["chat_template_kwargs"] = {"enable_thinking": think}
    elif think is not None:
        raise wrong("think", "must be true, false or a level such as 'low'")
    top = logprobs_of(body)
    if top is not None:
        fields["logprobs"] = True
        fields["top_logprobs"] = top
    return fields


def text_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same for texts without a template, in the words of llama.cpp and of vLLM.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    fields: dict[str, Any] = {}
    schema = form_of(body)
    if schema is not None:
        fields["json_schema"] = schema or {"type": "object"}
        fields["response_format"] = response_format(schema)
    top = logprobs_of(body)
    if top is not None:
        fields["logprobs"] = max(top, 1)
    return fields


def form_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema of the answer; an empty one for any object, None for any text."""
    form = body.get("format")
    if form is None or form == "":
        return None
    if form == "json":
        return {}
    if not isinstance(form, dict):
        raise wrong("format", "must be 'json' or a JSON schema")
    return form


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as OpenAI's API has it."""
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def logprobs_of(body: Mapping[str, Any]) -> int | None:
    """How many other tokens are wanted at each place; None for no log probabilities."""
    wanted, top = flag_of(body, "logprobs", default=False), body.get("top_logprobs")
    if top is None:
        return 0 if wanted else None
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= _TOP_LOGPROBS_MAX:
        raise wrong("top_logprobs", f"must be a whole number from 0 to {_TOP_LOGPROBS_MAX}")
    return top if wanted else None


def messages_of(listed: object) -> list[dict[str, Any]]:
    """A conversation.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    if not isinstance(listed, list):
        raise wrong("messages", "must be a list of messages")
    calls = _Calls()
    return settled(
        _message(message, f"messages[{index}]", calls) for index, message in enumerate(listed)
    )


def user_message(prompt: str, images: object, where: str = "") -> dict[str, Any]:
    """What a user says and shows."""
    pictures = list(_images(images, f"{where}images"))
    if not pictures:
        return {"role": "user", "content": prompt}
    return {"role": "user", "content": [{"type": "text", "text": prompt}, *pictures]}


class _Calls:
    """Gives the tool calls of a conversation ids, where they bring none, and finds them again."""

    def __init__(self) -> None:
        self._count = 0
        #: Id and name of calls that have no result yet.
        self._open: list[tuple[str, str]] = []

    def begin(self, call_id: str, name: str) -> str:
        found = call_id or f"call_{self._count}"
        self._count += 1
        self._open.append((found, name))
        return found

    def end(self, call_id: str, name: str) -> str:
        """The call that a result belongs to: by id, else by name, else the oldest."""
        for place, known in enumerate(self._open):
            if known[0] == call_id or (not call_id and name in {"", known[1]}):
                return self._open.pop(place)[0]
        return call_id or (self._open.pop(0)[0] if self._open else "call_0")


def _message(message: object, where: str, calls: _Calls) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise wrong(where, "must be an object with role and content")
    role = message.get("role")
    content = text_of(message, "content", f"{where}.")
    match role:
        case "user":
            return user_message(content, message.get("images"), f"{where}.")
        case "system" | "developer":
            return {"role": "system", "content": content}
        case "assistant":
            return _of_assistant(message, content, where, calls)
        case "tool":
            name = text_of(message, "tool_name", f"{where}.")
            call_id = calls.end(text_of(message, "tool_call_id", f"{where}."), name)
            return {"role": "tool", "tool_call_id": call_id, "content": content}
    raise wrong(f"{where}.role", "must be 'system', 'user', 'assistant' or 'tool'")


def _of_assistant(
    message: Mapping[str, Any], content: str, where: str, calls: _Calls
) -> dict[str, Any]:
    told: dict[str, Any] = {"role": "assistant", "content": content}
    thought = text_of(message, "thinking", f"{where}.")
    if thought:
        told["reasoning_content"] = thought
    listed = message.get("tool_calls")
    if not isinstance(listed, list | None):
        raise wrong(f"{where}.tool_calls", "must be a list")
    if listed:
        told["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{index}]", calls) for index, call in enumerate(listed)
        ]
    return told


def _call(call: object, where: str, calls: _Calls) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise wrong(where, "must be an object with a function")
    name = text_of(function, "name", f"{where}.function.")
    if not name:
        raise wrong(f"{where}.function.name", "must be a text")
    arguments = function.get("arguments")
    if not isinstance(arguments, dict | None):
        raise wrong(f"{where}.function.arguments", "must be an object")
    call_id = calls.begin(text_of(call, "id", f"{where}."), name)
    written = msgspec.json.encode(arguments or {}).decode()
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": written},
    }


def _images(images: object, where: str) -> Iterator[dict[str, Any]]:
    if images is None:
        return
    if not isinstance(images, list):
        raise wrong(where, "must be a list of pictures in base64")
    for index, data in enumerate(images):
        if not isinstance(data, str):
            raise wrong(f"{where}[{index}]", "must be a picture in base64")
        url = data
        if not data.startswith("data:"):
            kinds = (kind for start, kind in _PICTURES.items() if data.startswith(start))
            url = f"data:image/{next(kinds, 'png')};base64,{data}"
        yield {"type": "image_url", "image_url": {"url": url}}


def tools_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools, which have OpenAI's form.

    Raises:
        RequestError: One of them has not.
    """
    tools = body.get("tools")
    if not isinstance(tools, list | None):
        raise wrong("tools", "must be a list")
    for index, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            raise wrong(f"tools[{index}]", "must be an object with a function that has a name")
    found = [{**tool, "type": "function"} for tool in tools or ()]
    check_tools(found)
    return found
