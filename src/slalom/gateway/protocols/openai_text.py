"""Text completions of which OpenAI's form says more than engines give: echo, log probabilities.

Owns the writer that repeats the prompt for an engine that does not, tells log probabilities in the
form of completions where an engine has that of chats, and leaves out events that say nothing.
Plain completions never come here: their bytes pass through. Called by `preparation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from slalom.engines.protocol import Capabilities
from slalom.errors import EngineError, RequestError
from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import EventReader
from slalom.gateway.protocols.frame import Internal
from slalom.gateway.protocols.openai import PassThrough

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder().decode
_END = b"[DONE]"
#: Most other tokens at a place that may be asked for.
_LOGPROBS_MAX = 1000


def settle(internal: Internal, capabilities: Capabilities, model: str) -> None:
    """Check what a checked text completion asks for beside its text, and see to its writer.

    Args:
        internal: The completion; its body and writer are replaced where needed.
        capabilities: Of the model's engine.
        model: For messages.

    Raises:
        RequestError: It asks for what is not to be had; `param` names what.
    """
    body, plain = internal.body, isinstance(internal.writer, PassThrough)
    count, prompt = body.get("n") or 1, body["prompt"]
    if body.get("best_of") not in (None, count):
        raise RequestError(
            "best_of must be the same as n: answers are not chosen among here.", param="best_of"
        )
    top = _logprobs_of(body) if plain else None
    own_echo = plain and body.get("echo") is True and not capabilities.echo
    if own_echo:
        _check_echo(prompt, top, model)
    elif top is None and count == 1 and not isinstance(prompt, list):
        return
    if not plain:
        return
    changes: dict[str, Any] = {"echo": False} if own_echo else {}
    if top == 0:  # some engines take it for none at all; what is too much is left out again
        changes["logprobs"] = 1
    if changes:
        internal.body, internal.raw = {**body, **changes}, b""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    internal.writer = TextWriter(prompts if own_echo else (), count, top)


def _logprobs_of(body: Mapping[str, Any]) -> int | None:
    top = body.get("logprobs")
    if top is None or top is False:
        return None
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= _LOGPROBS_MAX:
        raise RequestError(
            f"logprobs must be an integer from 0 to {_LOGPROBS_MAX}.", param="logprobs"
        )
    return top


def _check_echo(prompt: object, top: int | None, model: str) -> None:
    """What of an echo is the engine's alone: tokens as text, and how likely the prompt is."""
    texts = isinstance(prompt, str) or (
        isinstance(prompt, list) and all(isinstance(part, str) for part in prompt)
    )
    if top is not None or not texts:
        raise RequestError(
            f"The engine of the model {model!r} does not repeat prompts: echo is to be had without "
            "logprobs, and for prompts that are texts.",
            code="unsupported_by_model",
            param="echo",
        )


class TextWriter:
    """Writes one answer, whole or streamed.

    Args:
        prompts: What stands before the answers; empty where it is not to be repeated.
        count: Answers to each prompt.
        top: How many other tokens are told at each place; None for no log probabilities.
    """

    stream_type = b""

    def __init__(self, prompts: Sequence[str], count: int, top: int | None) -> None:
        self._prompts = prompts
        self._count = count
        self._top = top
        self._reader = EventReader()
        #: Characters that the client has of each answer.
        self._told: dict[int, int] = {}
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The events that these bytes complete.

        Raises:
            EngineError: One of them cannot be read.
        """
        return b"".join([self._event(event) for event in self._reader.feed(data)])

    def finish(self) -> bytes:
        """An event that came without its end."""
        return b"".join([self._event(event) for event in self._reader.finish()])

    def whole(self, body: bytes) -> bytes:
        """The answer with what was asked for.

        Raises:
            EngineError: It cannot be read.
        """
        return _encode(self._document(body))

    def sign_of_life(self, text: str) -> bytes:
        """A comment of the event stream."""
        return PassThrough().sign_of_life(text)

    def failed(self, failure: Failure) -> bytes:
        """An error event."""
        return PassThrough().failed(failure)

    def _event(self, event: bytes) -> bytes:
        if event == _END:
            self.ended = True
            return b"data: " + _END + b"\n\n"
        if event == b"null":  # llama.cpp's word for the role of a text
            return b""
        return b"data: " + _encode(self._document(event)) + b"\n\n"

    def _document(self, data: bytes) -> dict[str, Any]:
        try:
            document: Any = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        choices = document.get("choices", []) if isinstance(document, dict) else None
        if not isinstance(choices, list):
            raise EngineError("The engine's answer cannot be read.", code="engine_error")
        for choice in choices:
            if isinstance(choice, dict) and isinstance(choice.get("text"), str):
                self._complete(choice)
        found: dict[str, Any] = document
        return found

    def _complete(self, choice: dict[str, Any]) -> None:
        """Put before the text what is missing there, and the log probabilities into their form."""
        index, text = choice.get("index", 0), choice["text"]
        if index not in self._told and self._prompts:
            prompt = self._prompts[min(index // self._count, len(self._prompts) - 1)]
            choice["text"] = prompt + text
            self._told[index] = len(prompt)
        start = self._told.get(index, 0)
        self._told[index] = start + len(text)
        given = choice.get("logprobs")
        if (
            self._top is not None
            and isinstance(given, dict)
            and isinstance(given.get("content"), list)
        ):
            choice["logprobs"] = _of_completions(given["content"], start, self._top)


def _of_completions(content: list[Any], start: int, top: int) -> dict[str, Any]:
    """Log probabilities of chats as completions have them.

    Args:
        content: A place for each token.
        start: Where its text begins in the answer, characters.
        top: Other tokens at each place.
    """
    tokens = [str(place.get("token", "")) for place in content if isinstance(place, dict)]
    offsets: list[int] = []
    for token in tokens:
        offsets.append(start)
        start += len(token)
    others = [
        {
            str(other.get("token", "")): other.get("logprob")
            for other in (place.get("top_logprobs") or [])[:top]
        }
        for place in content
        if isinstance(place, dict)
    ]
    return {
        "tokens": tokens,
        "token_logprobs": [p.get("logprob") for p in content if isinstance(p, dict)],
        "top_logprobs": others if top else None,
        "text_offset": offsets,
    }
