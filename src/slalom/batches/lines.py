"""The lines of a batch's file: checked once, then found by their number.

Owns what a line must look like, and a small index of where each one lies; the texts stay on disk.
Blocking, and written to let others work in between: runs on threads. Knows no engine.
"""

import os
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from slalom.batches.objects import LineFault
from slalom.errors import RequestError

#: Most faults told of one file.
FAULTS_MAX = 100
#: Longest `custom_id`, characters.
_ID_CHARS_MAX = 512
#: After so much work others get a turn, ns and seconds: a thread that computes without a break
#: would hold up every stream of the server.
_WORK_NS, _BREAK_S = 1_000_000, 0.001


class _Body(msgspec.Struct):
    """What of a request's body matters here."""

    model: str
    stream: bool | None = None


class _Line(msgspec.Struct):
    """One request."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Named(msgspec.Struct):
    """What a line's answer needs of the line."""

    custom_id: str
    body: msgspec.Raw


_line = msgspec.json.Decoder(_Line).decode
_body = msgspec.json.Decoder(_Body).decode
_named = msgspec.json.Decoder(_Named).decode


@dataclass(frozen=True, slots=True)
class LineText:
    """One line, read back."""

    number: int
    custom_id: str
    body: bytes


@dataclass(slots=True)
class Lines:
    """Where the lines of a file lie."""

    path: Path
    #: Offset of each physical line, bytes; one more for the end.
    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    #: Numbers of the requests' lines (from 1), by the name of the model they ask for.
    numbers: dict[str, deque[int]] = field(default_factory=dict)
    count: int = 0

    def read(self, number: int) -> LineText:
        """Read a line that was checked.

        Raises:
            OSError: The file is gone.
        """
        start, end = self.offsets[number - 1], self.offsets[number]
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)
        named = _named(_bare(text))
        return LineText(number, named.custom_id, bytes(named.body))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the lines of one batch must keep to."""

    endpoint: str
    lines_max: int
    line_bytes_max: int
    #: Raises `RequestError` for a model that is not served.
    check_model: Callable[[str], object]


def scan(path: Path, rules: Rules, stopped: Callable[[], bool]) -> tuple[Lines, list[LineFault]]:
    """Check every line of a file.

    Args:
        path: The file.
        rules: What to check.
        stopped: Asked now and then: nobody wants the result any more.

    Returns:
        Where the lines are, and what is wrong; not more than `FAULTS_MAX`.
    """
    check = _Check(rules, Lines(path))
    lines, worked_since_ns, offset, number = check.lines, time.monotonic_ns(), 0, 0
    with path.open("rb") as file:
        while len(check.faults) < FAULTS_MAX and lines.count <= rules.lines_max:
            text = file.readline(rules.line_bytes_max + 1)
            lines.offsets.append(offset)
            if not text:
                break
            number, offset = number + 1, offset + len(text)
            if len(text) > rules.line_bytes_max:
                check.fault("line_too_long", f"is longer than {rules.line_bytes_max} bytes", number)
                break
            check.take(number, _bare(text))
            if time.monotonic_ns() - worked_since_ns > _WORK_NS:
                if stopped():
                    break
                time.sleep(_BREAK_S)
                worked_since_ns = time.monotonic_ns()
    check.close()
    return lines, check.faults


class _Check:
    """The state of a scan."""

    def __init__(self, rules: Rules, lines: Lines) -> None:
        self._rules = rules
        self.lines = lines
        self.faults: list[LineFault] = []
        self._ids: set[str] = set()

    def take(self, number: int, text: bytes) -> None:
        """Check one line; empty ones are passed over."""
        if not text:
            return
        self.lines.count += 1
        try:
            line = _line(text)
            body = _body(line.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            self.fault("invalid_json_line", _why(problem), number)
            return
        if wrong := self._wrong(line, body):
            self.fault("invalid_line", wrong[1], number, wrong[0])
        elif line.custom_id in self._ids:
            # Two answers under one name could not be told apart.
            self.fault(
                "duplicate_custom_id", "has the custom_id of an earlier line", number, "custom_id"
            )
        else:
            self._ids.add(line.custom_id)
            self._file(number, body.model)

    def _wrong(self, line: _Line, body: _Body) -> tuple[str, str] | None:
        if not 0 < len(line.custom_id) <= _ID_CHARS_MAX:
            return "custom_id", f"needs a custom_id of 1 to {_ID_CHARS_MAX} characters"
        if line.method != "POST":
            return "method", "needs the method POST"
        if line.url != self._rules.endpoint:
            return "url", f"is not for the batch's endpoint, {self._rules.endpoint}"
        if body.stream:
            return "body.stream", "asks for a stream, which a batch has no use for"
        return None

    def _file(self, number: int, model: str) -> None:
        queue = self.lines.numbers.get(model)
        if queue is None:
            try:
                self._rules.check_model(model)
            except RequestError as problem:
                what = f"cannot be answered: {str(problem).rstrip('.')}"
                self.fault(problem.code, what, number, "body.model")
                return
            queue = self.lines.numbers[model] = deque()
        queue.append(number)

    def fault(self, code: str, what: str, number: int, param: str | None = None) -> None:
        """Note what is wrong."""
        message = f"Line {number} {what}."
        self.faults.append(LineFault(code=code, message=message, line=number, param=param))

    def close(self) -> None:
        """Judge the file as a whole."""
        count = self.lines.count
        if count > self._rules.lines_max:
            self.faults.append(
                LineFault(
                    code="too_many_lines",
                    message=f"The file has more than {self._rules.lines_max} lines "
                    "(batches.max_lines): split it.",
                )
            )
        elif not count:
            self.faults.append(LineFault(code="empty_file", message="The file holds no requests."))


def _bare(text: bytes) -> bytes:
    """Without a byte-order mark, blanks and the line's end."""
    return text.removeprefix(b"\xef\xbb\xbf").strip()


def _why(problem: Exception) -> str:
    """What is wrong, without a word of the line: it holds a prompt."""
    if isinstance(problem, msgspec.ValidationError):
        return f"is not as it should be: {problem}"
    if isinstance(problem, RecursionError):
        return "is nested too deeply"
    return "is not JSON"
