"""What it is worth to have a model loaded, and whether others should give way to it.

Owns what was asked of each model lately, and the comparison of one that is waited for with those
that would go: whom does a swap serve, and whom does it fail, for as long as the demand is thought
to last. Called by `planner`.
"""

from collections.abc import Iterable, Sequence
from math import exp

from slalom.core.planning import PlanView
from slalom.core.request import Request
from slalom.policies.trim.jobs import Job
from slalom.units import SECOND

#: Memory of what was asked.
_MEMORY_NS = 20 * SECOND
#: A model that is brought up is thought to be asked for as it was lately for so long.
_HORIZON_NS = 10 * SECOND
#: Share of those requests that is lost where their model is not there although they could wait
#: for it: not every one finds room for a load in time.
_PATIENT_LOST = 0.5


class _Demand:
    """What was asked of one model lately."""

    __slots__ = ("_asked", "_now_ns", "in_vain_since_ns", "is_kept_out")

    def __init__(self) -> None:
        self._asked = 0.0
        self._now_ns = 0
        #: Since when it is asked for and not there; -1 while it is there or nobody asked.
        self.in_vain_since_ns = -1
        #: Whether the last answer was that nobody should give way to it.
        self.is_kept_out = False

    def add(self, lost: float, now_ns: int) -> None:
        """A request came, of which so much is lost while the model is not there."""
        self._fade(now_ns)
        self._asked += lost

    def lost_in(self, span_ns: float, now_ns: int) -> float:
        """Requests that would be lost if the model were not there for so long."""
        self._fade(now_ns)
        return self._asked * span_ns / _MEMORY_NS

    def _fade(self, now_ns: int) -> None:
        if now_ns > self._now_ns:
            self._asked *= exp((self._now_ns - now_ns) / _MEMORY_NS)
            self._now_ns = now_ns


class Presence:
    """Which models are worth their memory.

    Args:
        names: Of every model.
        hold_ns: The longest that a model which is asked for is kept out for the sake of others.
    """

    __slots__ = ("_demands", "_hold_ns")

    def __init__(self, names: Iterable[str], hold_ns: int) -> None:
        self._demands = {name: _Demand() for name in names}
        self._hold_ns = hold_ns

    def __repr__(self) -> str:
        return f"Presence(models={len(self._demands)})"

    def models_changed(self, names: Iterable[str]) -> None:
        """These are all models from now on; demand outlives a change of engine."""
        self._demands = {name: self._demands.get(name) or _Demand() for name in names}

    def arrived(self, request: Request, model: PlanView, now_ns: int) -> None:
        """A request came."""
        demand = self._demands[model.spec.id]
        due_ns = request.sla.first_deadline_ns(now_ns, default_ns=1 << 62)
        is_patient = due_ns >= now_ns + model.wake_ns
        demand.add(_PATIENT_LOST if is_patient else 1.0, now_ns)
        if demand.in_vain_since_ns < 0 and not model.ready_count():
            demand.in_vain_since_ns = now_ns

    def is_there(self, name: str) -> None:
        """A model serves."""
        demand = self._demands[name]
        demand.in_vain_since_ns, demand.is_kept_out = -1, False

    def is_kept_out(self, name: str) -> bool:
        """Whether a model that is asked for has to wait for the sake of others."""
        return self._demands[name].is_kept_out

    def pays(
        self, model: PlanView, jobs: Sequence[Job], losers: Sequence[PlanView], now_ns: int
    ) -> bool:
        """Whether a swap serves at least as many as it fails, or the hold is over.

        Args:
            model: Which is waited for.
            jobs: What waits for it.
            losers: Models that would give way.
            now_ns: Now.
        """
        demand = self._demands[model.spec.id]
        since_ns = demand.in_vain_since_ns
        is_over = 0 <= since_ns <= now_ns - self._hold_ns
        demand.is_kept_out = not (is_over or self._is_better(model, jobs, losers, now_ns))
        return not demand.is_kept_out

    def _is_better(
        self, model: PlanView, jobs: Sequence[Job], losers: Sequence[PlanView], now_ns: int
    ) -> bool:
        demand = self._demands[model.spec.id]
        ready_ns = model.ready_at_ns(now_ns)
        span_ns = ready_ns - now_ns + _HORIZON_NS
        won = sum(job.weight for job in jobs if job.latest_ns >= ready_ns)
        won += demand.lost_in(_HORIZON_NS, now_ns)
        lost = 0.0
        for loser in losers:
            lost += loser.waiting_count + self._demands[loser.spec.id].lost_in(span_ns, now_ns)
        return won >= lost
