"""Weights of tasks, raised while a task is on time less often than it should be.

Owns the dual weights: each miss of a task below its floor makes its jobs weigh more in every
comparison, each one on time lets that go again. Called by `planner`.
"""

from math import exp

#: How much one outcome moves a weight's logarithm.
_STEP = 0.05
_WEIGHT_MAX = 8.0
_TASKS_MAX = 256


class Floors:
    """Weights by task.

    Args:
        floor: Share of each task's requests that should be on time; 0 for none.
    """

    __slots__ = ("_floor", "_logs")

    def __init__(self, floor: float) -> None:
        self._floor = floor
        self._logs: dict[str, float] = {}

    def ended(self, task: str, *, good: bool) -> None:
        """A request of a task was on time, or was not."""
        if not self._floor:
            return
        if task not in self._logs and len(self._logs) >= _TASKS_MAX:
            del self._logs[next(iter(self._logs))]
        moved = self._logs.get(task, 0.0) + _STEP * (self._floor - good)
        self._logs[task] = max(moved, 0.0)

    def weight(self, task: str) -> float:
        """How much a request of a task counts."""
        found = self._logs.get(task)
        return min(exp(found), _WEIGHT_MAX) if found else 1.0
