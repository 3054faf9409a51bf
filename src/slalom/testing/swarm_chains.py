"""Random worlds whose requests say that they are calls of chains, in any order and contradiction.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. What a client would never say is said here: steps twice, deadlines in the past,
chains opened late, given up early, and again. Called by tests.
"""

import random
from dataclasses import replace

from slalom.core.chain import Later, Link
from slalom.core.events import ChainAbandoned, ChainOpened
from slalom.testing.swarm import scenario_for
from slalom.twin.noise import stream
from slalom.twin.scenario import Arrival, Asked, Scenario
from slalom.units import SECOND

_NAMES = 6


def chained_world(seed: int) -> Scenario:
    """The world of a seed, with chains in it."""
    scenario, rng = scenario_for(seed), stream(seed, "chains")
    models = [model.spec.id for model in scenario.models] + ["nobody"]
    arrivals = tuple(_linked(rng, arrival, models) for arrival in scenario.arrivals)
    told = [
        Asked(rng.randrange(60 * SECOND), _word(rng, models)) for _ in range(rng.choice((0, 4, 30)))
    ]
    params = replace(scenario.params, chain_idle_ns=rng.choice((1, 5, 300)) * SECOND)
    asks = tuple(sorted((*scenario.asks, *told), key=lambda one: one.at_ns))
    return replace(scenario, arrivals=arrivals, asks=asks, params=params)


def _name(rng: random.Random) -> str:
    return f"chain{rng.randrange(_NAMES)}"


def _linked(rng: random.Random, arrival: Arrival, models: list[str]) -> Arrival:
    if rng.random() < 0.3:
        return arrival
    link = _link(rng, rng.randint(1, 4), models, arrival.request.arrived_ns)
    return replace(arrival, request=replace(arrival.request, link=link))


def _link(rng: random.Random, step: int, models: list[str], now_ns: int) -> Link:
    due_ns = rng.choice((-1, now_ns + rng.randrange(20 * SECOND), now_ns // 2))
    later = [
        Later(rng.choice(models), "task", rng.randrange(500), rng.randrange(200), gap_ns=gap_ns)
        for gap_ns in rng.choices((0, SECOND), k=rng.randrange(4))
    ]
    return Link(_name(rng), step, rng.choice((0, step, step + len(later))), due_ns, tuple(later))


def _word(rng: random.Random, models: list[str]) -> ChainOpened | ChainAbandoned:
    if rng.random() < 0.5:
        return ChainAbandoned("", _name(rng))
    return ChainOpened("", _link(rng, 0, models, rng.randrange(60 * SECOND)))
