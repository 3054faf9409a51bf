"""Routing policies: which replica of a model takes a request.

Owns `most-free` and `pack`. Both read an index the core keeps, so they cost O(places).
"""

from dataclasses import dataclass

from slalom.core.policy import ModelView, ReplicaView, RequestView


@dataclass(frozen=True, slots=True)
class MostFree:
    """`most-free`: the replica with most free places; spreads the load."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> ReplicaView | None:
        """The emptiest ready replica."""
        return model.most_free()


@dataclass(frozen=True, slots=True)
class Pack:
    """`pack`: the fullest replica that still has a place; lets the others fall idle."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> ReplicaView | None:
        """The fullest ready replica with a free place."""
        return model.least_free()
