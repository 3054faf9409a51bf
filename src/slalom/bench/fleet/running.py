"""The runs of this benchmark: under which name the result of a cell is kept.

Owns the key of a result (the cell, the scenario's file, the code that could change it): a result of
older code is never taken. Processes and the file are `kept_runs`'.
"""

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path

from slalom.bench.fleet.cells import Cell, play
from slalom.bench.fleet.choices import Choice
from slalom.bench.kept_runs import KeptRuns, in_cache
from slalom.bench.sla.code import digest

_WORLD = ("slalom.bench.fleet.cells", "slalom.core.scheduler", "slalom.workload.load")
_BOUND = ("slalom.twin.bound_api", "slalom.policies.admission", "slalom.policies.ordering")


class Runner(KeptRuns[Cell]):
    """Plays cells, or finds them where they are kept.

    Args:
        processes: How many cells at a time.
        kept: File of results; None keeps none.
    """

    def __init__(self, processes: int, kept: Path | None) -> None:
        super().__init__(processes, kept, key_of=key_of, play=play)


def key_of(cell: Cell) -> str:
    """The name under which a cell's result is kept."""
    parts = {
        "cell": dataclasses.asdict(cell) | {"path": Path(cell.path).name},
        "scenario": hashlib.sha256(Path(cell.path).read_bytes()).hexdigest(),
        "code": _code(cell.choice),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def default_kept() -> Path:
    """The file of results where none is named: in the user's cache."""
    return in_cache("bench-fleet.jsonl")


@lru_cache(maxsize=64)
def _code(choice: Choice | None) -> str:
    return digest([*_WORLD, *(choice.modules() if choice else _BOUND)])
