"""Cells over several processes, kept one by one so that a rerun is quick.

Owns the key of a result (the cell, the scenario's file, the code that could change it) and the
file of results. A result of older code is never taken. Called by the command.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

from slalom.bench.residency.cells import Cell, Result, play
from slalom.bench.sla.code import digest
from slalom.policies.registry import policy_class

_WORLD = (
    "slalom.bench.residency.cells",
    "slalom.core.scheduler",
    "slalom.policies.admission",
    "slalom.policies.ordering",
    "slalom.policies.routing",
    "slalom.workload.load",
)


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
            cells: Each at most once; played in this order.
            title: For the progress.
        """
        keys = {cell: key_of(cell) for cell in cells}
        results = {cell: self._known[key] for cell, key in keys.items() if key in self._known}
        for cell, result in self._run([cell for cell in keys if cell not in results]):
            results[cell] = self._known[keys[cell]] = result
            self._keep(keys[cell], result)
            sys.stderr.write(f"{title}: {len(results)}/{len(keys)} runs\n")
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
            file.write(json.dumps({"key": key, "result": dict(result)}) + "\n")


def key_of(cell: Cell) -> str:
    """The name under which a cell's result is kept."""
    parts = {
        "cell": dataclasses.asdict(cell) | {"path": Path(cell.path).name},
        "scenario": hashlib.sha256(Path(cell.path).read_bytes()).hexdigest(),
        "code": _code(cell.choice.kind),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def default_kept() -> Path:
    """The file of results where none is named: in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "slalom" / "bench-residency.jsonl"


@lru_cache(maxsize=32)
def _code(kind: str) -> str:
    return digest([*_WORLD, policy_class("residency", kind).__module__])


def _read(kept: Path) -> Iterator[tuple[str, Result]]:
    for line in kept.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            yield row["key"], row["result"]
        except (ValueError, KeyError, TypeError):
            continue  # Ended while it was writing: the cell is run again.
