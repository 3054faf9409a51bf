"""The two gates that an answer of a small model passes before its client gets it.

Owns what is looked at: how sure the model was of its first tokens, and whether a completion makes
a program of the text around it. What becomes of a doubted answer is decided in the core. Built by
`preparation`, used by the runtime for aliases of kind `confident`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from slalom.core.events import Verdict
from slalom.core.request import Request
from slalom.gateway.params import GateParams, ServedAlias
from slalom.gateway.resolution import CHAT_PATH, EMBEDDINGS_PATH, Facts
from slalom.models import syntax
from slalom.models.fim import FimTemplate

_DATA = re.compile(rb"(?:^|\n)data:[ ]?(\{[^\r\n]*)")
_EVENT = re.compile(rb".+?(?:\r?\n\r?\n|$)", re.DOTALL)
#: Fields with which an answer is more than one text, or not a new one.
_COUNTS = ("n", "best_of")
_MORE = ("echo", "tools", "functions")
#: What asks an engine how sure it is, of completions and of chats.
_ASK_COMPLETION: Mapping[str, Any] = {"logprobs": 1}
_ASK_CHAT: Mapping[str, Any] = {"logprobs": True, "top_logprobs": 1}
_TOLD_ALREADY = ("logprobs", "n_probs")


class _Content(msgspec.Struct):
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    #: As OpenAI's chats, and llama.cpp, have them.
    content: list[_Content] | None = None
    #: As OpenAI's completions have them.
    token_logprobs: list[float | None] | None = None


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Said | None = None
    message: _Said | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []


_DECODER = msgspec.json.Decoder(_Event)
_encode = msgspec.json.encode


def can_be_judged(facts: Facts) -> bool:
    """Whether the answer to a request will be one new text, which can be looked at."""
    body = facts.body
    one = all(body.get(name) in (None, 1) for name in _COUNTS) and not _several(body.get("prompt"))
    return facts.path != EMBEDDINGS_PATH and one and not any(body.get(name) for name in _MORE)


def _several(prompt: object) -> bool:
    """Whether a prompt is more than one text, or more than one row of tokens."""
    return isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)


def asking(facts: Facts) -> Mapping[str, Any]:
    """What to set in a body so that the engine says how sure it is; nothing if it does anyway."""
    if any(facts.body.get(name) for name in _TOLD_ALREADY):
        return {}
    return _ASK_CHAT if facts.path == CHAT_PATH else _ASK_COMPLETION


@dataclass(frozen=True, slots=True)
class GateMaker:
    """Makes the gate of each attempt at one request."""

    params: GateParams
    #: Text before and after the cursor; None for what is no completion.
    cursor: tuple[str, str] | None
    #: Name of the file, if the request says it.
    file_name: str = ""
    #: Whether the client did not ask for what the gate asks of the engine.
    strips: bool = True

    def __call__(self) -> "AnswerGate":
        """A fresh gate."""
        return AnswerGate(self)


def gate_for(
    alias: ServedAlias | None,
    request: Request,
    facts: Facts,
    cursor: tuple[str, str] | None,
    fim: FimTemplate | None,
) -> GateMaker | None:
    """What makes the gates of a request; None where no other model could take over.

    Args:
        alias: What the client asked for; None for a model.
        request: As the core will see it.
        facts: Of the request.
        cursor: Text before and after it; None for what is no completion.
        fim: Of the first model, whose marks the text may have.
    """
    if alias is None or not request.stand_in:
        return None
    if cursor is not None and fim is not None:
        cursor = fim.bare(*cursor)
    name = facts.body.get("filename")
    named = name if isinstance(name, str) else ""
    return GateMaker(alias.gates, cursor, named, strips=bool(asking(facts)))


class AnswerGate:
    """Looks at one answer.

    Args:
        made_by: What is asked of it.
    """

    def __init__(self, made_by: GateMaker) -> None:
        self._made_by = made_by
        self._language = ""
        params = made_by.params
        if params.parse and made_by.cursor is not None:
            language = syntax.language_of(made_by.file_name, params.language)
            self._language = language if syntax.can_parse(language) else ""
        self._logprobs: list[float] = []
        self._text: list[str] = []
        self._cut = False
        self._sure = False

    def __repr__(self) -> str:
        """Counts; never a word of the answer."""
        return f"<AnswerGate tokens={len(self._logprobs)} sure={self._sure}>"

    def feed(self, data: bytes) -> Verdict | None:
        """Take whole events, or a whole body."""
        body = data.lstrip()
        found = [body] if body.startswith(b"{") else [one[1] for one in _DATA.finditer(data)]
        for document in found:
            try:
                self._take(_DECODER.decode(document))
            except msgspec.DecodeError:
                return Verdict.TRUSTED  # not ours to judge: its client shall see it
        if not self._sure and len(self._logprobs) >= self._made_by.params.first_tokens:
            return self._first()
        return None

    def end(self) -> Verdict:
        """All of it is there: of fewer tokens than are asked for, these count."""
        if not self._sure and self._logprobs and self._first() is Verdict.UNSURE:
            return Verdict.UNSURE
        cursor = self._made_by.cursor
        if self._language and cursor is not None:
            filled = syntax.Filled(cursor[0], "".join(self._text), cursor[1], cut=self._cut)
            if syntax.is_program(self._language, filled) is False:
                return Verdict.BROKEN
        return Verdict.TRUSTED

    def clean(self, data: bytes) -> bytes:
        """Take out what only the gate has asked for."""
        if not self._made_by.strips or b'"logprobs"' not in data:
            return data
        if data.lstrip().startswith(b"{"):
            return _without(data) or data
        return b"".join(_clean_event(match[0]) for match in _EVENT.finditer(data))

    def _take(self, event: _Event) -> None:
        for choice in event.choices:
            said = choice.delta or choice.message
            text = choice.text or (said.content if said is not None else None)
            if text:
                self._text.append(text)
            self._cut = self._cut or choice.finish_reason == "length"
            if choice.logprobs is not None:
                self._logprobs += _values(choice.logprobs)

    def _first(self) -> Verdict | None:
        """What the first tokens say; None if there is more to look at."""
        params = self._made_by.params
        first = self._logprobs[: params.first_tokens]
        if sum(first) / len(first) < params.min_logprob:
            return Verdict.UNSURE
        self._sure = True
        return None if self._language else Verdict.TRUSTED


def _values(logprobs: _Logprobs) -> list[float]:
    told = [one.logprob for one in logprobs.content or ()] or (logprobs.token_logprobs or [])
    return [value for value in told if value is not None]


def _clean_event(event: bytes) -> bytes:
    found = _DATA.search(event)
    cleaned = _without(found[1]) if found is not None and b'"logprobs"' in event else None
    return event if cleaned is None else b"data: " + cleaned + b"\n\n"


def _without(document: bytes) -> bytes | None:
    """The same document without log-probabilities; None if it is none."""
    try:
        found = msgspec.json.decode(document)
        for choice in found["choices"]:
            choice["logprobs"] = None
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
    return _encode(found)
