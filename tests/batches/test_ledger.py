"""Results are recorded once, whatever breaks in between; a full disk loses nothing."""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slalom.batches import ledger as ledger_module
from slalom.batches.database import Database, open_database
from slalom.batches.desk import Desk
from slalom.batches.files import Files
from slalom.batches.ledger import Ledger
from slalom.batches.objects import (
    Batch,
    Page,
    Result,
    Status,
    StorageError,
    StoredFile,
    Usage,
)
from slalom.batches.params import BatchParams
from slalom.batches.recorder import Recorder
from slalom.errors import RequestError
from slalom.testing.patience import until

NOW_S = 1_000_000


@pytest.fixture
def params(tmp_path: Path) -> BatchParams:
    return BatchParams(tmp_path, free_bytes_min=0)


@pytest.fixture
def database(params: BatchParams) -> Iterator[Database]:
    opened = open_database(params.folder, lambda: NOW_S)
    yield opened
    opened.close()


@pytest.fixture
def files(database: Database, params: BatchParams) -> Files:
    return Files(database, params)


@pytest.fixture
def ledger(database: Database, files: Files, params: BatchParams) -> Ledger:
    made = Ledger(database, files, params)
    store(files, "file-in", b"{}\n")
    made.add(batch())
    return made


def store(files: Files, file_id: str, content: bytes, *, expires_s: int = NOW_S + 10) -> None:
    files.new_path(file_id).write_bytes(content)
    files.take_upload(
        StoredFile(
            id=file_id,
            owner="",
            purpose="batch",
            filename="x",
            size_bytes=len(content),
            created_s=NOW_S,
            expires_s=expires_s,
        )
    )


def batch(name: str = "batch-1") -> Batch:
    return Batch(
        id=name,
        owner="",
        endpoint="/v1/embeddings",
        input_file="file-in",
        window="24h",
        output_file=f"{name}-out",
        error_file=f"{name}-err",
        created_s=NOW_S,
        expires_s=NOW_S + 100,
        keep_s=100,
    )


def result(line: int, text: bytes = b"", *, good: bool = True, name: str = "batch-1") -> Result:
    text = text or b"line %d\n" % line
    return Result(name, line, good, text, Usage(output_tokens=2 if good else 0))


def test_a_line_has_one_result(ledger: Ledger, files: Files) -> None:
    ledger.record([result(1), result(2), result(1, b"again\n")])
    ledger.record([result(2, b"again\n"), result(3, good=False)])
    assert ledger.recorded("batch-1") == {1, 2, 3}
    ended = ledger.end("batch-1", Status.COMPLETED)
    assert (ended.completed, ended.failed, ended.usage.output_tokens) == (2, 1, 4)
    assert files.path("batch-1-out").read_bytes() == b"line 1\nline 2\n"
    assert files.path("batch-1-err").read_bytes() == b"line 3\n"
    assert files.find("", "batch-1-out").filename == "batch-1_output.jsonl"
    ledger.record([result(4)])
    assert ledger.find("", "batch-1") == ended, "an ended batch changed"


def test_text_that_was_never_counted_is_written_over(ledger: Ledger, files: Files) -> None:
    ledger.record([result(1)])
    path = files.path("batch-1-out")
    # As after a crash between the writing and the commit.
    path.write_bytes(path.read_bytes() + b"half a result that is quite lo")
    ledger.record([result(2)])
    ledger.end("batch-1", Status.COMPLETED)
    assert path.read_bytes() == b"line 1\nline 2\n"


def test_all_or_none_of_the_results_are_recorded(
    ledger: Ledger, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record([result(1)])
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="no space"):
        ledger.record([result(2), result(3, good=False)])
    monkeypatch.undo()
    assert ledger.recorded("batch-1") == {1}
    ledger.record([result(2), result(3, good=False)])
    ended = ledger.end("batch-1", Status.COMPLETED)
    assert (ended.completed, ended.failed) == (2, 1)
    assert files.path("batch-1-out").read_bytes() == b"line 1\nline 2\n"


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "no space left")


async def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(BatchParams(tmp_path, free_bytes_min=0))
    went_on: list[bool] = []
    committed: list[int] = []
    recorder = Recorder(desk, lambda: went_on.append(True), again_s=0.01)
    try:
        await desk.ask(lambda stored: store(stored.files, "file-in", b"{}\n"))
        await desk.ask(lambda stored: stored.ledger.add(batch()))
        monkeypatch.setattr(os, "fsync", _full)
        recorder.put(result(1), lambda: committed.append(1))
        await recorder.commit()
        assert "disk is full" in recorder.blocked
        await recorder.commit()
        recorder.put(result(2), lambda: committed.append(2))
        monkeypatch.undo()
        await recorder.commit()
        assert recorder.blocked == ""
        assert committed == [1, 2]
        assert went_on == [True]
        await recorder.flushed()
        assert await desk.ask(lambda stored: stored.ledger.recorded("batch-1")) == {1, 2}
    finally:
        await desk.close()


