"""What engines answer, decoded: events of a stream cut anywhere, and whole answers.

Owns the incremental reading of server-sent events and the parts of OpenAI's answers that other
protocols have words for. Memory is bounded by the largest event. Pure. Used by `translation`.
"""

from typing import Any

import msgspec

from slalom.errors import EngineError, SlalomError

#: Longest event read, bytes.
EVENT_BYTES_MAX = 8 << 20


class EventTooLargeError(SlalomError):
    """The engine sent an event beyond all measure."""

    code = "answer_too_large"


class FunctionPart(msgspec.Struct):
    """A piece of a call: its name comes once, its arguments in pieces of JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolPart(msgspec.Struct):
    """A piece of one of several tool calls, or a whole one."""

    index: int = 0
    id: str | None = None
    function: FunctionPart = msgspec.field(default_factory=FunctionPart)


class Message(msgspec.Struct):
    """What the model said: whole, or the next piece of it."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    #: What newer vLLM calls `reasoning_content`.
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolPart] | None = None

    @property
    def thought(self) -> str:
        """Text of the reasoning, or empty."""
        return self.reasoning_content or self.reasoning or ""


class Choice(msgspec.Struct):
    """One of the answers."""

    index: int = 0
    #: Of a streamed chat, of a whole one, and of a text completion.
    delta: Message | None = None
    message: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    #: The word at which vLLM stopped.
    stop_reason: str | int | None = None

    @property
    def said(self) -> Message:
        """The message or the piece of it, also of a text completion."""
        return self.delta or self.message or Message(content=self.text)


class PromptDetails(msgspec.Struct):
    """Where prompt tokens came from."""

    cached_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    """What output tokens were for."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were still in the engine's cache."""
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens that were reasoning."""
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0


class Answer(msgspec.Struct):
    """A whole answer, or one event of a streamed one."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    #: Embeddings.
    data: list[dict[str, Any]] | None = None
    #: An engine that failed in its stream says so here.
    error: Any = None
    #: llama.cpp's own clock and counts.
    timings: dict[str, Any] | None = None

    @property
    def first(self) -> Choice:
        """The answer of protocols that know only one."""
        for choice in self.choices:
            if choice.index == 0:
                return choice
        return _NO_CHOICE


_NO_CHOICE = Choice(message=Message())
_DECODER = msgspec.json.Decoder(Answer, strict=False)


def read_answer(data: bytes | str) -> Answer:
    """Decode a whole answer or an event.

    Raises:
        EngineError: It is not what OpenAI's API describes.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineError("The engine's answer cannot be read.", code="engine_error") from None


class EventReader:
    """Cuts a stream of server-sent events into the data of each event."""

    __slots__ = ("_data", "_line", "_line_bytes")

    def __init__(self) -> None:
        #: Pieces of a line that is not complete.
        self._line: list[bytes] = []
        self._line_bytes = 0
        #: Data lines of an event that is not complete.
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Data of the events that this piece completes.

        Raises:
            EventTooLargeError: An event never ends.
        """
        lines = piece.split(b"\n")
        self._line.append(lines[0])
        self._line_bytes += len(lines[0])
        if self._line_bytes > EVENT_BYTES_MAX:
            raise EventTooLargeError(f"The engine sent an event above {EVENT_BYTES_MAX} bytes.")
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._line)
        last = lines.pop()
        self._line, self._line_bytes = [last], len(last)
        events: list[bytes] = []
        for line in lines:
            self._take(line, events)
        self._line_bytes += sum(map(len, self._data))
        return events

    def finish(self) -> list[bytes]:
        """Data of a last event that came without its empty line."""
        events: list[bytes] = []
        self._take(b"".join(self._line), events)
        self._take(b"", events)
        self._line, self._line_bytes = [], 0
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        line = line.removesuffix(b"\r")
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"error":  # llama.cpp's way to fail in a stream
            self._data.append(b'{"error":' + value + b"}")
