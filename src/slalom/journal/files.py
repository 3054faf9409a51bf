"""Journal files: appended by a live server, bounded in number and size, read back in order.

Owns rotation and the promise that a full disk costs the journal, never a request. Files are
named by start time and part, so that the name order is the time order. Knows no scheduling.
"""

import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slalom.core.journal import Entry
from slalom.journal.codec import (
    Header,
    JournalError,
    decode_entry,
    decode_header,
    encode_entry,
    encode_header,
)
from slalom.units import MIB

_NAME = re.compile(r"slalom-(\d{20})-(\d{6})\.jsonl")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalParams:
    """Bounds of a journal on disk."""

    directory: Path
    #: A file is closed and the next part begun above this.
    file_bytes_max: int = 64 * MIB
    #: Older files are deleted above this number, over all runs of the server.
    files_max: int = 8
    #: Entries not yet written; above this they are dropped and counted.
    pending_bytes_max: int = 16 * MIB


class JournalWriter:
    """Appends entries; the writing itself happens on a thread of its own.

    Call `append` from one thread. Call `flush` now and then, and `close` at the end.
    """

    def __init__(self, params: JournalParams, header: Header) -> None:
        """Create the directory and the first file.

        Raises:
            JournalError: The directory cannot be made or written to.
        """
        self._params = params
        self._header = encode_header(header)
        self._stem = f"{time.time_ns():020d}"
        self._part = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        #: Entries lost because the disk did not take them (in time).
        self.dropped = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slalom-journal")
        self._writing: Future[None] | None = None
        self._fd = -1
        self._file_bytes = 0
        try:
            params.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open_part()
        except OSError as error:
            raise JournalError(
                f"cannot write a journal in {params.directory}: {error.strerror}; set journal.dir "
                "to a writable directory, or to none"
            ) from error

    def append(self, entry: Entry) -> None:
        """Take an entry; never blocks and never fails."""
        line = encode_entry(entry)
        if self._pending_bytes + len(line) > self._params.pending_bytes_max:
            self.dropped += 1
            return
        self._pending.append(line)
        self._pending_bytes += len(line)

    def flush(self) -> None:
        """Hand what is pending to the writing thread, unless that is still busy."""
        if not self._pending or (self._writing is not None and not self._writing.done()):
            return
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        self._writing = self._thread.submit(self._write, lines)

    def close(self) -> None:
        """Write everything that is pending and close the file."""
        if self._writing is not None:
            self._writing.result()
        self.flush()
        self._thread.shutdown(wait=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        try:
            if self._file_bytes and self._file_bytes + len(data) > self._params.file_bytes_max:
                self._open_part()
            _write_all(self._fd, data)
            self._file_bytes += len(data)
        except OSError as error:
            if not self.dropped:
                _log.warning("journal: %s; entries are being dropped", error.strerror)
            self.dropped += len(lines)
            with suppress(OSError):  # a line written in part would spoil the one after it
                os.ftruncate(self._fd, self._file_bytes)

    def _open_part(self) -> None:
        path = self._params.directory / f"slalom-{self._stem}-{self._part:06d}.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _write_all(fd, self._header)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._file_bytes = fd, len(self._header)
        self._part += 1
        for old in journal_files(self._params.directory)[: -self._params.files_max]:
            old.unlink(missing_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def journal_files(directory: Path) -> list[Path]:
    """The journal files of a directory, oldest first; empty if there is no such directory."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def read_file(path: Path) -> tuple[Header, Iterator[Entry]]:
    """The header and the entries of one file.

    A last line without its line end (a server killed while writing) is left out.

    Raises:
        JournalError: The file cannot be read or is not a journal; entries raise it lazily.
    """
    try:
        with path.open("rb") as lines:
            header = decode_header(lines.readline(), f"{path.name}:1")
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    return header, _entries(path)


def _entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as lines:
        next(lines)
        for number, line in enumerate(lines, start=2):
            if line.endswith(b"\n"):
                yield decode_entry(line, f"{path.name}:{number}")


def read_entries(directory: Path) -> Iterator[Entry]:
    """The entries of every file of a directory, oldest first.

    Raises:
        JournalError: There is no journal there, or a file cannot be read.
    """
    files = journal_files(directory)
    if not files:
        raise JournalError(
            f"there is no journal in {directory}: start `slalom serve`, or name the directory "
            "with journal.dir"
        )
    for path in files:
        yield from read_file(path)[1]
