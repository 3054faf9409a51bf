"""Random worlds in which everything that moves models comes together.

Owns their drawing: Slalom's own policies, models that sleep, operators and users with wishes,
requests for one of several models, in every one of them. Called by tests/swarm, and from the
command line for one seed: `python -m slalom.testing.swarm_residency SEED`.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

from slalom.policies.residency.penalty import Penalty
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.testing.swarm import plain_world, survive, until_the_end
from slalom.testing.swarm_aliases import with_aliases
from slalom.testing.swarm_asks import with_asks
from slalom.testing.swarm_naps import with_naps
from slalom.twin.noise import stream
from slalom.twin.scenario import Scenario
from slalom.units import SECOND

#: Draws of an addition that may come to nothing.
_TRIES = 32
#: Between the seeds of such draws.
_FAR = 1_000_003


def residency_world(seed: int) -> Scenario:
    """The random world of a seed."""
    rng = stream(seed, "residency")
    scenario = plain_world(seed)
    for add in (with_naps, with_asks, with_aliases):
        scenario = _surely(add, scenario, seed)
    admission = rng.choice((PlanAndTrim(), PlanAndTrim(late="refuse"), PlanAndTrim(hold_ms=500)))
    residency = rng.choice((Penalty(), Penalty(hold=False), Penalty(delay_s=0.3)))
    hold_ns = rng.choice((0, 2 * SECOND, 30 * SECOND))
    return until_the_end(
        replace(
            scenario,
            policies=replace(scenario.policies, admission=admission, residency=residency),
            params=replace(scenario.params, swap_hold_ns=hold_ns),
        )
    )


def _surely(add: Callable[[Scenario, int], Scenario], scenario: Scenario, seed: int) -> Scenario:
    """What an addition does to a world if it does anything; a single model has no alternatives."""
    for turn in range(_TRIES):
        changed = add(scenario, seed + turn * _FAR)
        if changed is not scenario:
            return changed
    return scenario


if __name__ == "__main__":
    survived = survive(residency_world(int(sys.argv[1])))
    sys.stdout.write(f"{len(survived.result.entries)} entries, {survived.result.snapshot}\n")
