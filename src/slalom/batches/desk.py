"""The desk: where the event loop hands files and batches in, with one thread behind it.

Owns that thread, through which every read and write of the database goes, when the folder is
opened, and the translation of a full disk. Called by the gateway's routes and by the runner.
"""

import asyncio
import errno
import secrets
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slalom.batches.database import Database, exists, open_database
from slalom.batches.files import Files
from slalom.batches.ledger import Ledger
from slalom.batches.objects import StorageError
from slalom.batches.params import BatchParams

T = TypeVar("T")

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@dataclass(frozen=True, slots=True)
class Stored:
    """An open folder; for the desk's thread only."""

    database: Database
    files: Files
    ledger: Ledger


class Desk:
    """Takes what concerns stored files and batches.

    Args:
        params: Folder and bounds.
        now_s: Unix time, seconds.
    """

    def __init__(self, params: BatchParams, now_s: Callable[[], float] = time.time) -> None:
        self.params = params
        self._now_s = now_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slalom-batches")
        self._stored: Stored | None = None
        #: Bytes of uploads under way.
        self.incoming_bytes = 0
        #: Told when a batch was made or is to be cancelled.
        self.on_change: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Desk open={self._stored is not None} incoming={self.incoming_bytes}>"

    @property
    def used(self) -> bool:
        """Whether there is anything to look after: an untouched folder is not made."""
        return self._stored is not None or exists(self.params.folder)

    def now_s(self) -> int:
        """Unix time, whole seconds."""
        return int(self._now_s())

    def content(self, file_id: str) -> Path:
        """Where a file's content lies."""
        return self.params.folder / "files" / file_id

    async def ask(self, use: Callable[["Stored"], T]) -> T:
        """Do something with what is stored, on the desk's thread.

        Raises:
            StorageError: The folder cannot be used, or is full.
            RequestError: As `use` does.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: use(self._opened())
            )
        except (OSError, sqlite3.Error) as problem:
            raise storage_error(problem, self.params.folder) from problem

    def changed(self) -> None:
        """Tell that a batch was made or is to be cancelled."""
        for tell in self.on_change:
            tell()

    async def close(self) -> None:
        """Finish what is under way and let go of the folder."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _opened(self) -> "Stored":
        """On the thread: open the folder if it is not; where that fails it is tried again."""
        if self._stored is None:
            database = open_database(self.params.folder, self.now_s)
            try:
                files = Files(database, self.params)
                ledger = Ledger(database, files, self.params)
                unfinished = ledger.unfinished()
                files.sweep(
                    [batch.output_file for batch in unfinished]
                    + [batch.error_file for batch in unfinished]
                )
            except BaseException:
                database.close()
                raise
            self._stored = Stored(database, files, ledger)
        return self._stored

    def _close(self) -> None:
        if self._stored is not None:
            self._stored.database.close()
            self._stored = None


def storage_error(problem: OSError | sqlite3.Error, folder: Path) -> StorageError:
    """What a failure of the system means; it never quotes what was to be written."""
    full = isinstance(problem, sqlite3.OperationalError) and "full" in str(problem)
    if full or (isinstance(problem, OSError) and problem.errno in _FULL):
        return StorageError(
            f"The server's disk is full, in {folder}: make room there; nothing that was stored "
            "is lost."
        )
    why = problem.strerror if isinstance(problem, OSError) else str(problem)
    return StorageError(
        f"The server cannot use its folder for batches, {folder} ({why}): see that it may "
        "write there.",
        code="storage_broken",
    )


def new_id(kind: str) -> str:
    """An id that no other object has, such as ``file-…``."""
    return f"{kind}{secrets.token_hex(12)}"
