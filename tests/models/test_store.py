"""The metadata store: what was measured is found again, under exactly what it depends on."""

import sqlite3
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from slalom.errors import ModelError
from slalom.models.identity import identity
from slalom.models.measurements import (
    WINDOW,
    Measurement,
    Quantity,
    Subject,
    Tier,
    expected_ns,
    first_figure,
    last_measured_s,
    memory_bytes,
)
from slalom.models.store import MetadataStore

_SUBJECT = Subject("abc", "llama.cpp 1", "a cpu: host", "{}", name="mini")
_LOAD = (Quantity.LOAD, Tier.PAGE_CACHE)


def _figure(value: int, at_s: float = 1.0, tier: Tier = Tier.PAGE_CACHE) -> Measurement:
    return Measurement(Quantity.LOAD, tier, value, at_s)


@pytest.fixture
def store(tmp_path: Path) -> MetadataStore:
    return MetadataStore(tmp_path / "deep" / "models.sqlite")


def test_what_was_measured_is_there_after_a_restart(store: MetadataStore) -> None:
    assert store.known(_SUBJECT) == {}
    store.keep(_SUBJECT, [_figure(100, 1.0), _figure(300, 2.0)])
    store.keep(_SUBJECT, [_figure(200, 3.0), _figure(9, 3.0, Tier.DISK)])
    again = MetadataStore(store.path).known(_SUBJECT)
    load = again[_LOAD]
    assert (load.count, load.mean, load.low, load.high, load.last, load.at_s) == (
        *(3, 200.0, 100, 300, 200),
        3.0,
    )
    assert load.spread == pytest.approx(statistics.pstdev([100, 300, 200]))
    assert again[Quantity.LOAD, Tier.DISK].mean == 9.0


@pytest.mark.parametrize("field", ["model", "engine", "device", "options"])
def test_anything_else_is_another_subject(store: MetadataStore, field: str) -> None:
    store.keep(_SUBJECT, [_figure(100)])
    assert store.known(replace(_SUBJECT, **{field: "another"})) == {}


def test_another_name_is_the_same_subject(store: MetadataStore) -> None:
    assert {field.name for field in fields(Subject)} - {"name"} == {
        *("model", "engine", "device", "options")
    }
    store.keep(_SUBJECT, [_figure(100)])
    assert store.known(replace(_SUBJECT, name="other")) != {}


def test_what_is_forgotten_is_gone(store: MetadataStore) -> None:
    assert not store.forget(_SUBJECT)
    store.keep(_SUBJECT, [_figure(100)])
    assert store.forget(_SUBJECT)
    assert store.known(_SUBJECT) == {}
    assert not store.forget(_SUBJECT)


def test_no_figure_is_lost_when_many_write(store: MetadataStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: store.keep(_SUBJECT, [_figure(value)]), range(40)))
    known = store.known(_SUBJECT)[_LOAD]
    assert (known.count, known.low, known.high) == (40, 0, 39)


def test_old_figures_fade() -> None:
    seen = first_figure(1_000, 0.0)
    for _ in range(WINDOW * 6):
        seen = seen.with_figure(2_000, 0.0)
    assert seen.mean == pytest.approx(2_000, rel=0.01)
    assert seen.spread < 100
    assert (seen.low, seen.high) == (1_000, 2_000)


def test_a_damaged_file_and_one_of_a_later_version_are_told(store: MetadataStore) -> None:
    store.keep(_SUBJECT, [_figure(100)])
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ModelError, match="version 99") as told:
        store.keep(_SUBJECT, [_figure(100)])
    assert told.value.code == "model_store"
    store.path.write_bytes(b"no database" * 100)
    with pytest.raises(ModelError, match="move the file away"):
        store.known(_SUBJECT)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be used"):
        MetadataStore(tmp_path / "file" / "models.sqlite").keep(_SUBJECT, [_figure(1)])


def test_the_first_tier_that_was_measured_tells_what_to_expect() -> None:
    known = {
        (Quantity.LOAD, Tier.DISK): first_figure(9, 3.0),
        (Quantity.LOAD, Tier.MIXED): first_figure(5, 7.0),
        (Quantity.MEMORY, Tier.RESIDENT): first_figure(50, 1.0).with_figure(30, 2.0),
    }
    assert expected_ns(known, Quantity.LOAD, (Tier.PAGE_CACHE, Tier.MIXED, Tier.DISK)) == 5
    assert expected_ns(known, Quantity.WAKE, (Tier.HOST,)) == 0
    assert memory_bytes(known) == 50
    assert last_measured_s(known) == 7.0
    assert memory_bytes({}) == last_measured_s({}) == 0


def test_a_copy_is_the_same_model_and_another_shape_is_not(tmp_path: Path) -> None:
    one, copy, longer, other = (tmp_path / name for name in "abcd")
    one.write_bytes(b"head" + bytes(100))
    copy.write_bytes(one.read_bytes())
    longer.write_bytes(one.read_bytes() + b"\0")
    other.write_bytes(b"haed" + bytes(100))
    assert identity([one]) == identity([copy])
    assert len({identity(files) for files in ([one], [longer], [other], [one, copy])}) == 4
