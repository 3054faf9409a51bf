"""Lets requests of a random world be served by one of several models.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by `swarm`.
"""

from dataclasses import replace

from slalom.core.request import Alternatives, Choice
from slalom.twin.noise import stream
from slalom.twin.scenario import Arrival, DoubtPlan, Scenario
from slalom.units import MS, SECOND


def with_aliases(scenario: Scenario, seed: int) -> Scenario:
    """The scenario, in half of all seeds with names that stand for several models."""
    rng = stream(seed, "aliases")
    names = [model.spec.id for model in scenario.models]
    if rng.random() < 0.5 or len(names) < 2:
        return scenario
    names += ["nobody"]
    share = rng.choice((0.2, 0.6, 1.0))

    def widened(arrival: Arrival) -> Arrival:
        request = arrival.request
        if rng.random() >= share:
            return arrival
        others = [name for name in names if name != request.model]
        models = (request.model, *rng.sample(others, rng.randint(1, len(others))))
        alternatives = Alternatives(
            models,
            rng.choice(list(Choice)),
            wait_ns=rng.choice((0, 200 * MS, 2 * SECOND)),
            waiting_max=rng.choice((-1, 0, 3)),
        )
        return replace(arrival, request=replace(request, alternatives=alternatives))

    arrivals = tuple(widened(arrival) for arrival in scenario.arrivals)
    doubts = DoubtPlan(rng.choice((0.0, 0.3)), rng.choice((0.0, 0.3)), whole=rng.random() < 0.5)
    return replace(scenario, arrivals=arrivals, doubts=doubts)
