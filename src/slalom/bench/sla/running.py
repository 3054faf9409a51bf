"""Cells over several processes, kept one by one so that a rerun is quick.

Owns the key of a result (the cell, the scenario's file, the code that could change it), the file
of results and the progress on stderr. A result of older code is never taken. Called by the parts.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

from slalom.bench.sla.cells import Cell, Result, play
from slalom.bench.sla.code import digest, policy_modules

#: What plays a cell whose policy is left out of account.
_WORLD = ("slalom.bench.sla.cells", "slalom.core.scheduler", "slalom.workload.load")
_BOUND = ("slalom.twin.bound_api", "slalom.policies.admission", "slalom.policies.ordering")
_TOLD_EVERY_S = 5.0


class Runner:
    """Plays cells, or finds them where they are kept.

    Args:
        processes: How many cells at a time.
        kept: File of results; None keeps none.
    """

    def __init__(self, processes: int, kept: Path | None) -> None:
        self._processes = processes
        self._kept = kept
        self._known = dict(_read(kept)) if kept is not None and kept.exists() else {}

    def play(self, cells: Iterable[Cell], title: str) -> Mapping[Cell, Result]:
        """The results of these cells.

        Args:
            cells: Each at most once.
            title: For the progress.
        """
        keys = {cell: key_of(cell) for cell in cells}
        results = {cell: self._known[key] for cell, key in keys.items() if key in self._known}
        missing = [cell for cell in keys if cell not in results]
        progress = _Progress(title, len(keys), len(results))
        for cell, result in self._run(missing):
            results[cell] = self._known[keys[cell]] = result
            self._keep(keys[cell], result)
            progress.step()
        return results

    def _run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Result]]:
        if self._processes <= 1 or len(cells) <= 1:
            yield from ((cell, play(cell)) for cell in cells)
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._processes, mp_context=spawn) as pool:
            waiting = {pool.submit(play, cell): cell for cell in cells}
            for ended in as_completed(waiting):
                yield waiting[ended], ended.result()

    def _keep(self, key: str, result: Result) -> None:
        if self._kept is None:
            return
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "result": result}) + "\n")


def key_of(cell: Cell) -> str:
    """The name under which a cell's result is kept."""
    parts = {
        "cell": dataclasses.asdict(cell),
        "scenario": hashlib.sha256(Path(cell.load.path).read_bytes()).hexdigest(),
        "code": _code(
            cell.choice.kind if cell.choice else "", cell.choice.ordering if cell.choice else ""
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def default_kept() -> Path:
    """The file of results where none is named: in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "slalom" / "bench-sla.jsonl"


@lru_cache(maxsize=256)
def _code(kind: str, ordering: str) -> str:
    return digest([*_WORLD, *(policy_modules(kind, ordering) if kind else _BOUND)])


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
