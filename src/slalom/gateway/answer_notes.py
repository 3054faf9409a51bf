"""What stands between the runtime and a client's sink: a copy for the cache, or silence.

Owns the reading of one whole completion, streamed or not, in the internal form, for requests whose
answer may be kept; and the sink of warm-ups, whose answer nobody wants. Built by `inference`.
"""

import re

import msgspec

from slalom.gateway.asgi_sink import AnySink
from slalom.gateway.completion_cache import Rest
from slalom.runtime.sink import Assignment, Waiting

#: Longer answers are not read, bytes of events: some twenty times their text.
_BYTES_MAX = 512 << 10
_DATA = re.compile(rb"(?:^|\n)data:[ ]?(\{[^\r\n]*)")


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_DECODER = msgspec.json.Decoder(_Answer)


class AnswerNotes:
    """A sink that hands everything on and keeps a copy.

    Args:
        sink: Where it goes.
        stream: Whether the answer is streamed.
    """

    def __init__(self, sink: AnySink, *, stream: bool) -> None:
        self._sink = sink
        self._stream = stream
        self._parts: list[bytes] = []
        self._bytes = 0

    async def waiting(self, waiting: Waiting) -> None:
        """Hand on."""
        await self._sink.waiting(waiting)

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        """Hand on; a whole answer starts over with each attempt, a stream goes on."""
        if not self._stream:
            self._parts.clear()
            self._bytes = 0
        await self._sink.head(assignment, status, content_type)

    async def body(self, data: bytes) -> None:
        """Note and hand on."""
        self._bytes += len(data)
        if self._bytes <= _BYTES_MAX:
            self._parts.append(data)
        await self._sink.body(data)

    def rest(self) -> Rest | None:
        """What the engine said, if that is one whole text: only such a one says how it ended."""
        if self._bytes > _BYTES_MAX:
            return None
        data = b"".join(self._parts)
        documents = [found[1] for found in _DATA.finditer(data)] if self._stream else [data]
        try:
            choices = [one for found in documents for one in _DECODER.decode(found).choices]
        except msgspec.DecodeError:
            return None
        finish = [one.finish_reason for one in choices if one.finish_reason]
        if any(one.index for one in choices) or finish not in (["stop"], ["length"]):
            return None
        return Rest("".join(one.text or "" for one in choices), finish[0])


class Silence:
    """A sink that takes an answer and says nothing of it."""

    async def waiting(self, waiting: Waiting) -> None:
        """Nothing."""

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        """Nothing."""

    async def body(self, data: bytes) -> None:
        """Nothing."""
