"""llama.cpp's own words for a completion: its final document, its stream, its errors.

Owns the fields that llama.cpp gives beside the text (how it ended, timings, counts) and the
choice among them by `response_fields`. Says nothing that the engine's answer does not tell: most
engines give no hint of the stop text that ended an answer. Used by `llama_cpp`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer, Choice, Usage
from slalom.gateway.protocols.stopwatch import Stopwatch
from slalom.units import MS, SECOND

_encode = msgspec.json.encode

_ERROR_TYPES = {404: "not_found_error", 503: "unavailable_error"}


def error_body(failure: Failure, _request_id: str) -> bytes:
    """The error as llama.cpp writes it: its code is the status; ours is the reason."""
    return _encode({"error": _error(failure)})


def _error(failure: Failure) -> dict[str, Any]:
    return {
        "code": failure.status,
        "message": failure.message,
        "type": _ERROR_TYPES.get(failure.status, failure.type),
        "reason": failure.code,
        "param": failure.param,
    }


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer repeats of its request."""

    model: str
    prompt: Any = field(repr=False)
    id_slot: int = -1
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The fields that the last document is to have; empty for all.
    fields: Sequence[str] = ()


class CompletionTeller:
    """Tells one completion.

    Args:
        told: What it repeats.
    """

    stream_type = b"text/event-stream"

    def __init__(self, told: Told) -> None:
        self._told = told
        self._watch = Stopwatch()
        self._usage = Usage()
        self._end = Choice()
        self._pieces = 0
        self._has_new_line = False

    def piece(self, piece: Answer) -> bytes:
        """An event for the next piece, if there is text in it."""
        choice = piece.first
        self._note(piece, choice)
        text = choice.said.content
        if not text:
            return b""
        self._watch.first()
        self._pieces += 1
        document = {
            "index": 0,
            "content": text,
            "tokens": [],
            "stop": False,
            "id_slot": self._told.id_slot,
            "tokens_predicted": self._pieces,
            "tokens_evaluated": self._usage.prompt_tokens,
            **_probabilities(choice),
        }
        return _event(document)

    def end(self) -> bytes:
        """The last event; there is no further end mark."""
        return _event(self._final("", {}))

    def whole(self, answer: Answer) -> bytes:
        """The document."""
        choice = answer.first
        self._note(answer, choice)
        return _encode(self._final(choice.said.content or "", _probabilities(choice)))

    def sign_of_life(self, text: str) -> bytes:
        """A comment of the event stream."""
        return f": {text}\n\n".encode()

    def failed(self, failure: Failure) -> bytes:
        """An error event."""
        return b"data: " + error_body(failure, "") + b"\n\n"

    def _note(self, answer: Answer, choice: Choice) -> None:
        self._usage = answer.usage or self._usage
        self._watch.timings = answer.timings or self._watch.timings
        if choice.finish_reason:
            self._end = choice
        self._has_new_line = self._has_new_line or "\n" in (choice.said.content or "")

    def _final(self, text: str, probabilities: Mapping[str, Any]) -> dict[str, Any]:
        told, usage = self._told, self._usage
        word = self._end.stop_reason if isinstance(self._end.stop_reason, str) else ""
        kind = "word" if word else "eos"
        document: dict[str, Any] = {
            "index": 0,
            "content": text,
            "tokens": [],
            "id_slot": told.id_slot,
            "stop": True,
            "model": told.model,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": told.settings,
            "prompt": told.prompt,
            "has_new_line": self._has_new_line,
            "truncated": False,
            "stop_type": "limit" if self._end.finish_reason == "length" else kind,
            "stopping_word": word,
            "tokens_cached": max(usage.prompt_tokens + usage.completion_tokens - 1, 0),
            "timings": self._timings(),
            **probabilities,
        }
        return _chosen(document, told.fields) if told.fields else document

    def _timings(self) -> Mapping[str, Any]:
        """llama.cpp's own, or the same made of our clock for other engines."""
        if self._watch.timings:
            return self._watch.timings
        usage = self._usage
        read = max(usage.prompt_tokens - usage.cached_tokens, 0)
        prompt_ns, answer_ns, _ = self._watch.read()
        return {
            "cache_n": usage.cached_tokens,
            **_rates("prompt", read, prompt_ns),
            **_rates("predicted", usage.completion_tokens, answer_ns),
        }


def _rates(name: str, tokens: int, took_ns: int) -> dict[str, Any]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": took_ns / MS,
        f"{name}_per_token_ms": took_ns / MS / tokens if tokens else 0.0,
        f"{name}_per_second": tokens * SECOND / took_ns if took_ns else 0.0,
    }


def _probabilities(choice: Choice) -> dict[str, Any]:
    """llama.cpp gives them in the same form under another name."""
    content = choice.logprobs.get("content") if isinstance(choice.logprobs, dict) else None
    return {"completion_probabilities": content} if isinstance(content, list) else {}


def _chosen(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named fields; ``timings/prompt_n`` is one inside another, under its whole name."""
    found: dict[str, Any] = {}
    for name in names:
        value: Any = document
        for part in name.split("/"):
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            found[name] = value
    return found


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"
