"""`lfu` and `gdsf`: residency by how often a model is used.

Owns the two rules of caches that count uses. Called by the core through the registry.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.actions import Candidate
from slalom.core.keeping import Keeper
from slalom.core.planning import Moment, Observation
from slalom.core.policy import ReplicaView
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.policies.residency.scoring import Parts, ScoringKeeper
from slalom.units import GIB, SECOND


@dataclass(frozen=True, slots=True)
class Lfu:
    """`lfu`: the least often used so far."""

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper that has seen nothing yet."""
        return ScoringKeeper(_Uses())


class _Uses:
    def __init__(self) -> None:
        self._uses: Counter[str] = Counter()

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        self._uses = Counter({model.id: self._uses[model.id] for model in models})

    def observe(self, seen: Observation, now_ns: int) -> None:
        if seen.moment is Moment.STARTED:
            self._uses[seen.request.model] += 1

    def score(self, candidates: Sequence[ReplicaView], now_ns: int) -> Sequence[Parts]:
        return [(("uses", float(self._uses[one.model_id])),) for one in candidates]

    def went(self, victims: Sequence[Candidate]) -> None:
        """Counts stay."""


@dataclass(frozen=True, slots=True)
class Gdsf:
    """`gdsf`: the lowest uses x load time / bytes, on a clock that forgets old uses.

    Greedy-dual-size-frequency (Cherkasova, "Improving WWW proxies performance with
    greedy-dual-size-frequency caching policy", 1998): H = L + frequency x cost / size, set at each
    use; L is the H of the last victim, so that what is not used any more ages. The cost is the time
    of a load, the size what a replica takes.
    """

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper that has seen nothing yet."""
        return ScoringKeeper(_GreedyDual(models))


class _GreedyDual:
    def __init__(self, models: Sequence[ModelSpec]) -> None:
        self._worth: dict[str, float] = {}
        self._uses: Counter[str] = Counter()
        self._heights: dict[str, float] = {}
        self._clock = 0.0
        self.models_changed(models)

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        self._worth = {
            spec.id: max(spec.load_ns, SECOND) / SECOND / max(spec.bytes_needed / GIB, 1e-3)
            for spec in models
        }
        self._uses = Counter({name: self._uses[name] for name in self._worth})
        self._heights = {name: at for name, at in self._heights.items() if name in self._worth}

    def observe(self, seen: Observation, now_ns: int) -> None:
        if seen.moment is Moment.STARTED:
            model = seen.request.model
            self._uses[model] += 1
            self._heights[model] = self._clock + self._uses[model] * self._worth.get(model, 1.0)

    def score(self, candidates: Sequence[ReplicaView], now_ns: int) -> Sequence[Parts]:
        return [(("height", self._heights.get(one.model_id, self._clock)),) for one in candidates]

    def went(self, victims: Sequence[Candidate]) -> None:
        self._clock = max([self._clock, *(victim.score for victim in victims)])
        for victim in victims:
            self._uses.pop(victim.replica_id.rpartition("#")[0], None)
