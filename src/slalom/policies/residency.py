"""Residency policies: which replicas give way to a model that needs memory.

Owns `lru`. The core offers only replicas that may go and books the bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slalom.core.policy import ReplicaView


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
        chosen: list[ReplicaView] = []
        freed = 0
        for candidate in candidates:
            if candidate.freed_bytes == 0:
                continue
            chosen.append(candidate)
            freed += candidate.freed_bytes
            if freed >= shortfall_bytes:
                break
        else:
            return None
        for candidate in reversed(chosen[:-1]):
            if freed - candidate.freed_bytes >= shortfall_bytes:
                chosen.remove(candidate)
                freed -= candidate.freed_bytes
        return chosen