async def test_at_the_bound_of_all_files_nothing_more_is_taken(tmp_path: Path) -> None:
    desk = Desk(BatchParams(tmp_path, free_bytes_min=0, total_bytes_max=20))
    recorder = Recorder(desk, lambda: None)
    try:
        await desk.ask(lambda stored: store(stored.files, "file-in", b"0123456789"))
        await desk.ask(lambda stored: stored.ledger.add(batch()))
        recorder.put(result(1, b"0123456789\n"), lambda: None)
        await recorder.commit()
        assert "max_total_mib" in recorder.blocked
        recorded = await desk.ask(lambda stored: stored.ledger.recorded("batch-1"))
        assert recorded == {1}, "what was computed is kept all the same"
        with pytest.raises(StorageError, match="max_total_mib"):
            await desk.ask(lambda stored: stored.files.check_room("", 1))
    finally:
        await desk.close()


def test_the_disks_rest_is_left_free(database: Database, tmp_path: Path) -> None:
    files = Files(database, BatchParams(tmp_path, free_bytes_min=1 << 60))
    with pytest.raises(StorageError, match="min_free_mib"):
        files.check_room("")


def test_unfinished_batches_are_bounded(files: Files, database: Database, tmp_path: Path) -> None:
    ledger = Ledger(database, files, BatchParams(tmp_path, free_bytes_min=0, unfinished_max=1))
    store(files, "file-in", b"{}\n")
    ledger.add(batch())
    with pytest.raises(RequestError, match="max_unfinished_per_key"):
        ledger.add(batch("batch-2"))
    ledger.end("batch-1", Status.CANCELLED)
    ledger.add(batch("batch-2"))


def test_ended_batches_are_not_remembered_without_bound(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_KEPT_MAX", 3)
    for number in range(2, 9):
        ledger.end(f"batch-{number - 1}", Status.FAILED)
        ledger.add(batch(f"batch-{number}"))
    kept = [found.id for found in ledger.page("", Page("", 10))[0]]
    assert kept == ["batch-8", "batch-7", "batch-6", "batch-5"]


def test_old_files_and_batches_go_but_not_what_is_read(ledger: Ledger, files: Files) -> None:
    store(files, "file-old", b"x", expires_s=NOW_S)
    later_s = NOW_S + 1000
    assert files.delete_expired(later_s, ledger.inputs()) == 1
    assert not files.path("file-old").exists()
    assert files.path("file-in").exists(), "an unfinished batch reads it"
    ledger.forget(later_s)
    ledger.end("batch-1", Status.COMPLETED)
    assert files.delete_expired(later_s, ledger.inputs()) == 1
    ledger.forget(later_s)
    assert ledger.page("", Page("", 10)) == ([], False)


def test_what_no_row_tells_of_is_swept_away(ledger: Ledger, files: Files) -> None:
    files.path("orphan").write_bytes(b"x")
    files.new_path("half").write_bytes(b"x")
    ledger.record([result(1)])
    files.sweep(["batch-1-out", "batch-1-err"])
    assert not files.path("orphan").exists()
    assert not files.new_path("half").exists()
    assert files.path("batch-1-out").exists()
    assert files.path("file-in").exists()


def test_one_process_at_a_time(database: Database, params: BatchParams) -> None:
    with pytest.raises(StorageError, match="another Slalom process") as busy:
        open_database(params.folder, lambda: NOW_S)
    assert busy.value.code == "storage_busy"


async def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / "never"
    desk = Desk(BatchParams(folder))
    assert not desk.used
    await desk.close()
    assert not folder.exists()


async def test_the_recorder_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(BatchParams(tmp_path, free_bytes_min=0))
    recorder = Recorder(desk, lambda: None, again_s=0.01)
    running = asyncio.ensure_future(recorder.run())
    try:
        await desk.ask(lambda stored: store(stored.files, "file-in", b"{}\n"))
        await desk.ask(lambda stored: stored.ledger.add(batch()))
        monkeypatch.setattr(os, "fsync", _full)
        recorder.put(result(1), lambda: None)

        async def blocked() -> bool:
            return not recorder.open

        await until(blocked, "it notices", seconds=10)
        monkeypatch.undo()
        async with asyncio.timeout(10):
            await recorder.flushed()
    finally:
        running.cancel()
        await desk.close()
