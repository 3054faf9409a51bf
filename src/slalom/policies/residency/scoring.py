"""Keepers that score each candidate by itself: the lowest score gives way.

Owns the frame: candidates in the order of their tiers and scores, the record of the scores, and
sleepers in the same order. What a score is made of is the policy's. Called through the policies.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from slalom.core.actions import Candidate
from slalom.core.keeping import NOBODY, Bed, Need, Selection
from slalom.core.planning import Observation
from slalom.core.policy import ReplicaView
from slalom.core.request import ModelSpec
from slalom.policies.residency.ranking import host_bytes, looked_at, take
from slalom.policies.residency.simple import tier

#: Parts of a score, by name; the score is their sum.
Parts = tuple[tuple[str, float], ...]


class Scorer(Protocol):
    """What a policy brings."""

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        """These are all models from now on."""
        ...

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Learn."""
        ...

    def score(self, candidates: Sequence[ReplicaView], now_ns: int) -> Sequence[Parts]:
        """What each is worth to stay."""
        ...

    def went(self, victims: Sequence[Candidate]) -> None:
        """These give way."""
        ...


class ScoringKeeper:
    """Lets those with the lowest scores go.

    Args:
        scorer: What the scores are.
    """

    holds = False
    weighs_sleepers = True

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __repr__(self) -> str:
        return f"ScoringKeeper({self._scorer!r})"

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on."""
        self._scorer.models_changed(models)

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Let the scorer learn."""
        self._scorer.observe(seen, now_ns)

    def select(self, candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
        """The lowest scores first, idle ones before busy ones."""
        offered = looked_at(candidates, need.shortfall_bytes)
        scored = self._scored(offered, now_ns)
        ranked = sorted(offered, key=lambda one: (tier(one), scored[one.id].score, one.id))
        victims = take(ranked, need.shortfall_bytes)
        if not victims:
            return NOBODY
        self._scorer.went([scored[one.id] for one in victims])
        return Selection(victims, tuple(scored[one.id] for one in ranked))

    def drop(
        self,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView]:
        """By the same scores."""
        scored = self._scored(sleepers, now_ns)
        ranked = sorted(sleepers, key=lambda one: (scored[one.id].score, one.id))
        return take(ranked, shortfall_bytes, host_bytes)

    def bed(
        self,
        newcomer: ReplicaView,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Bed:
        """In the place of those with the lowest scores, unless its own is lower than theirs."""
        dropped = self.drop(sleepers, shortfall_bytes, now_ns)
        scored = self._scored([newcomer, *dropped], now_ns)
        others = sum(scored[one.id].score for one in dropped)
        if dropped and others < scored[newcomer.id].score:
            return Bed(1, dropped)
        return Bed(2 if newcomer.deep_wake_ns else 0)

    def _scored(self, replicas: Sequence[ReplicaView], now_ns: int) -> dict[str, Candidate]:
        parts = self._scorer.score(replicas, now_ns)
        return {
            one.id: Candidate(one.id, sum(value for _, value in row), row)
            for one, row in zip(replicas, parts, strict=True)
        }


def normed(values: Sequence[float]) -> list[float]:
    """Each value as a share of the largest; zeros where none is positive."""
    most = max(values, default=0.0)
    return [value / most if most > 0 else 0.0 for value in values]


def by_part(names: Sequence[str], columns: Sequence[Sequence[float]]) -> list[Parts]:
    """Rows of named parts from columns of figures."""
    return [tuple(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


#: How a policy makes its scorer.
MakeScorer = Callable[[], Scorer]
