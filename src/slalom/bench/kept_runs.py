"""Cells of a benchmark over several processes, kept one by one so that a rerun is quick.

Owns the processes, the file of results and the progress on stderr. What a cell is, how it is played
and under which name its result is kept is the benchmark's own. Called by `bench.sla` and
`bench.residency`.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

#: What is kept of a run: figures by name.
Result: TypeAlias = Mapping[str, Any]
C = TypeVar("C")
_TOLD_EVERY_S = 5.0


def kept_name(cell: Mapping[str, Any], scenario: str, code: str) -> str:
    """The name under which a cell's result is kept: another one for another scenario or code.

    Args:
        cell: What the cell is, as plain data.
        scenario: Path of its scenario file; empty for none.
        code: Digest of the code that could change the result.
    """
    whole = hashlib.sha256(Path(scenario).read_bytes()).hexdigest() if scenario else ""
    parts = {"cell": dict(cell), "scenario": whole, "code": code}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class KeptRuns(Generic[C]):
    """Plays cells, or finds them where they are kept.

    Args:
        processes: How many cells at a time.
        kept: File of results; None keeps none.
        key_of: The name under which a cell's result is kept: another one for other code.
        play: Plays a cell; a function of a module, because other processes call it.
    """

    def __init__(
        self,
        processes: int,
        kept: Path | None,
        *,
        key_of: Callable[[C], str],
        play: Callable[[C], Result],
    ) -> None:
        self._processes = processes
        self._kept = kept
        self._key_of = key_of
        self._play = play
        self._known = dict(_read(kept)) if kept is not None and kept.exists() else {}

    def play(self, cells: Iterable[C], title: str) -> Mapping[C, Result]:
        """The results of these cells.

        Args:
            cells: Each at most once; played in this order.
            title: For the progress.
        """
        keys = {cell: self._key_of(cell) for cell in cells}
        results = {cell: self._known[key] for cell, key in keys.items() if key in self._known}
        missing = [cell for cell in keys if cell not in results]
        progress = _Progress(title, len(keys), len(results))
        for cell, result in self._run(missing):
            results[cell] = self._known[keys[cell]] = result
            self._keep(keys[cell], result)
            progress.step()
        return results

    def _run(self, cells: Sequence[C]) -> Iterator[tuple[C, Result]]:
        if self._processes <= 1 or len(cells) <= 1:
            yield from ((cell, self._play(cell)) for cell in cells)
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._processes, mp_context=spawn) as pool:
            waiting = {pool.submit(self._play, cell): cell for cell in cells}
            for ended in as_completed(waiting):
                yield waiting[ended], ended.result()

    def _keep(self, key: str, result: Result) -> None:
        if self._kept is None:
            return
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "result": dict(result)}) + "\n")


def in_cache(name: str) -> Path:
    """The file of results of that name in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "slalom" / name


def _read(kept: Path) -> Iterator[tuple[str, Result]]:
    for line in kept.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            yield row["key"], row["result"]
        except (ValueError, KeyError, TypeError):
            continue  # Ended while it was writing: the cell is run again.


class _Progress:
    """Says on stderr how far a part is, now and then."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done = title, total, done
        self._began_s = self._told_s = time.monotonic()
        self._tell()

    def step(self) -> None:
        self._done += 1
        if time.monotonic() - self._told_s >= _TOLD_EVERY_S or self._done == self._total:
            self._tell()

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        took_s = self._told_s - self._began_s
        sys.stderr.write(f"{self._title}: {self._done}/{self._total} runs, {took_s:.0f} s\n")
        sys.stderr.flush()
