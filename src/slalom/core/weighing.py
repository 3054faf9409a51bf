"""A keeper whose choice its scheduler's planner may put off.

Owns the joining of the two: the keeper says who would give way, the planner whether that is worth
it now. A need that is overdue is not put off. Made by `scheduler`, called by the residency pass.
"""

from collections.abc import Iterable, Mapping, Sequence

from slalom.core.keeping import Bed, Keeper, Need, Selection
from slalom.core.planning import Foreseeing, Observation, PlanView
from slalom.core.policy import ReplicaView
from slalom.units import MS

#: A need that was put off is looked at again after this, if nothing happened before.
_LOOK_NS = 250 * MS


class Weighed:
    """A keeper and a planner that looks at loads.

    Args:
        keeper: Chooses.
        planner: May put a choice off.
        models: Every model, by id.
    """

    holds = True

    def __init__(self, keeper: Keeper, planner: Foreseeing, models: Mapping[str, PlanView]) -> None:
        self._keeper = keeper
        self._planner = planner
        self._models = models
        self.weighs_sleepers = keeper.weighs_sleepers

    def __repr__(self) -> str:
        return f"Weighed({self._keeper!r})"

    def observe(self, seen: Observation, now_ns: int) -> None:
        """For the keeper to learn from."""
        self._keeper.observe(seen, now_ns)

    def select(self, candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
        """What the keeper chose, or nobody for now."""
        found = self._keeper.select(candidates, need, now_ns)
        if not found.victims or need.spec is None or need.pinned or need.overdue:
            return found
        losers = {one.model_id: self._models[one.model_id] for one in found.victims}
        if self._planner.pays(self._models[need.spec.id], list(losers.values()), now_ns):
            return found
        return Selection((), found.scores, now_ns + _LOOK_NS)

    def drop(
        self,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView]:
        """As the keeper says."""
        return self._keeper.drop(sleepers, shortfall_bytes, now_ns)

    def bed(
        self,
        newcomer: ReplicaView,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Bed:
        """As the keeper says."""
        return self._keeper.bed(newcomer, sleepers, shortfall_bytes, now_ns)
