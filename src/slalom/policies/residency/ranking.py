"""From a ranking, or from costs, to the replicas that give way.

Owns the two ways to pick a set that frees enough: along a ranking, and the cheapest set of all;
and how many candidates are looked at.
Called by the residency policies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from slalom.core.policy import ReplicaView

#: Bytes that a candidate frees.
Size = Callable[[ReplicaView], int]

#: Up to so many candidates the cheapest set is found exactly; above it, nearly.
_EXACT_MAX = 12
#: Up to so many candidates are weighed, those that were used least recently, and more only if they
#: do not suffice: a choice stays quick where there are a thousand.
_LOOK_AT_MAX = 64


def device_bytes(one: ReplicaView) -> int:
    """Of its device."""
    return one.freed_bytes


def host_bytes(one: ReplicaView) -> int:
    """Of host memory."""
    return one.host_bytes


def looked_at(candidates: Iterable[ReplicaView], shortfall_bytes: int) -> list[ReplicaView]:
    """The candidates worth weighing: the first 64, and further ones until they suffice.

    Args:
        candidates: Least recently used first, idle ones before busy ones.
        shortfall_bytes: Bytes to free, > 0.
    """
    found: list[ReplicaView] = []
    freed = 0
    for one in candidates:
        found.append(one)
        freed += one.freed_bytes
        if len(found) >= _LOOK_AT_MAX and freed >= shortfall_bytes:
            break
    return found


def take(
    ranked: Iterable[ReplicaView], shortfall_bytes: int, size: Size = device_bytes
) -> list[ReplicaView]:
    """The shortest prefix that frees enough, without those it can spare; empty if none does.

    Args:
        ranked: Candidates, the first to go first.
        shortfall_bytes: Bytes to free.
        size: What each frees.
    """
    chosen: list[ReplicaView] = []
    freed = 0
    for one in ranked:
        if size(one) == 0:
            continue
        chosen.append(one)
        freed += size(one)
        if freed >= shortfall_bytes:
            break
    else:
        return []
    for one in reversed(chosen[:-1]):
        if freed - size(one) >= shortfall_bytes:
            chosen.remove(one)
            freed -= size(one)
    return chosen


def cheapest(
    candidates: Sequence[ReplicaView],
    costs: Mapping[str, float],
    shortfall_bytes: int,
    size: Size = device_bytes,
) -> list[ReplicaView]:
    """The set of least cost that frees enough; empty if all together do not.

    Exact for up to 12 candidates. For more, the better of two sets that are taken one by one:
    by least cost for each byte, and by least cost; then what can be spared is.

    Args:
        candidates: Those that may go.
        costs: What the loss of each costs, not negative, by replica id.
        shortfall_bytes: Bytes to free, > 0.
        size: What each frees.
    """
    useful = [one for one in candidates if size(one) > 0]
    if sum(size(one) for one in useful) < shortfall_bytes:
        return []
    useful.sort(key=lambda one: (costs[one.id] / size(one), one.id))
    by_byte = take(
        _dearest_spared_first(useful, costs, shortfall_bytes, size), shortfall_bytes, size
    )
    if len(useful) > _EXACT_MAX:
        by_cost = take(
            sorted(useful, key=lambda one: (costs[one.id], one.id)), shortfall_bytes, size
        )
        return min(by_byte, by_cost, key=lambda chosen: sum(costs[one.id] for one in chosen))
    return _exactly(useful, costs, shortfall_bytes, by_byte, size)


def _dearest_spared_first(
    ranked: Sequence[ReplicaView],
    costs: Mapping[str, float],
    shortfall_bytes: int,
    size: Size,
) -> list[ReplicaView]:
    """The prefix that suffices, the cheapest of it first, so that `take` spares the dearest."""
    prefix: list[ReplicaView] = []
    freed = 0
    for one in ranked:
        prefix.append(one)
        freed += size(one)
        if freed >= shortfall_bytes:
            break
    return sorted(prefix, key=lambda one: (costs[one.id], one.id))


def _exactly(
    useful: Sequence[ReplicaView],
    costs: Mapping[str, float],
    shortfall_bytes: int,
    known: list[ReplicaView],
    size: Size,
) -> list[ReplicaView]:
    """Branch and bound over all sets, beginning with one that is known to do."""
    best, least = known, sum(costs[one.id] for one in known)
    rest = [0] * (len(useful) + 1)
    for index in range(len(useful) - 1, -1, -1):
        rest[index] = rest[index + 1] + size(useful[index])
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
        stack.append((index + 1, (*chosen, one), missing - size(one), cost + costs[one.id]))
    return best
