"""The stored files: their rows, their contents on disk, and how many there may be.

Owns the bounds per key and in all, the deletion of what is too old, and that a file is either
there in full or not at all. Blocking; called on the desk's own thread only.
"""

import os
import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path

import msgspec

from slalom.batches.database import Database, sync_folder
from slalom.batches.objects import Page, StorageError, StoredFile
from slalom.batches.params import BatchParams
from slalom.errors import RequestError
from slalom.units import MIB

#: Purposes of files: what clients upload, and what batches write.
UPLOADED, WRITTEN = "batch", "batch_output"

#: Bytes of all files, and of the results of batches that have not ended.
_TAKEN = """
SELECT (SELECT coalesce(sum(bytes), 0) FROM files) + (
    SELECT coalesce(sum(
        json_extract(CAST(document AS TEXT), '$.output_bytes')
        + json_extract(CAST(document AS TEXT), '$.error_bytes')
    ), 0) FROM batches WHERE NOT ended
)
"""

_decode = msgspec.json.Decoder(StoredFile).decode


class Files:
    """The files of one folder."""

    def __init__(self, database: Database, params: BatchParams) -> None:
        self._database = database
        self._params = params
        self._sql = database.connection

    def path(self, file_id: str) -> Path:
        """Where the content lies."""
        return self._database.contents / file_id

    def new_path(self, file_id: str) -> Path:
        """Where the content is written until it is complete."""
        return self._database.incoming / file_id

    def place_for(self, owner: str, file_id: str) -> Path:
        """Where a key's new file is to be written; raises as `check_room` does."""
        self.check_room(owner)
        return self.new_path(file_id)

    def check_room(self, owner: str, more_bytes: int = 0) -> None:
        """Refuse what there is no room for.

        Raises:
            RequestError: The key has as many files as it may.
            StorageError: The disk or the allowance of all keys is full.
        """
        count = self._one("SELECT count(*) FROM files WHERE owner = ?", owner)
        if count >= self._params.files_max:
            raise RequestError(
                f"This key has {count} files, and may have {self._params.files_max} "
                "(batches.max_files_per_key): delete some.",
                code="too_many_files",
            )
        self.check_disk(more_bytes)

    def check_disk(self, more_bytes: int = 0, *, incoming_bytes: int = 0) -> None:
        """Refuse to write more when that would fill the disk.

        Args:
            more_bytes: What is to be written.
            incoming_bytes: Uploads under way, which lie there without a row.

        Raises:
            StorageError: The disk or the allowance of all keys is full.
        """
        taken = self._one(_TAKEN) + incoming_bytes
        if taken + more_bytes > self._params.total_bytes_max:
            raise StorageError(
                f"All files together would take more than {self._params.total_bytes_max // MIB} "
                "MiB (batches.max_total_mib): delete files, or wait until old ones expire."
            )
        free = shutil.disk_usage(self._database.folder).free
        if free - more_bytes < self._params.free_bytes_min:
            raise StorageError(
                f"The server's disk has {free // MIB} MiB left, and batches leave "
                f"{self._params.free_bytes_min // MIB} MiB free (batches.min_free_mib): delete "
                "files, or make room there."
            )

    def take_upload(self, file: StoredFile) -> None:
        """Make a complete upload a file; its content lies, synced, at `new_path`.

        Raises:
            RequestError: The key has as many files as it may.
        """
        self.check_room(file.owner)
        self.new_path(file.id).rename(self.path(file.id))
        sync_folder(self._database.contents)
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            self.insert(file)

    def insert(self, file: StoredFile) -> None:
        """Add a row, within the caller's transaction; the content is in its place."""
        self._sql.execute(
            "INSERT INTO files (id, owner, purpose, bytes, expires_s, document)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                file.id,
                file.owner,
                file.purpose,
                file.size_bytes,
                file.expires_s,
                msgspec.json.encode(file),
            ),
        )

    def find(self, owner: str, file_id: str) -> StoredFile:
        """One file of a key.

        Raises:
            RequestError: The key has no such file.
        """
        row = self._sql.execute(
            "SELECT document FROM files WHERE owner = ? AND id = ?", (owner, file_id)
        ).fetchone()
        if row is None:
            raise RequestError(
                f"There is no file {file_id[:80]!r}: GET /v1/files lists those of your key.",
                code="not_found",
                param="file_id",
            )
        return _decode(row[0])

    def page(self, owner: str, page: Page, purpose: str = "") -> tuple[list[StoredFile], bool]:
        """Files of a key, and whether there are more.

        Raises:
            RequestError: The file to start behind is not there.
        """
        conditions, values = "owner = ?", [owner]
        if purpose:
            conditions += " AND purpose = ?"
            values.append(purpose)
        rows, more = page_of(self._sql, "files", conditions, values, page)
        return [_decode(row) for row in rows], more

    def delete(self, owner: str, file_id: str, in_use: Collection[str]) -> None:
        """Delete a file of a key.

        Raises:
            RequestError: There is none, or an unfinished batch reads it.
        """
        self.find(owner, file_id)
        if file_id in in_use:
            raise RequestError(
                f"File {file_id} is read by a batch that has not ended: cancel the batch first.",
                code="file_in_use",
                param="file_id",
            )
        self._remove([file_id])

    def delete_expired(self, now_s: int, in_use: Collection[str]) -> int:
        """Delete what is too old, apart from what unfinished batches read; how many."""
        rows = self._sql.execute("SELECT id FROM files WHERE expires_s <= ?", (now_s,)).fetchall()
        expired = [row[0] for row in rows if row[0] not in in_use]
        self._remove(expired)
        return len(expired)

    def sweep(self, written: Collection[str]) -> None:
        """Delete contents that no row tells of; for the start, when nothing is under way.

        Args:
            written: Contents that unfinished batches write.
        """
        for path in self._database.incoming.iterdir():
            path.unlink()
        known = {row[0] for row in self._sql.execute("SELECT id FROM files")}
        for path in self._database.contents.iterdir():
            if path.name not in known and path.name not in written:
                path.unlink()

    def _remove(self, file_ids: list[str]) -> None:
        """The rows first: a content without a row is swept away at the next start."""
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany("DELETE FROM files WHERE id = ?", [(name,) for name in file_ids])
        for name in file_ids:
            self.path(name).unlink(missing_ok=True)

    def _one(self, query: str, *values: object) -> int:
        return int(self._sql.execute(query, values).fetchone()[0])


def page_of(
    sql: sqlite3.Connection, table: str, conditions: str, values: list[str], page: Page
) -> tuple[list[bytes], bool]:
    """The documents of a page, and whether there are more behind it.

    Raises:
        RequestError: The item to start behind is not there.
    """
    if page.after:
        row = sql.execute(
            f"SELECT seq FROM {table} WHERE {conditions} AND id = ?",  # noqa: S608 - our own words
            [*values, page.after],
        ).fetchone()
        if row is None:
            raise RequestError(
                f"There is no {page.after[:80]!r} to list after.", code="not_found", param="after"
            )
        conditions += f" AND seq {'<' if page.newest_first else '>'} {int(row[0])}"
    order = "DESC" if page.newest_first else "ASC"
    rows = sql.execute(
        f"SELECT document FROM {table} WHERE {conditions}"  # noqa: S608 - our own words
        f" ORDER BY seq {order} LIMIT ?",
        [*values, page.limit + 1],
    ).fetchall()
    return [row[0] for row in rows[: page.limit]], len(rows) > page.limit


def create_private(path: Path) -> int:
    """Open a new file that only this user may read; its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
