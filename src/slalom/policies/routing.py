"""Routing policies that look at counts: which replica of a model takes a request.

Owns those that know nothing of time: by free places, in turn, by what runs, by a draw, by prefix.
Those that estimate are in `routing_by_time`. Read through the registry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import RouteView
from slalom.core.policy import ModelView, Named, RequestView
from slalom.policies.places import draw


@dataclass(frozen=True, slots=True)
class MostFree:
    """`most-free`: the replica with most free places; spreads the load."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The emptiest ready replica."""
        return model.most_free()


@dataclass(frozen=True, slots=True)
class Pack:
    """`pack`: the fullest replica that still has a place; lets the others fall idle."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The fullest ready replica with a free place."""
        return model.least_free()


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """`round-robin`: the replicas in turn, whatever runs on them; full ones are passed over."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The one whose last turn is longest ago."""
        return min(open_replicas(model), key=lambda one: (one.last_start, one.id), default=None)


@dataclass(frozen=True, slots=True)
class LeastOngoing:
    """`least-ongoing`: the replica with the fewest running requests; of equals, in turn."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The least busy one."""
        return min(open_replicas(model), key=_by_ongoing, default=None)


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """`power-of-two`: of two replicas drawn at random the one with fewer running requests.

    Source: the default of Ray Serve's request router. There a request waits if both are full; here
    full ones are not drawn.
    """

    #: Of the draws.
    seed: int = 0

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """Draw two that differ, and compare."""
        found = open_replicas(model)
        if len(found) <= 2:
            return min(found, key=_by_ongoing, default=None)
        number = 2 * model.start_count
        first = draw(self.seed, number, len(found))
        second = draw(self.seed, number + 1, len(found) - 1)
        second += second >= first
        return min(found[first], found[second], key=lambda one: one.running_count)


@dataclass(frozen=True, slots=True)
class PrefixAffinity:
    """`prefix-affinity`: where the beginning of the prompt was read before, unless that is busy.

    What has no such beginning goes to the replica with the fewest running requests.
    """

    #: How many more requests may run there than on the least busy replica.
    imbalance_max: int = 8

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The last reader of its prefix, else the least busy one."""
        found = open_replicas(model)
        least = min(found, key=_by_ongoing, default=None)
        if least is None:
            return None
        name = reader_of(request, model)
        for one in found:
            if one.id == name and one.running_count <= least.running_count + self.imbalance_max:
                return one
        return least


def open_replicas(model: ModelView) -> Sequence[RouteView]:
    """Ready replicas with a free place, by name."""
    return [one for one in model.ready() if one.free_places > 0]


def reader_of(request: RequestView, model: ModelView) -> str:
    """The replica that should have read the beginning of a prompt; empty if none should."""
    asked = request.request
    if asked.prefix_tokens and asked.prefix_from and (found := model.reader(asked.prefix_from)):
        return found
    return (model.reader(asked.prefix) if asked.prefix else "") or request.near


def _by_ongoing(one: RouteView) -> tuple[int, int, str]:
    return (one.running_count, one.last_start, one.id)
