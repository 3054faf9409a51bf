"""The runs of this benchmark: under which name the result of a cell is kept.

Owns the key of a result (the cell, the scenario's file, the code that could change it): a result of
older code is never taken. Processes and the file are `kept_runs`'.
"""

import dataclasses
from functools import lru_cache
from pathlib import Path

from slalom.bench.fleet.cells import Cell, play
from slalom.bench.fleet.choices import Choice
from slalom.bench.fleet.large import DayCell, play_day
from slalom.bench.kept_runs import KeptRuns, in_cache, kept_name
from slalom.bench.sla.code import digest

_WORLD = ("slalom.bench.fleet.cells", "slalom.core.scheduler", "slalom.workload.load")
_DAY = ("slalom.bench.fleet.large", "slalom.core.scheduler")
_BOUND = ("slalom.twin.bound_api", "slalom.policies.admission", "slalom.policies.ordering")


class Runner(KeptRuns[Cell]):
    """Plays cells, or finds them where they are kept.

    Args:
        processes: How many cells at a time.
        kept: File of results; None keeps none.
    """

    def __init__(self, processes: int, kept: Path | None) -> None:
        super().__init__(processes, kept, key_of=key_of, play=play)


class DayRunner(KeptRuns[DayCell]):
    """The same for the days of a large fleet.

    Args:
        processes: How many at a time.
        kept: File of results; None keeps none.
    """

    def __init__(self, processes: int, kept: Path | None) -> None:
        super().__init__(processes, kept, key_of=key_of_day, play=play_day)


def key_of_day(cell: DayCell) -> str:
    """The name under which a day's result is kept."""
    code = digest([*_DAY, *cell.choice.modules()])
    return kept_name(dataclasses.asdict(cell), "", code)


def key_of(cell: Cell) -> str:
    """The name under which a cell's result is kept."""
    plain = dataclasses.asdict(cell) | {"path": Path(cell.path).name}
    return kept_name(plain, cell.path, _code(cell.choice))


def default_kept() -> Path:
    """The file of results where none is named: in the user's cache."""
    return in_cache("bench-fleet.jsonl")


@lru_cache(maxsize=64)
def _code(choice: Choice | None) -> str:
    return digest([*_WORLD, *(choice.modules() if choice else _BOUND)])
