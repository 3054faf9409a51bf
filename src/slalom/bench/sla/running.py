"""The runs of this benchmark: under which name the result of a cell is kept.

Owns the key of a result (the cell, the scenario's file, the code that could change it): a result of
older code is never taken. Processes and the file are `kept_runs`'.
"""

import dataclasses
from functools import lru_cache
from pathlib import Path

from slalom.bench.kept_runs import KeptRuns, in_cache, kept_name
from slalom.bench.sla.cells import Cell, play
from slalom.bench.sla.code import digest, policy_modules

#: What plays a cell whose policy is left out of account.
_WORLD = ("slalom.bench.sla.cells", "slalom.core.scheduler", "slalom.workload.load")
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
    kind, ordering = (cell.choice.kind, cell.choice.ordering) if cell.choice else ("", "")
    return kept_name(dataclasses.asdict(cell), cell.load.path, _code(kind, ordering))


def default_kept() -> Path:
    """The file of results where none is named: in the user's cache."""
    return in_cache("bench-sla.jsonl")


@lru_cache(maxsize=256)
def _code(kind: str, ordering: str) -> str:
    return digest([*_WORLD, *(policy_modules(kind, ordering) if kind else _BOUND)])
