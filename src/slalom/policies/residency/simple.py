"""Residency policies that look at their candidates and nothing else.

Owns `lru`, `fifo`, `lemonade`, `ollama` and `exclusive`: the rules of caches and of neighbouring
servers. The core offers idle candidates before busy ones, and that order stands above every rule.
Rules that rank look at the candidates that were used least recently, as many as `ranking` says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from slalom.core.policy import ReplicaView
from slalom.policies.residency.ranking import looked_at, take
from slalom.units import MS


@dataclass(frozen=True, slots=True)
class Lru:
    """`lru`: the least recently used, until their bytes suffice; idle ones before busy ones.

    A victim that turns out not to be needed, because a later and larger one covers the
    shortfall alone, is spared.
    """

    def victims(
        self,
        candidates: Iterable[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView] | None:
        """The shortest prefix of the candidates that suffices, without those it can spare."""
        return take(candidates, shortfall_bytes) or None


@dataclass(frozen=True, slots=True)
class Fifo:
    """`fifo`: those that have been in memory for longest."""

    def victims(
        self,
        candidates: Iterable[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView] | None:
        """By the end of their last load or wake."""
        offered = looked_at(candidates, shortfall_bytes)
        ranked = sorted(offered, key=lambda one: (tier(one), one.ready_ns, one.id))
        return take(ranked, shortfall_bytes) or None


@dataclass(frozen=True, slots=True)
class Lemonade:
    """`lemonade`: those that have been idle for longest, for the time that a load of them takes.

    The score of Lemonade Server (AMD): idle time / (load time x weight), the highest goes.
    """

    #: How much dearer loads are than they seem, by model; 1 for models that are not named.
    weights: dict[str, float] = field(default_factory=dict)

    def victims(
        self,
        candidates: Iterable[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView] | None:
        """By idle time over weighted load time, the highest first."""

        def idle_per_load(one: ReplicaView) -> float:
            weight = self.weights.get(one.model_id, 1.0)
            return (now_ns - one.last_used_ns) / (max(one.load_ns, MS) * weight)

        offered = looked_at(candidates, shortfall_bytes)
        ranked = sorted(offered, key=lambda one: (tier(one), -idle_per_load(one), one.id))
        return take(ranked, shortfall_bytes) or None


@dataclass(frozen=True, slots=True)
class Ollama:
    """`ollama`: those with the shortest keep-alive, then by name.

    Ollama's rule for finding a runner to unload; how long ago it was used does not count.
    """

    #: Keep-alive by model, s; 300 for models that are not named.
    keep_alive_s: dict[str, float] = field(default_factory=dict)

    def victims(
        self,
        candidates: Iterable[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView] | None:
        """By keep-alive, then by name."""

        def keep_alive(one: ReplicaView) -> float:
            return self.keep_alive_s.get(one.model_id, 300.0)

        offered = looked_at(candidates, shortfall_bytes)
        ranked = sorted(offered, key=lambda one: (tier(one), keep_alive(one), one.id))
        return take(ranked, shortfall_bytes) or None


@dataclass(frozen=True, slots=True)
class Exclusive:
    """`exclusive`: all others, whatever they free.

    The rule of an exclusive group of llama-swap, applied where memory is short: who needs room gets
    the device to itself.
    """

    def victims(
        self,
        candidates: Iterable[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView] | None:
        """Every candidate, if they suffice."""
        everybody, missing = list(candidates), shortfall_bytes
        for one in everybody:
            missing -= one.freed_bytes
            if missing <= 0:
                return everybody
        return None


def tier(one: ReplicaView) -> int:
    """Idle ones go before those that are waited for, and these before busy ones."""
    return 2 if one.running_count else int(bool(one.waiting_count))
