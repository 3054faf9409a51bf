"""Looks into a relayed SSE stream for the four things the runtime must know, and no more.

Owns the detection of the first non-empty token, the count of tokens, the usage chunk (taken out
again if the client did not ask for it) and errors sent as events. Bytes pass through untouched
but cut at event ends. Works by searching bytes: parsing every chunk would cost ten times more.
"""

import re
from typing import Any

import msgspec

#: A partial event longer than this is passed on as it is, so that memory stays bounded.
PARTIAL_BYTES_MAX = 1 << 20

#: A delta with text in it, or a tool call: the first byte a user can see.
_TOKEN = re.compile(
    rb'"(?:content|text|reasoning_content|arguments)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\[\s*\{'
)
#: Such an answer says so in its last chunk; inside a text the quotes would be escaped.
_CALLS_TOOLS = re.compile(rb'"finish_reason"\s*:\s*"tool_calls"')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_ERROR = re.compile(rb'(?:^|\n)(?:error:|data:\s*\{\s*"error"\s*:)')


class _Usage(msgspec.Struct):
    prompt_tokens: int = -1
    completion_tokens: int = -1
    #: Optional and young: whatever stands there must not cost the rest.
    prompt_tokens_details: Any = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were not read anew, or -1 where the engine does not say."""
        details = self.prompt_tokens_details
        told = details.get("cached_tokens") if isinstance(details, dict) else None
        return told if isinstance(told, int) and told >= 0 else -1


class _Chunk(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[Any] = []


_CHUNK = msgspec.json.Decoder(_Chunk)


class StreamWatch:
    """Watches one SSE answer.

    Args:
        strip_usage: Take out the usage chunk (the one without choices): Slalom asked for it,
            the client did not.
    """

    __slots__ = (
        "_events",
        "_partial",
        "_strip_usage",
        "_usage",
        "done",
        "error",
        "first_token",
        "tool_calls",
    )

    def __init__(self, *, strip_usage: bool) -> None:
        self._strip_usage = strip_usage
        self._partial = b""
        self._events = 0
        self._usage: _Usage | None = None
        #: A non-empty token has been seen.
        self.first_token = False
        #: The end mark has been seen.
        self.done = False
        #: The engine reported an error inside the stream.
        self.error = False
        #: The answer ends by calling tools.
        self.tool_calls = False

    @property
    def output_tokens(self) -> int:
        """Tokens so far: the engine's count once it gave one, else chunks that can carry one."""
        if self._usage is not None and self._usage.completion_tokens >= 0:
            return self._usage.completion_tokens
        return self._events

    @property
    def prompt_tokens(self) -> int:
        """The engine's count of prompt tokens, or -1."""
        return self._usage.prompt_tokens if self._usage is not None else -1

    @property
    def cached_tokens(self) -> int:
        """The engine's count of those among them that it had read before, or -1."""
        return self._usage.cached_tokens if self._usage is not None else -1

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the stream; return those to pass on now (whole events)."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if not data.endswith(b"\n\n"):
            data = self._hold_partial(data)
            if not data:
                return b""
        if not self.first_token:
            match = _TOKEN.search(data)
            if match is None:
                return self._inspect(data)
            self.first_token = True
            self._events = data.count(b"data:", match.start()) + 1
        else:
            self._events += data.count(b"data:")
        return self._inspect(data)

    def finish(self) -> bytes:
        """What is left at the end of the stream: a last event without its empty line."""
        rest, self._partial = self._partial, b""
        return self._inspect(rest) if rest else b""

    def _hold_partial(self, data: bytes) -> bytes:
        """Keep what follows the last event end for later; return the whole events."""
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
        if data.endswith(b"\n\r\n"):
            return data
        if end < 3:
            end = 0
        if len(data) - end > PARTIAL_BYTES_MAX:
            return data
        self._partial = data[end:]
        return data[:end]

    def _inspect(self, data: bytes) -> bytes:
        if b'"error"' in data or b"error:" in data:
            self.error = self.error or _ERROR.search(data) is not None
        if b'"tool_calls"' in data:
            self.tool_calls = self.tool_calls or _CALLS_TOOLS.search(data) is not None
        if b"[DONE]" in data:
            self.done = True
            self._events -= 1
        if b'"usage"' in data and _USAGE.search(data):
            return self._take_usage(data)
        return data

    def _take_usage(self, data: bytes) -> bytes:
        """Look only at events with a usage in them: splitting all of them costs more."""
        kept, cut = [], 0
        match = _USAGE.search(data)
        while match is not None:
            start, end = _event_around(data, match.start())
            if self._is_bare_usage(data[start:end]):
                self._events -= 1
                if self._strip_usage:
                    kept.append(data[cut:start])
                    cut = end
            match = _USAGE.search(data, end)
        return b"".join((*kept, data[cut:])) if cut else data

    def _is_bare_usage(self, event: bytes) -> bool:
        """Note the usage of an event; whether it carries nothing else."""
        try:
            chunk = _CHUNK.decode(event[event.index(b"{") :].rstrip())
        except (msgspec.DecodeError, ValueError):
            return False
        if chunk.usage is None:
            return False
        self._usage = chunk.usage
        return not chunk.choices


def _event_around(data: bytes, at: int) -> tuple[int, int]:
    """Where the event begins and ends that has a byte at this place."""
    bare, crlf = data.rfind(b"\n\n", 0, at), data.rfind(b"\n\r\n", 0, at)
    start = max(bare + 2 if bare >= 0 else 0, crlf + 3 if crlf >= 0 else 0)
    match = _EVENT_END.search(data, at)
    return start, match.end() if match else len(data)


class BodyWatch:
    """Finds the usage in an answer that is not streamed."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take bytes of the body."""
        self._parts.append(data)

    def tool_calls(self) -> bool:
        """Whether the answer ends by calling tools."""
        return any(b'"tool_calls"' in part for part in self._parts) and (
            _CALLS_TOOLS.search(b"".join(self._parts)) is not None
        )

    def usage(self) -> tuple[int, int, int]:
        """(prompt, output, cached prompt tokens); -1, 0, -1 where the engine does not say."""
        try:
            chunk = msgspec.json.decode(b"".join(self._parts), type=_UsageOnly)
        except msgspec.DecodeError:
            return -1, 0, -1
        if chunk.usage is None:
            return -1, 0, -1
        usage = chunk.usage
        return usage.prompt_tokens, max(usage.completion_tokens, 0), usage.cached_tokens


class _UsageOnly(msgspec.Struct):
    usage: _Usage | None = None
