"""The metadata store: an SQLite file that remembers what models were measured to cost.

Owns the file, its tables and its versions. The meaning of the figures is `measurements`'s. Several
processes may use one file at a time; each call opens it for a moment, so it may be called from
any thread. Called by assembly and `slalom models`.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from slalom.errors import ModelError
from slalom.models.measurements import (
    Known,
    Measurement,
    Quantity,
    Statistic,
    Subject,
    Tier,
    first_figure,
)

#: Version of the tables. A file of another one is left alone.
_VERSION = 1
_BUSY_S = 5.0
_TABLES = """
CREATE TABLE IF NOT EXISTS subject (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    engine TEXT NOT NULL,
    device TEXT NOT NULL,
    options TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS figure (
    digest TEXT NOT NULL REFERENCES subject (digest) ON DELETE CASCADE,
    quantity TEXT NOT NULL,
    tier TEXT NOT NULL,
    count INTEGER NOT NULL,
    mean REAL NOT NULL,
    variance REAL NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    last INTEGER NOT NULL,
    at_s REAL NOT NULL,
    PRIMARY KEY (digest, quantity, tier)
) WITHOUT ROWID;
"""
_FIGURES = "SELECT quantity, tier, count, mean, variance, low, high, last, at_s FROM figure"


class MetadataStore:
    """The figures of every subject.

    Args:
        path: The file; it and its folder are made when the first figure is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"MetadataStore({self.path})"

    def keep(self, subject: Subject, measurements: Iterable[Measurement]) -> None:
        """Fold figures into what is remembered; all of them, or none.

        Raises:
            ModelError: The file cannot be written, or is not one of ours (`code`
                ``model_store``).
        """
        with self._open(write=True) as file:
            file.execute(
                "INSERT INTO subject VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET name = excluded.name",
                (
                    *(subject.digest, subject.name, subject.model),
                    *(subject.engine, subject.device, subject.options),
                ),
            )
            known = _read(file, subject)
            for one in measurements:
                at = (one.quantity, one.tier)
                before = known.get(at)
                known[at] = (
                    before.with_figure(one.value, one.at_s)
                    if before
                    else first_figure(one.value, one.at_s)
                )
            file.executemany(
                "INSERT OR REPLACE INTO figure VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(subject.digest, quantity.value, tier.value, figure.count, figure.mean),
                        *(figure.variance, figure.low, figure.high, figure.last, figure.at_s),
                    )
                    for (quantity, tier), figure in known.items()
                ],
            )

    def known(self, subject: Subject) -> Known:
        """What is remembered of a subject; empty where nothing is.

        Raises:
            ModelError: The file cannot be read, or is not one of ours.
        """
        if not self.path.exists():
            return {}
        with self._open() as file:
            return _read(file, subject)

    def forget(self, subject: Subject) -> bool:
        """Remove a subject and its figures; whether there was one.

        Raises:
            ModelError: The file cannot be written, or is not one of ours.
        """
        if not self.path.exists():
            return False
        with self._open(write=True) as file:
            gone = file.execute("DELETE FROM subject WHERE digest = ?", (subject.digest,))
            return gone.rowcount > 0

    @contextlib.contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; a write locks the file from its start."""
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            ) as file:
                file.execute("PRAGMA foreign_keys = ON")
                file.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                self._check(file, write=write)
                yield file
                file.execute("COMMIT")
        except (sqlite3.Error, OSError) as problem:
            raise ModelError(
                f"the measurements of models in {self.path} cannot be used: {problem}; move the "
                "file away to begin anew, or name another one under measurements.file",
                code="model_store",
            ) from problem

    def _check(self, file: sqlite3.Connection, *, write: bool) -> None:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version == 0 and write:
            for statement in _TABLES.split(";"):
                file.execute(statement)
            file.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(
                f"its tables are of version {version}, this Slalom knows {_VERSION}"
            )


def _read(file: sqlite3.Connection, subject: Subject) -> dict[tuple[Quantity, Tier], Statistic]:
    found = {}
    for quantity, tier, *rest in file.execute(f"{_FIGURES} WHERE digest = ?", (subject.digest,)):
        found[Quantity(quantity), Tier(tier)] = Statistic(*rest)
    return found
