"""A live server's journal as a trace: when requests came, how long they were, nothing else.

Owns the pairing of arrivals with ends. A trace holds no prompts, keys or answers, as the journal
holds none. Called by `slalom trace export`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from slalom.core.actions import EndRequest, Outcome
from slalom.core.events import RequestArrived
from slalom.core.request import Request
from slalom.errors import ConfigError
from slalom.journal.files import journal_files, read_file
from slalom.workload.traces import TraceRow


@dataclass(frozen=True, slots=True)
class Exported:
    """A journal's requests in the order of their arrival."""

    rows: tuple[TraceRow, ...]
    #: Rows whose request got no whole answer: their length is the one that was predicted.
    unfinished: int


def export(directory: Path) -> Exported:
    """Read the requests of a journal.

    Args:
        directory: Folder of the journal.

    Raises:
        JournalError: A file of it cannot be read.
        ConfigError: It holds no request.
    """
    seen: dict[str, tuple[int, Request]] = {}
    written: dict[str, int] = {}
    for start_ns, item in _requests(directory):
        if isinstance(item, Request):
            seen.setdefault(item.id, (start_ns + item.arrived_ns, item))
        elif item.outcome is Outcome.DONE:
            written[item.request_id] = item.output_tokens
    if not seen:
        raise ConfigError(
            f"there is no request in the journal of {directory}: name the folder of a server that "
            "was asked something with --journal"
        )
    found = sorted(seen.values(), key=lambda pair: (pair[0], pair[1].id))
    first_ns = found[0][0]
    rows = (
        TraceRow(
            at_ns=at_ns - first_ns,
            prompt_tokens=request.prompt_tokens,
            output_tokens=written.get(request.id, request.predicted_tokens),
            task=request.task,
            model=request.model,
        )
        for at_ns, request in found
    )
    return Exported(tuple(rows), len(seen) - len(written))


def _requests(directory: Path) -> Iterator[tuple[int, Request | EndRequest]]:
    """Arrivals and ends with the wall-clock time at which their file's clock began, ns."""
    for path in journal_files(directory):
        header, entries = read_file(path)
        for entry in entries:
            for event in entry.events:
                if isinstance(event, RequestArrived):
                    yield header.epoch_unix_ns, event.request
            for action in entry.actions:
                if isinstance(action, EndRequest):
                    yield header.epoch_unix_ns, action


def only(rows: tuple[TraceRow, ...], from_ns: int, to_ns: int) -> tuple[TraceRow, ...]:
    """The rows of a span, counted from its beginning."""
    return tuple(
        replace(row, at_ns=row.at_ns - from_ns) for row in rows if from_ns <= row.at_ns < to_ns
    )
