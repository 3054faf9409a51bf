"""What a load client reads of one answer: first token, tokens, errors, as bytes arrive.

Owns the reading of server-sent events and of error bodies. Keeps no text of an answer unless asked
to. Used by `load_client` and by the typing simulator, whose typists read what is suggested.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from slalom.metrics.records import NEVER
from slalom.units import SECOND

#: Most bytes of an error's body or of one unfinished event that are kept.
_HELD_BYTES_MAX = 1 << 20
#: Error types by which a server says that it did not want to, rather than could not.
_REFUSALS = ("rate_limit_error", "overloaded_error")
_DATA = b"data:"
#: The comment with which Slalom ends the stream of a request that was replaced.
_REPLACED = b": superseded"


class Answer:
    """One answer while it arrives.

    Attributes:
        first_token_ns: When the first token that is not empty came; `NEVER` before.
        tokens: Tokens of the answer: the server's own figure, else pieces of text.
        error_code: Machine-readable reason of an error; empty without one.
        complete: Whether the stream said that it is over.
        retry_after_ns: When a server that refuses says to come again; 0 if it does not say.
        may_return: Whether it leaves open that the same request succeeds later.
        replaced: Whether it says that a newer request took this one's place: no whole answer.
        headers: Of the answer; empty before its head.

    Args:
        status: Of the answer; 0 before its head.
        keep_text: Whether `text` is wanted.
    """

    def __init__(self, status: int, *, keep_text: bool = False) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self._kept: list[str] | None = [] if keep_text else None
        self.first_token_ns = NEVER
        self.error_code = ""
        self.complete = False
        self.retry_after_ns = 0
        self.may_return = True
        self.replaced = False
        self._refused = False
        self._pieces = 0
        self._usage_tokens: int | None = None
        self._rest = b""

    @property
    def tokens(self) -> int:
        """Output tokens so far."""
        return self._pieces if self._usage_tokens is None else self._usage_tokens

    @property
    def text(self) -> str:
        """What the answer says so far, where that is kept; of one choice."""
        return "".join(self._kept or ())

    @property
    def refused(self) -> bool:
        """Whether the server declined before it had answered anything."""
        return self._refused and self.first_token_ns == NEVER

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of the answer."""
        self.status = status
        self.headers = headers
        after = headers.get("retry-after", "")
        self.retry_after_ns = int(after) * SECOND if after.isascii() and after.isdigit() else 0
        self.may_return = headers.get("x-should-retry") != "false"
        self.replaced = headers.get("x-slalom-outcome") == "superseded"

    def feed(self, data: bytes, now_ns: int) -> None:
        """Take the next bytes of the body."""
        if self.status != 200:
            self._rest = (self._rest + data)[:_HELD_BYTES_MAX]
            return
        *events, rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            self._event(event, now_ns)
        self._rest = rest[:_HELD_BYTES_MAX]

    def end(self) -> None:
        """The body is over."""
        if self.status != 200:
            self._error(_parsed(self._rest).get("error"))
            self.error_code = self.error_code or f"http_{self.status}"
        elif not self.complete and not self.error_code:
            self.error_code = "stream_cut"

    def _event(self, event: bytes, now_ns: int) -> None:
        self.replaced = self.replaced or event.startswith(_REPLACED)
        lines = [line[len(_DATA) :].strip() for line in event.split(b"\n") if line[:5] == _DATA]
        for data in lines:
            if data == b"[DONE]":
                self.complete = True
                continue
            document = _parsed(data)
            if "error" in document:
                self._error(document["error"])
                continue
            usage = document.get("usage")
            if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
                self._usage_tokens = usage["completion_tokens"]
            texts = [_text(choice) for choice in document.get("choices") or ()]
            if any(texts):
                self._pieces += 1
                if self._kept is not None:
                    self._kept += texts
                if self.first_token_ns == NEVER:
                    self.first_token_ns = now_ns

    def _error(self, error: object) -> None:
        fields = error if isinstance(error, dict) else {}
        self.error_code = str(fields.get("code") or fields.get("type") or "error")
        self._refused = fields.get("type") in _REFUSALS


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {"error": {"code": "garbage"}}
    return document if isinstance(document, dict) else {"error": {"code": "garbage"}}


def _text(choice: Any) -> str:
    """The text of a choice of either API; empty where there is none."""
    if not isinstance(choice, dict):
        return ""
    delta = choice.get("delta")
    return str((delta.get("content") if isinstance(delta, dict) else choice.get("text")) or "")
