"""Lets people meddle with the residency of a random world: asks, wishes, idle limits, groups.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by `swarm`.
"""

import random
from dataclasses import replace

from slalom.core.events import Ask, ModelAsked
from slalom.core.request import ModelSpec, Swap
from slalom.twin.noise import stream
from slalom.twin.scenario import Arrival, Asked, Scenario
from slalom.units import MS, SECOND

_SWAPS = (Swap.NORMAL, Swap.NORMAL, Swap.IDLE, Swap.NEVER)


def with_asks(scenario: Scenario, seed: int) -> Scenario:
    """The scenario, in half of all seeds with an operator and users who say what they want."""
    rng = stream(seed, "asks")
    if rng.random() < 0.5:
        return scenario
    grouped = rng.random() < 0.4
    models = tuple(
        replace(model, spec=_wilful(rng, model.spec, grouped=grouped)) for model in scenario.models
    )
    names = [model.spec.id for model in models] + ["nobody"]
    asks = [
        Asked(
            rng.randrange(90 * SECOND),
            ModelAsked(rng.choice(names), rng.choice(list(Ask)), f"ask{index}"),
        )
        for index in range(rng.choice((0, 5, 40)))
    ]
    arrivals = tuple(_wishing(rng, arrival) for arrival in scenario.arrivals)
    return replace(
        scenario,
        models=models,
        arrivals=arrivals,
        asks=tuple(sorted(asks, key=lambda one: one.at_ns)),
    )


def _wilful(rng: random.Random, spec: ModelSpec, *, grouped: bool) -> ModelSpec:
    return replace(
        spec,
        swap=rng.choice((Swap.NORMAL, *_SWAPS)),
        idle_sleep_ns=rng.choice((0, 500 * MS, 3 * SECOND)),
        idle_unload_ns=rng.choice((0, 1 * SECOND, 10 * SECOND)),
        preload=rng.random() < 0.3,
        apart=rng.choice(((), ("one",), ("one", "two"), ("two",)))
        if grouped and not spec.pinned
        else (),
    )


def _wishing(rng: random.Random, arrival: Arrival) -> Arrival:
    request = replace(
        arrival.request,
        keep_ns=rng.choice((-1, -1, 0, 200 * MS, 20 * SECOND, 3600 * SECOND)),
        allow_swap=rng.choice((Swap.NORMAL, *_SWAPS)),
    )
    return replace(arrival, request=request)
