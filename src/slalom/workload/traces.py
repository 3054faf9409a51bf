"""Recorded loads: Azure's CSV, Mooncake's JSONL and our own JSONL, read line by line.

Owns the formats and what is wrong in a file: every complaint names file, line and remedy. A trace
is read by path and never shipped. Called by `config.scenario_load` and by the `trace` commands.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from slalom.errors import ConfigError
from slalom.units import MS, SECOND

Format = Literal["azure", "mooncake", "slalom"]

#: Keys of a line of our own format; `task`, `model` and `session` may be absent.
_OURS = ("at_ms", "prompt_tokens", "output_tokens")
#: Later than this is no time of a trace: some 30,000 years.
_MS_MAX = 1e15
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE = ("timestamp", "input_length", "output_length")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One recorded request."""

    #: From the first row that was kept, ns.
    at_ns: int
    prompt_tokens: int
    output_tokens: int
    #: Empty where the trace does not say.
    task: str = ""
    model: str = ""
    session: str = ""


class _Source:
    """A file with the line that is being read, for complaints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0

    def wrong(self, what: str, remedy: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self.line}: {what}; {remedy}")

    def lines(self) -> Iterator[str]:
        """The lines, whole ones only.

        Raises:
            ConfigError: The file cannot be read, is no text, or ends within a line.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                for self.line, line in enumerate(file, 1):
                    if line.strip():
                        yield line.rstrip("\r\n")
        except UnicodeDecodeError:
            raise self.wrong(
                "not UTF-8 text", "unpack it if it is compressed, or save it as UTF-8"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be read: {error.strerror or error}; name a file with path"
            ) from None

    def count(self, value: object, key: str, low: int = 0) -> int:
        """A whole number of at least `low`."""
        try:
            number = int(str(value))
        except ValueError:
            raise self.wrong(
                f"{key} is {str(value)[:40]!r}, not a whole number",
                "the line is truncated or of another format: repair or remove it",
            ) from None
        if number < low:
            raise self.wrong(f"{key} is {number}", f"it must be {low} or more: repair the line")
        return number


def read_trace(
    path: Path, kind: Format, *, from_s: float = 0.0, to_s: float = math.inf, rate_scale: float = 1
) -> tuple[TraceRow, ...]:
    """Read a trace.

    Args:
        path: The file.
        kind: Its format.
        from_s: Leave out what comes before this, seconds from the trace's first request.
        to_s: Leave out what comes at or after this.
        rate_scale: Play it so many times as fast.

    Raises:
        ConfigError: The file cannot be read, or a line is wrong; names both and a remedy.
    """
    source = _Source(path)
    rows: list[TraceRow] = []
    first_ns = before_ns = -1
    for row in _READERS[kind](source):
        if first_ns < 0:
            first_ns = before_ns = row.at_ns
        if row.at_ns < before_ns:
            raise source.wrong(
                f"comes {(before_ns - row.at_ns) / SECOND:.3f} s before the line above it",
                "a trace must be in the order of time: sort it by its first column",
            )
        before_ns = row.at_ns
        at_s = (row.at_ns - first_ns) / SECOND
        if from_s <= at_s < to_s:
            at_ns = round((row.at_ns - first_ns - from_s * SECOND) / rate_scale)
            rows.append(replace(row, at_ns=at_ns))
    if not rows:
        raise ConfigError(
            f"{path}: no request between from_seconds {from_s:g} and to_seconds {to_s:g}; "
            "widen the span, or check that the file is the right one"
        )
    return tuple(rows)


def _azure(source: _Source) -> Iterator[TraceRow]:
    lines = source.lines()
    head = next(csv.reader([next(lines, "")]), [])
    if not set(_AZURE) <= set(head):
        raise source.wrong(
            f"the first line is not the head {','.join(_AZURE)}",
            "is format: azure right for this file?",
        )
    for line in lines:
        cells = next(csv.reader([line]))
        if len(cells) != len(head):
            raise source.wrong(
                f"{len(cells)} cells instead of {len(head)}",
                "the line is truncated: remove it, or fetch the file again",
            )
        named = dict(zip(head, cells, strict=True))
        yield TraceRow(
            _clock_ns(source, named["TIMESTAMP"]),
            source.count(named["ContextTokens"], "ContextTokens"),
            source.count(named["GeneratedTokens"], "GeneratedTokens"),
        )


def _clock_ns(source: _Source, text: str) -> int:
    """A wall-clock time with up to nine decimals, ns."""
    whole, _, decimals = text.partition(".")
    try:
        seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001 - differences only
        return round(seconds) * SECOND + int(decimals.ljust(9, "0")[:9] or 0)
    except (ValueError, TypeError):
        raise source.wrong(
            f"TIMESTAMP is {text[:40]!r}", "write it as 2023-11-16 18:17:03.9799600"
        ) from None


def _json_lines(source: _Source, needed: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    for line in source.lines():
        try:
            found = json.loads(line)
        except ValueError:
            raise source.wrong(
                "not a JSON object", "the line is truncated: remove it, or write the file again"
            ) from None
        missing = [key for key in needed if not isinstance(found, dict) or key not in found]
        if missing:
            raise source.wrong(
                f"lacks {', '.join(missing)}", "is the format named right for this file?"
            )
        yield found


def _milliseconds_ns(source: _Source, value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MS_MAX:
        raise source.wrong(f"{key} is {str(value)[:40]}", "write milliseconds, 0 or more")
    return round(value * MS)


def _mooncake(source: _Source) -> Iterator[TraceRow]:
    for found in _json_lines(source, _MOONCAKE):
        yield TraceRow(
            _milliseconds_ns(source, found["timestamp"], "timestamp"),
            source.count(found["input_length"], "input_length"),
            source.count(found["output_length"], "output_length"),
        )


def _ours(source: _Source) -> Iterator[TraceRow]:
    for found in _json_lines(source, _OURS):
        names = {key: str(found.get(key, "")) for key in ("task", "model", "session")}
        yield TraceRow(
            _milliseconds_ns(source, found["at_ms"], "at_ms"),
            source.count(found["prompt_tokens"], "prompt_tokens"),
            source.count(found["output_tokens"], "output_tokens"),
            **names,
        )


_READERS = {"azure": _azure, "mooncake": _mooncake, "slalom": _ours}


def trace_lines(rows: Iterable[TraceRow]) -> Iterator[str]:
    """Rows in our own format, each with its line end."""
    for row in rows:
        plain = asdict(row)
        at_ms = plain.pop("at_ns") / MS
        kept = {key: value for key, value in plain.items() if value != ""}
        yield json.dumps({"at_ms": at_ms, **kept}) + "\n"
