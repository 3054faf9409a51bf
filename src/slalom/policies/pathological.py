"""Policies that are as bad as a policy can be, to show that the core stays safe with any.

Owns one extreme for each slot. Not in the registry: no configuration can select them. Used by
the swarm and by the tests of the core.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slalom.core.actions import Reason
from slalom.core.policy import Decision, ModelView, ReplicaView, RequestView, Verdict


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
