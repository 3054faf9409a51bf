"""The rate up to which a policy keeps its promises: by doubling, then bisecting, for each seed.

Owns the search. Attainment of one seed is close to monotone in the rate, as a faster load is the
same draw squeezed; several seeds give the interval. Called by `slalom twin capacity`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slalom.config.scenario_load import LoadedScenario
from slalom.core.policy import Policies
from slalom.metrics.confidence import Estimate, estimate
from slalom.twin.compare import play

#: Doublings or halvings from the scenario's own rate after which the search gives up.
_DOUBLINGS_MAX = 8


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one policy, requests per second by attainment."""

    policy: str
    #: Share -> rate; None where even the slowest rate tried missed it in some seed.
    rates: Mapping[float, Estimate | None]
    #: Runs it took.
    runs: int


def capacity(
    loaded: LoadedScenario,
    name: str,
    policies: Policies,
    *,
    seeds: Sequence[int],
    shares: Sequence[float],
    tolerance: float = 0.05,
    tell: Callable[[], None] | None = None,
) -> Capacity:
    """Search the highest rates at which enough requests are good.

    Args:
        loaded: The scenario; its own rate is where the search begins.
        name: The policy's.
        policies: Who decides.
        seeds: Each gives one rate for each share.
        shares: Wanted attainments, 0 to 1.
        tolerance: Relative width at which bisecting ends.
        tell: Called after each run.
    """
    own = loaded.plan.rate_per_s
    known: dict[tuple[int, float], float] = {}

    def attained(seed: int, factor: float) -> float:
        if (seed, factor) not in known:
            played = play(loaded, name, policies, seed, rate_scale=factor)
            known[seed, factor] = played.result.total.attainment
            if tell is not None:
                tell()
        return known[seed, factor]

    rates: dict[float, Estimate | None] = {}
    for share in shares:
        found = [
            _highest(lambda factor, seed=seed: attained(seed, factor) >= share, tolerance)  # type: ignore[misc]  # noqa: B023
            for seed in seeds
        ]
        kept = [factor * own for factor in found if factor is not None]
        rates[share] = estimate(kept) if len(kept) == len(found) else None
    return Capacity(name, rates, len(known))


def _highest(holds: Callable[[float], bool], tolerance: float) -> float | None:
    """The highest factor at which something holds; None if it holds nowhere."""
    low, high = 1.0, 1.0
    for _ in range(_DOUBLINGS_MAX):
        if holds(low):
            break
        low, high = low / 2, low
    else:
        return None
    if high == low:
        for _ in range(_DOUBLINGS_MAX):
            high *= 2
            if not holds(high):
                break
            low = high
        else:
            return high
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return math.sqrt(low * high)
