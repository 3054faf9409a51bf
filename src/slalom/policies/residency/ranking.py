"""From a ranking, or from costs, to the replicas that give way.

Owns the two ways to pick a set that frees enough: along a ranking, and the cheapest set of all.
Called by the residency policies.
"""

from collections.abc import Iterable, Mapping, Sequence

from slalom.core.policy import ReplicaView

#: Up to so many candidates the cheapest set is found exactly; above it, nearly.
_EXACT_MAX = 12


def take(ranked: Iterable[ReplicaView], shortfall_bytes: int) -> list[ReplicaView]:
    """The shortest prefix that frees enough, without those it can spare; empty if none does.

    Args:
        ranked: Candidates, the first to go first.
        shortfall_bytes: Bytes to free.
    """
    chosen: list[ReplicaView] = []
    freed = 0
    for one in ranked:
        if one.freed_bytes == 0:
            continue
        chosen.append(one)
        freed += one.freed_bytes
        if freed >= shortfall_bytes:
            break
    else:
        return []
    for one in reversed(chosen[:-1]):
        if freed - one.freed_bytes >= shortfall_bytes:
            chosen.remove(one)
            freed -= one.freed_bytes
    return chosen


def cheapest(
    candidates: Sequence[ReplicaView], costs: Mapping[str, float], shortfall_bytes: int
) -> list[ReplicaView]:
    """The set of least cost that frees enough; empty if all together do not.

    Exact for up to 12 candidates. For more, the better of two sets that are taken one by one:
    by least cost for each byte, and by least cost; then what can be spared is.

    Args:
        candidates: Those that may go.
        costs: What the loss of each costs, not negative, by replica id.
        shortfall_bytes: Bytes to free, > 0.
    """
    useful = [one for one in candidates if one.freed_bytes > 0]
    if sum(one.freed_bytes for one in useful) < shortfall_bytes:
        return []
    useful.sort(key=lambda one: (costs[one.id] / one.freed_bytes, one.id))
    by_byte = take(_dearest_spared_first(useful, costs, shortfall_bytes), shortfall_bytes)
    if len(useful) > _EXACT_MAX:
        by_cost = take(sorted(useful, key=lambda one: (costs[one.id], one.id)), shortfall_bytes)
        return min(by_byte, by_cost, key=lambda chosen: sum(costs[one.id] for one in chosen))
    return _exactly(useful, costs, shortfall_bytes, by_byte)


def _dearest_spared_first(
    ranked: Sequence[ReplicaView], costs: Mapping[str, float], shortfall_bytes: int
) -> list[ReplicaView]:
    """The prefix that suffices, the cheapest of it first, so that `take` spares the dearest."""
    prefix: list[ReplicaView] = []
    freed = 0
    for one in ranked:
        prefix.append(one)
        freed += one.freed_bytes
        if freed >= shortfall_bytes:
            break
    return sorted(prefix, key=lambda one: (costs[one.id], one.id))


def _exactly(
    useful: Sequence[ReplicaView],
    costs: Mapping[str, float],
    shortfall_bytes: int,
    known: list[ReplicaView],
) -> list[ReplicaView]:
    """Branch and bound over all sets, beginning with one that is known to do."""
    best, least = known, sum(costs[one.id] for one in known)
    rest = [0] * (len(useful) + 1)
    for index in range(len(useful) - 1, -1, -1):
        rest[index] = rest[index + 1] + useful[index].freed_bytes
    #: (index of the next candidate, chosen so far, still to free, cost so far)
    stack: list[tuple[int, tuple[ReplicaView, ...], int, float]] = [(0, (), shortfall_bytes, 0.0)]
    while stack:
        index, chosen, missing, cost = stack.pop()
        if cost > least or (cost == least and len(chosen) >= len(best)):
            continue
        if missing <= 0:
            best, least = list(chosen), cost
            continue
        if rest[index] < missing:
            continue
        one = useful[index]
        stack.append((index + 1, chosen, missing, cost))
        stack.append((index + 1, (*chosen, one), missing - one.freed_bytes, cost + costs[one.id]))
    return best
