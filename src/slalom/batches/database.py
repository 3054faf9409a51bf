"""The database of files and batches: its tables, its opening, and who may write.

Owns the schema, durability (write-ahead log, every commit reaches the disk) and the lock that
lets one process at a time use a folder. Blocking; called on the desk's own thread only.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slalom.batches.objects import StorageError

_VERSION = 1
_TABLES = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;
CREATE INDEX files_of_owner ON files (owner, seq);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    ended INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;
CREATE INDEX batches_of_owner ON batches (owner, seq);
CREATE INDEX batches_unfinished ON batches (seq) WHERE NOT ended;
CREATE TABLE results (
    batch INTEGER NOT NULL REFERENCES batches (seq) ON DELETE CASCADE,
    line INTEGER NOT NULL,
    PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Database:
    """An open folder."""

    folder: Path
    connection: sqlite3.Connection
    lock: int
    #: Unix time, seconds.
    now_s: Callable[[], int]

    @property
    def contents(self) -> Path:
        """Holds the files' contents, named by their ids."""
        return self.folder / "files"

    @property
    def incoming(self) -> Path:
        """Holds uploads that are not complete."""
        return self.folder / "incoming"

    def close(self) -> None:
        """Let go of the folder."""
        self.connection.close()
        os.close(self.lock)


def exists(folder: Path) -> bool:
    """Whether there is a database in a folder."""
    return (folder / "batches.db").exists()


def open_database(folder: Path, now_s: Callable[[], int]) -> Database:
    """Open a folder, made if it is not there.

    Raises:
        StorageError: Another process uses it, or it is of a newer Slalom.
        OSError: It cannot be made or read.
    """
    for part in (folder, folder / "files", folder / "incoming"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        connection = _connect(folder / "batches.db")
    except BaseException:
        os.close(lock)
        raise
    return Database(folder, connection, lock, now_s)


def _lock(folder: Path) -> int:
    """Take the folder for this process; the system lets go of it when the process ends."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StorageError(
            f"another Slalom process keeps its batches in {folder}: end it, or give this one a "
            "folder of its own (batches.dir)",
            code="storage_busy",
        ) from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    # Opened and closed on different threads, but never used by two at a time.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise StorageError(
                f"{path} was written by a newer Slalom (version {version}, known {_VERSION}): "
                "update this one, or give it a folder of its own (batches.dir)",
                code="storage_busy",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
