"""The ledger of batches: what state each is in, and which of its lines have a result.

Owns the promise that a line's result is recorded once: its text reaches the disk before the row
that counts it, and text behind the counted size is written over. Blocking; called on the desk's
own thread only.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import msgspec

from slalom.batches.database import Database, sync_folder
from slalom.batches.files import WRITTEN, Files, create_private, page_of
from slalom.batches.objects import Batch, Page, Result, Status, StoredFile
from slalom.batches.params import BatchParams
from slalom.errors import RequestError

#: Batches of one key that are remembered; older ones that have ended are forgotten.
_KEPT_MAX = 10_000

_decode = msgspec.json.Decoder(Batch).decode


class Ledger:
    """The batches of one folder."""

    def __init__(self, database: Database, files: Files, params: BatchParams) -> None:
        self._database = database
        self._files = files
        self._params = params
        self._sql = database.connection

    def add(self, batch: Batch) -> None:
        """Begin a batch.

        Raises:
            RequestError: Its file is not there or not for batches, or too many are unfinished.
            StorageError: There is no room for results.
        """
        file = self._files.find(batch.owner, batch.input_file)
        if file.purpose != "batch":
            raise RequestError(
                f"File {file.id} has the purpose {file.purpose!r}: upload it with 'batch'.",
                param="input_file_id",
            )
        count = self._sql.execute(
            "SELECT count(*) FROM batches WHERE owner = ? AND NOT ended", (batch.owner,)
        ).fetchone()[0]
        if count >= self._params.unfinished_max:
            raise RequestError(
                f"This key has {count} batches that have not ended, and may have "
                f"{self._params.unfinished_max} (batches.max_unfinished_per_key): wait for one, "
                "or cancel one.",
                code="too_many_batches",
            )
        self._files.check_room(batch.owner)
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.execute(
                "DELETE FROM batches WHERE owner = ? AND ended AND seq <= (SELECT seq FROM batches"
                " WHERE owner = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (batch.owner, batch.owner, _KEPT_MAX),
            )
            self._sql.execute(
                "INSERT INTO batches (id, owner, ended, document) VALUES (?, ?, 0, ?)",
                (batch.id, batch.owner, msgspec.json.encode(batch)),
            )

    def find(self, owner: str, batch_id: str) -> Batch:
        """One batch of a key.

        Raises:
            RequestError: The key has no such batch.
        """
        row = self._sql.execute(
            "SELECT document FROM batches WHERE owner = ? AND id = ?", (owner, batch_id)
        ).fetchone()
        if row is None:
            raise RequestError(
                f"There is no batch {batch_id[:80]!r}: GET /v1/batches lists those of your key.",
                code="not_found",
                param="batch_id",
            )
        return _decode(row[0])

    def page(self, owner: str, page: Page) -> tuple[list[Batch], bool]:
        """Batches of a key, and whether there are more.

        Raises:
            RequestError: The batch to start behind is not there.
        """
        rows, more = page_of(self._sql, "batches", "owner = ?", [owner], page)
        return [_decode(row) for row in rows], more

    def unfinished(self) -> list[Batch]:
        """Every batch that has not ended, oldest first."""
        rows = self._sql.execute("SELECT document FROM batches WHERE NOT ended ORDER BY seq")
        return [_decode(row[0]) for row in rows]

    def inputs(self) -> set[str]:
        """The files that unfinished batches read."""
        return {batch.input_file for batch in self.unfinished()}

    def recorded(self, batch_id: str) -> set[int]:
        """The lines of a batch that have a result."""
        rows = self._sql.execute(
            "SELECT line FROM results WHERE batch = (SELECT seq FROM batches WHERE id = ?)",
            (batch_id,),
        )
        return {row[0] for row in rows}

    def change(self, batch_id: str, change: Callable[[Batch], Batch]) -> Batch:
        """Change a batch in one transaction; the batch as it is then."""
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            changed = change(self._get(batch_id)[1])
            self._put(changed)
        return changed

    def record(self, results: Sequence[Result]) -> None:
        """Record results, all or none; a line that has one already keeps it.

        Raises:
            OSError: They cannot be written; nothing is counted then.
            sqlite3.Error: The same, of the database.
        """
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            for batch_id in dict.fromkeys(result.batch_id for result in results):
                self._record(
                    batch_id, [result for result in results if result.batch_id == batch_id]
                )

    def end(self, batch_id: str, status: Status) -> Batch:
        """End a batch: what was counted becomes its two files; the batch as it is then.

        Raises:
            OSError: A file cannot be completed; the batch is unfinished then.
        """
        _, batch = self._get(batch_id)
        now_s = self._database.now_s()
        written = []
        for file_id, size_bytes, kind in (
            (batch.output_file, batch.output_bytes, "output"),
            (batch.error_file, batch.error_bytes, "error"),
        ):
            if not size_bytes:
                self._files.path(file_id).unlink(missing_ok=True)
                continue
            _cut(self._files, file_id, size_bytes)
            written.append(
                StoredFile(
                    id=file_id,
                    owner=batch.owner,
                    purpose=WRITTEN,
                    filename=f"{batch.id}_{kind}.jsonl",
                    size_bytes=size_bytes,
                    created_s=now_s,
                    expires_s=now_s + batch.keep_s,
                )
            )
        sync_folder(self._database.contents)
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            for file in written:
                self._files.insert(file)
            ended = msgspec.structs.replace(batch, status=status, **{f"{status}_s": now_s})
            self._put(ended)
            # Nobody asks any more which lines have been recorded.
            self._sql.execute(
                "DELETE FROM results WHERE batch = (SELECT seq FROM batches WHERE id = ?)",
                (batch_id,),
            )
        return ended

    def forget(self, ended_before_s: int) -> None:
        """Delete batches that began so long ago and have ended."""
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.execute(
                "DELETE FROM batches WHERE ended AND json_extract(CAST(document AS TEXT),"
                " '$.created_s') < ?",
                (ended_before_s,),
            )

    def _record(self, batch_id: str, results: Iterable[Result]) -> None:
        seq, batch = self._get(batch_id)
        fresh: dict[int, Result] = {}
        for result in results:
            taken = self._sql.execute(
                "SELECT 1 FROM results WHERE batch = ? AND line = ?", (seq, result.line)
            ).fetchone()
            if taken is None:
                fresh.setdefault(result.line, result)
        if batch.ended or not fresh:
            return
        good = [result for result in fresh.values() if result.good]
        bad = [result for result in fresh.values() if not result.good]
        usage = batch.usage
        for result in fresh.values():
            usage = usage.plus(result.usage)
        changed = msgspec.structs.replace(
            batch,
            completed=batch.completed + len(good),
            failed=batch.failed + len(bad),
            output_bytes=self._write(batch.output_file, batch.output_bytes, good),
            error_bytes=self._write(batch.error_file, batch.error_bytes, bad),
            usage=usage,
        )
        self._sql.executemany(
            "INSERT INTO results (batch, line) VALUES (?, ?)", [(seq, line) for line in fresh]
        )
        self._put(changed)

    def _write(self, file_id: str, size_bytes: int, results: Sequence[Result]) -> int:
        """Write behind what is counted, and wait for the disk; the new size."""
        if not results:
            return size_bytes
        data = memoryview(b"".join(result.text for result in results))
        with ExitStack() as stack:
            descriptor = create_private(self._files.path(file_id))
            stack.callback(os.close, descriptor)
            while data:
                count = os.pwrite(descriptor, data, size_bytes)
                data = data[count:]
                size_bytes += count
            os.fsync(descriptor)
        return size_bytes

    def _get(self, batch_id: str) -> tuple[int, Batch]:
        row = self._sql.execute(
            "SELECT seq, document FROM batches WHERE id = ?", (batch_id,)
        ).fetchone()
        return row[0], _decode(row[1])

    def _put(self, batch: Batch) -> None:
        self._sql.execute(
            "UPDATE batches SET ended = ?, document = ? WHERE id = ?",
            (int(batch.ended), msgspec.json.encode(batch), batch.id),
        )


def _cut(files: Files, file_id: str, size_bytes: int) -> None:
    """Take off what was written and never counted."""
    descriptor = os.open(files.path(file_id), os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
