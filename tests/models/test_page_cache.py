"""Where a load would find a file: on disk or in the page cache."""

import mmap
from pathlib import Path

import pytest

from slalom.models.measurements import Tier
from slalom.models.page_cache import drop, read_in, resident_share, tier_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(64 * mmap.PAGESIZE))
    return path


def test_what_was_written_is_cached_and_what_was_dropped_is_not(file: Path) -> None:
    assert resident_share([file]) == 1.0
    assert tier_of([file]) is Tier.PAGE_CACHE
    drop([file])
    if resident_share([file]):
        pytest.skip("this file system keeps its pages")
    assert tier_of([file]) is Tier.DISK
    read_in([file])
    assert tier_of([file]) is Tier.PAGE_CACHE


def test_several_files_count_together(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "rest.gguf"
    other.write_bytes(bytes(64 * mmap.PAGESIZE))
    drop([file])
    if resident_share([file]):
        pytest.skip("this file system keeps its pages")
    assert resident_share([file, other]) == 0.5
    assert tier_of([file, other]) is Tier.MIXED


def test_what_cannot_be_told_is_no_tier(tmp_path: Path) -> None:
    assert resident_share([tmp_path / "absent"]) is None
    assert tier_of([tmp_path / "absent"]) is Tier.MIXED
    (tmp_path / "empty").touch()
    assert resident_share([tmp_path / "empty"]) is None
    assert resident_share([]) is None
