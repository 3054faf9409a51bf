"""Journal files: bounded, in order, and a full disk costs entries, not requests."""

import errno
import os
from pathlib import Path

import pytest

from slalom.core.actions import SetTimer
from slalom.core.events import RequestCancelled
from slalom.core.journal import Entry
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.journal import files
from slalom.journal.codec import Header, JournalError, header_for
from slalom.journal.files import (
    JournalParams,
    JournalWriter,
    journal_files,
    read_entries,
    read_file,
)
from slalom.policies.registry import policies


@pytest.fixture
def header() -> Header:
    scheduler = Scheduler([ModelSpec("a", "h", 1, 1)], [DeviceSpec("h", 2)], policies())
    return header_for(scheduler)


def entry(number: int) -> Entry:
    return Entry(number, (RequestCancelled(f"r{number}"),), (SetTimer(number + 1),))


def test_entries_come_back_in_order_over_parts_and_old_parts_go(
    tmp_path: Path, header: Header
) -> None:
    params = JournalParams(tmp_path / "sub", file_bytes_max=3000, files_max=3)
    writer = JournalWriter(params, header)
    for number in range(200):
        writer.append(entry(number))
        if number % 10 == 9:
            writer.flush()
            assert writer._writing is not None
            writer._writing.result()
    writer.close()
    assert writer.dropped == 0
    kept = journal_files(params.directory)
    assert len(kept) == 3
    assert all(path.stat().st_size < 3000 + 2000 for path in kept)
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    found = list(read_entries(params.directory))
    assert found == [entry(number) for number in range(200)][-len(found) :]
    assert len(found) > 20


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path, header: Header) -> None:
    writer = JournalWriter(JournalParams(tmp_path), header)
    for number in range(3):
        writer.append(entry(number))
    writer.close()
    (path,) = journal_files(tmp_path)
    os.truncate(path, path.stat().st_size - 4)
    assert list(read_file(path)[1]) == [entry(0), entry(1)]


def test_a_full_disk_drops_entries_and_says_so(
    tmp_path: Path,
    header: Header,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = JournalWriter(JournalParams(tmp_path), header)

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write_all", full)
        writer.append(entry(0))
        writer.flush()
        assert writer._writing is not None
        writer._writing.result()
    assert writer.dropped == 1
    assert "No space left" in caplog.text
    writer.append(entry(1))
    writer.close()
    assert list(read_entries(tmp_path)) == [entry(1)]


def test_what_the_disk_does_not_take_in_time_is_bounded(tmp_path: Path, header: Header) -> None:
    writer = JournalWriter(JournalParams(tmp_path, pending_bytes_max=1000), header)
    for number in range(1000):
        writer.append(entry(number))
    assert writer.dropped > 900
    writer.close()


def test_a_directory_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, header: Header
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match=r"journal\.dir"):
        JournalWriter(JournalParams(tmp_path / "file" / "below"), header)


def test_no_journal_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal in"):
        list(read_entries(tmp_path / "none"))
