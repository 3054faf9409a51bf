"""Weights of tasks, raised while a task is on time less often than it should be.

Owns the dual weights: each miss of a task below its floor makes its jobs weigh more in every
comparison, each one on time lets that go again. A request may bring a floor of its own, of its task
or of its key: it then counts with those of its key alone. Called by `planner`.
"""

from math import exp

from slalom.core.planning import ActiveView
from slalom.core.request import Request

#: How much one outcome moves a weight's logarithm.
_STEP = 0.05
_WEIGHT_MAX = 8.0
_NAMES_MAX = 256


class Floors:
    """Weights by task, and by task and key where a request brings a floor.

    Args:
        floor: Share of each task's requests that should be on time; 0 for none.
    """

    __slots__ = ("_floor", "_logs")

    def __init__(self, floor: float) -> None:
        self._floor = floor
        self._logs: dict[tuple[str, str], float] = {}

    def ended(self, request: Request, *, good: bool) -> None:
        """A request was on time, or was not."""
        floor = max(self._floor, request.floor)
        if not floor:
            return
        name = _name(request)
        if name not in self._logs and len(self._logs) >= _NAMES_MAX:
            del self._logs[next(iter(self._logs))]
        moved = self._logs.get(name, 0.0) + _STEP * (floor - good)
        self._logs[name] = max(moved, 0.0)

    def weighs(self, request: Request) -> bool:
        """Whether a request may count for more or less than others."""
        return bool(self._floor or request.floor or request.weight != 1.0)

    def weight(self, request: Request) -> float:
        """How much a request counts for its task, beside what it is worth itself."""
        found = self._logs.get(_name(request))
        return min(exp(found), _WEIGHT_MAX) if found else 1.0


def _name(request: Request) -> tuple[str, str]:
    return (request.task, request.key if request.floor else "")


def was_good(attempt: ActiveView, now_ns: int) -> bool:
    """Whether an answer that has just ended met its objectives."""
    request = attempt.request
    return request.was_good(
        first_token_ns=attempt.client_first_ns,
        ended_ns=now_ns,
        output_tokens=attempt.resumed_tokens + attempt.output_tokens,
    )
