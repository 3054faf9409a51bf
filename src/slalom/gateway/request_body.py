"""Reading and checking the body of an inference request: one bounded read, one parse.

Owns the limits of the body, the JSON rules and the types of the fields Slalom itself looks at.
Everything else passes through untouched and unread. Called by `inference`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slalom.errors import RequestError
from slalom.gateway.replies import Receive

_decode = msgspec.json.Decoder(dict[str, Any]).decode

#: Largest number that counts as a token limit.
TOKENS_MAX = 1 << 31
#: Up to here every whole number has a float of its own.
_EXACT = 1 << 53
_NUMBER = (int, float)
#: What a list in place of a text may hold, and a list in such a list.
_PARTS, _TOKEN = frozenset((str, int, list)), frozenset((int,))


class ClientGoneError(Exception):
    """The client left before its request was complete: there is nobody to answer."""


async def read_body(receive: Receive, *, declared_bytes: int, bytes_max: int) -> bytes:
    """The whole body. That it comes in time is the server's care (`protocol`).

    Args:
        receive: ASGI's receive.
        declared_bytes: `Content-Length`, or -1 for a body without one.
        bytes_max: Largest body taken.

    Raises:
        RequestError: Too large.
        ClientGoneError: The client has left.
    """
    if declared_bytes > bytes_max:
        raise _too_large(bytes_max)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(bytes_max: int) -> RequestError:
    return RequestError(
        f"The request body is larger than {bytes_max} bytes (server.max_body_mib).",
        code="body_too_large",
    )


def check_media_type(content_type: bytes | None) -> None:
    """Take JSON only: other types are mistakes, or forms posted by a foreign web page.

    Raises:
        RequestError: The body is declared as something else, or as nothing.
    """
    if content_type == b"application/json":
        return
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (
        kind.startswith(b"application/") and kind.endswith(b"+json")
    ):
        raise RequestError(
            f"Send JSON with 'content-type: application/json', not {kind.decode('latin-1')!a}.",
            code="unsupported_media_type",
        )


def parse(body: bytes) -> dict[str, Any]:
    """The body as a document.

    Raises:
        RequestError: Not JSON, not UTF-8, not an object, or nested too deeply.
    """
    try:
        return whole_numbers(_decode(body))
    except RecursionError:
        raise RequestError("The body is nested too deeply.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise RequestError(
            f"The body cannot be used: {_why(problem)}", code="invalid_json"
        ) from None


def whole_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields, in place, with whole numbers as such: to JSON, 16.0 is the integer 16."""
    for name, value in fields.items():
        if type(value) is float:
            fields[name] = _whole(value)
    return fields


def whole_items(items: list[Any]) -> list[Any]:
    """The items of a list in the same way."""
    return [_whole(item) if type(item) is float else item for item in items]


def _whole(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _why(problem: Exception) -> str:
    """What is wrong, without a word of the body: decoders may quote it."""
    if isinstance(problem, msgspec.ValidationError):
        return "must be a JSON object."
    if isinstance(problem, UnicodeDecodeError):
        return "is not UTF-8."
    return f"is not valid JSON ({problem})."


def check_fields(body: Mapping[str, Any], *, chat: bool, embeddings: bool) -> None:
    """Check the types of the fields that Slalom reads; the engine judges the rest.

    Raises:
        RequestError: `param` names the first field that is wrong.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "is needed: the id of a model (GET /v1/models lists them)")
    if embeddings:
        if not body.get("input") or not _is_text(body["input"]):
            raise _wrong("input", "must be a text, or a list of texts or tokens")
        return
    if chat:
        check_messages(body.get("messages"))
    else:
        if not _is_text(body.get("prompt")):
            raise _wrong("prompt", "must be a text, or a list of texts or tokens")
        suffix = body.get("suffix")
        if suffix is not None and not isinstance(suffix, str):
            raise _wrong("suffix", "must be a text")
    _check_options(body)


def _is_text(given: object) -> bool:
    """Whether this is a text, a list of texts and tokens, or a list of lists of tokens."""
    if isinstance(given, str):
        return True
    if not isinstance(given, list) or not given:
        return False
    kinds = set(map(type, given))
    if list in kinds and not all(part and _are_of(part, _TOKEN) for part in _lists(given)):
        return False
    return _are_of(given, _PARTS)


def _lists(given: list[Any]) -> Iterator[list[Any]]:
    return (part for part in given if type(part) is list)


def _are_of(given: list[Any], kinds: frozenset[type]) -> bool:
    found = set(map(type, given))
    if float in found:
        found = set(map(type, whole_items(given)))
    return found <= kinds


def check_messages(messages: object) -> None:
    """Check what all engines agree on.

    Raises:
        RequestError: `param` names the first message, or part of one, that is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list of at least one message")
    for index, message in enumerate(messages):
        # Of long conversations nearly all messages are texts: those are looked at and no more.
        if not isinstance(message, dict):
            raise _wrong(f"messages[{index}]", "must be an object with role and content")
        if not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{index}].role", "must be a text such as 'user'")
        if type(message.get("content")) is not str:
            _check_parts(message.get("content"), f"messages[{index}].content")


def _check_parts(content: object, where: str) -> None:
    if not isinstance(content, str | list | None):
        raise _wrong(where, "must be a text or a list of parts")
    for place, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise _wrong(f"{where}[{place}]", "must be an object with a type such as 'text'")


def _check_options(body: Mapping[str, Any]) -> None:
    for name in ("stream", "echo"):
        if body.get(name) is not None and not isinstance(body[name], bool):
            raise _wrong(name, "must be true or false")
    for name in ("max_tokens", "max_completion_tokens", "n_predict", "n"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, "must be an integer")
        if not (-1 if name == "n_predict" else 1) <= value < TOKENS_MAX:
            raise _wrong(name, f"must be at least 1 and below {TOKENS_MAX}")
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, _NUMBER)):
            raise _wrong(name, "must be a number")
    for name in ("stream_options", "metadata"):
        if body.get(name) is not None and not isinstance(body[name], dict):
            raise _wrong(name, "must be an object")
    check_tools(body.get("tools"))
    _check_stop(body.get("stop"))


def _check_stop(stop: object) -> None:
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(word, str) for word in stop):
        raise _wrong("stop", "must be a text or a list of texts")


def check_tools(tools: object) -> None:
    """Check that each is a tool; engines that leave out what they cannot read would not say so.

    Raises:
        RequestError: `param` names the first that is none.
    """
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _wrong("tools", "must be a list")
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise _wrong(where, "must be an object with a type and a function")
        kind = tool.get("type", "function")
        if not isinstance(kind, str):
            raise _wrong(f"{where}.type", "must be a text such as 'function'")
        if kind != "function":
            continue  # engines may know others
        function = tool.get("function")
        if not isinstance(function, dict):
            raise _wrong(f"{where}.function", "must be an object with a name")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise _wrong(f"{where}.function.name", "must be a text")
        if not isinstance(function.get("parameters"), dict | None):
            raise _wrong(f"{where}.function.parameters", "must be a JSON schema, an object")


def _wrong(name: str, what: str) -> RequestError:
    return RequestError(f"{name} {what}.", param=name)
