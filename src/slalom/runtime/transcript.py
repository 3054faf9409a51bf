"""What a client has got of a streamed answer, so that another attempt can go on behind it.

Owns the text of answers that may be paused (bounded, in memory only, never logged), and the
splicing of a later attempt's stream into the one the client reads: ids, role, usage. Works on
whole events, as `stream_watch` cuts them. Called by `relay`; there is none where nothing pauses.
"""

import re
from typing import Any

import msgspec

#: A longer text is not kept: its answer runs to its end and cannot be paused.
TEXT_BYTES_MAX = 1 << 20
#: Events are looked through when so many bytes of them have come together: most answers are
#: never paused, and an event is ten times as long as its text.
_UNREAD_BYTES_MAX = 1 << 16
_DATA = re.compile(rb"(?:^|\n)data:[ ]?(\{[^\r\n]*|\[DONE\])")
_EVENT = re.compile(rb".+?(?:\r?\n\r?\n|$)", re.DOTALL)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    id: str | None = None
    created: int | float | None = None
    choices: list[_Choice] = []


_DECODER = msgspec.json.Decoder(_Event)
_ENCODER = msgspec.json.Encoder()


class Transcript:
    """The answer of one request as far as its client has it."""

    __slots__ = (
        "_bytes",
        "_created",
        "_ended",
        "_id",
        "_text",
        "_unread",
        "_unread_bytes",
        "_usable",
        "begun",
    )

    def __init__(self) -> None:
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._text: list[str] = []
        self._bytes = 0
        self._id: str | None = None
        self._created: int | float | None = None
        self._ended = False
        self._usable = True
        #: Whether the client has got any event.
        self.begun = False

    def __repr__(self) -> str:
        """Counts; never a word of the text."""
        return f"Transcript(bytes={self._bytes}, unread={self._unread_bytes}, ended={self._ended})"

    @property
    def text(self) -> str:
        """The text that the client has got."""
        self._read()
        return "".join(self._text)

    def keep(self, events: bytes) -> None:
        """Note whole events that go to the client."""
        if not events or not self._usable:
            return
        self.begun = True
        self._unread.append(events)
        self._unread_bytes += len(events)
        if self._unread_bytes > _UNREAD_BYTES_MAX:
            self._read()

    def can_go_on(self) -> bool:
        """Whether another attempt could go on behind the text: it is text, and not at its end."""
        self._read()
        return self._usable and not self._ended

    def splice(self, events: bytes, resumed_tokens: int) -> bytes:
        """Events of a later attempt as the client would have got them of the first.

        Args:
            events: Whole events.
            resumed_tokens: Tokens that the earlier attempts produced: part of the later one's
                prompt, but of the client's answer.
        """
        self._read()
        pieces = (self._spliced(match[0], resumed_tokens) for match in _EVENT.finditer(events))
        return b"".join(pieces)

    def _spliced(self, event: bytes, resumed_tokens: int) -> bytes:
        found = _DATA.search(event)
        if found is None or found[1] == b"[DONE]":
            return event
        try:
            document = msgspec.json.decode(found[1])
        except msgspec.DecodeError:
            return event
        if self._id is not None:
            document["id"] = self._id
        if self._created is not None:
            document["created"] = self._created
        usage = document.get("usage")
        if isinstance(usage, dict):
            _add_up(usage, resumed_tokens)
        elif _is_opening(document):
            return b""
        return b"data: " + _ENCODER.encode(document) + b"\n\n"

    def _read(self) -> None:
        unread, self._unread, self._unread_bytes = b"".join(self._unread), [], 0
        for found in _DATA.finditer(unread):
            if found[1] == b"[DONE]":
                self._ended = True
                continue
            try:
                self._take(_DECODER.decode(found[1]))
            except msgspec.DecodeError:
                self._give_up()
        if self._bytes > TEXT_BYTES_MAX:
            self._give_up()

    def _take(self, event: _Event) -> None:
        self._id = self._id or event.id
        self._created = self._created or event.created
        for choice in event.choices:
            delta = choice.delta
            if choice.index or (delta and (delta.tool_calls or delta.reasoning_content)):
                self._give_up()
            text = choice.text or (delta.content if delta else None)
            if text and self._usable:
                self._text.append(text)
                self._bytes += len(text.encode("utf-8", "replace"))
            if choice.finish_reason:
                self._ended = True

    def _give_up(self) -> None:
        self._usable = False
        self._text.clear()


def _add_up(usage: dict[str, Any], resumed_tokens: int) -> None:
    """The usage of the whole answer from that of its last part.

    The engine read what earlier attempts produced as a part of its prompt. Where it cuts the
    joined text into tokens otherwise, the prompt's count is off by that difference.
    """
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(read, int) and isinstance(written, int):
        usage["prompt_tokens"] = max(read - resumed_tokens, 0)
        usage["completion_tokens"] = written + resumed_tokens
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]


def _is_opening(document: dict[str, Any]) -> bool:
    """Take a second role out of a chat's event; whether nothing is left in it."""
    choices = document.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return False
    delta = choices[0].get("delta")
    if not isinstance(delta, dict) or "role" not in delta:
        return False
    del delta["role"]
    return not choices[0].get("finish_reason") and not any(delta.values())
