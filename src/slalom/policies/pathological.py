"""Policies that are as bad as a policy can be, to show that the core stays safe with any.

Owns extremes for each slot. Not in the registry: no configuration can select them. Used by
the swarm and by the tests of the core.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slalom.core.actions import Reason
from slalom.core.planning import (
    Expectation,
    Moment,
    Observation,
    Plan,
    Planner,
    PlanView,
    Refuse,
    Start,
)
from slalom.core.policy import Decision, ModelView, ReplicaView, RequestView, Verdict
from slalom.core.request import ModelSpec
from slalom.policies.places import draw
from slalom.units import MS


@dataclass(frozen=True, slots=True)
class RejectAll:
    """Nothing is ever admitted."""

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Refuse."""
        return Decision(Verdict.REFUSE, Reason.SLA_INFEASIBLE)


@dataclass(frozen=True, slots=True)
class HoldAll:
    """Nothing is ever admitted, nor refused."""

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Hold."""
        return Decision(Verdict.HOLD)


@dataclass(frozen=True, slots=True)
class NeverEvict:
    """Nothing ever gives way."""

    def victims(
        self, candidates: Iterable[ReplicaView], shortfall_bytes: int, now_ns: int
    ) -> Sequence[ReplicaView] | None:
        """Wait."""
        return None


@dataclass(frozen=True, slots=True)
class EvictAll:
    """Everything gives way, needed or not."""

    def victims(
        self, candidates: Iterable[ReplicaView], shortfall_bytes: int, now_ns: int
    ) -> Sequence[ReplicaView] | None:
        """All candidates."""
        return list(candidates)


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No replica is ever good enough."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> ReplicaView | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True)
class PlanNothing:
    """Nothing is ever planned."""

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """Itself: it learns nothing."""
        return self

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn nothing."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Nothing."""
        return Plan()


@dataclass(frozen=True, slots=True)
class PlanNonsense:
    """Every plan is full of what is impossible, late, double or meant for others."""

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that remembers everybody it has ever heard of."""
        return _Nonsense()


#: Requests that the nonsense is about at most.
_REMEMBERED = 40


class _Nonsense:
    def __init__(self) -> None:
        self._names = ["nobody"]
        self._places = ["nowhere#0"]
        self._draws = 0

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Remember the names of all models' requests and replicas."""
        if seen.moment is Moment.ARRIVED:
            self._names = [*self._names, seen.request.id][-_REMEMBERED:]
        if seen.attempt is not None and seen.attempt.replica_id not in self._places:
            self._places.append(seen.attempt.replica_id)

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Some of everything, mostly for the wrong requests."""
        waiting = [one.request.id for one in model.waiting(3)]
        names = [*self._names, *waiting, *waiting]
        places = [*self._places, *(replica.id for replica in model.ready())]
        return Plan(
            starts=[self._start(names, places, now_ns) for _ in range(self._draw(6))],
            refusals=[Refuse(self._one(names), retry_after_ns=-1)] if not self._draw(8) else (),
            demotions=[self._one(names) for _ in range(self._draw(2))],
            pauses=[self._one(names) for _ in range(self._draw(3))],
            look_ns=now_ns + (self._draw(3) - 1) * self._draw(500) * MS,
        )

    def _start(self, names: Sequence[str], places: Sequence[str], now_ns: int) -> Start:
        clamp = (0, 0, 1, -7, 30)[self._draw(5)]
        expected = Expectation(now_ns - 5, now_ns + 5, 0.5) if self._draw(2) else None
        return Start(self._one(names), self._one(places), self._draw(9) - 4, clamp, expected)

    def _one(self, of: Sequence[str]) -> str:
        return of[self._draw(len(of))]

    def _draw(self, bound: int) -> int:
        self._draws += 1
        return draw(0, self._draws, bound)
