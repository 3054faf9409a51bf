"""Lets a random world's models grow and shrink by a scaling policy.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by `swarm`.
"""

from dataclasses import replace

from slalom.core.sizing import Scaling
from slalom.policies.scaling.by_count import Fixed, RayQueue
from slalom.policies.scaling.by_target import CatoScaling
from slalom.policies.scaling.fill import Fill
from slalom.policies.scaling.forecast import Forecast
from slalom.twin.noise import stream
from slalom.twin.scenario import Scenario


def with_sizes(scenario: Scenario, seed: int) -> Scenario:
    """The scenario, in two of five seeds with sizes that are decided, every second or so."""
    rng = stream(seed, "sizes")
    if rng.random() < 0.6:
        return scenario
    every_s = rng.choice((0.3, 1.0, 5.0))
    scaling: Scaling = rng.choice(
        (
            Fixed(every_s=every_s),
            RayQueue(up_delay_s=1.0, down_delay_s=3.0, least=rng.choice((0, 1)), every_s=every_s),
            CatoScaling(down_delay_s=2.0, least=rng.choice((0, 1)), every_s=every_s),
            Forecast(worth_per_minute=0.1, down_delay_s=1.0, idle_s=4.0, every_s=every_s),
        )
    )
    if stream(seed, "fill").random() < 0.25:
        scaling = Fill(worth_per_minute=0.1, window_s=5.0, rest_s=1.0, every_s=every_s)
    models = tuple(
        replace(model, spec=replace(model.spec, replicas=rng.choice((1, 2, 4))))
        if model.spec.bytes_needed and not model.spec.pinned
        else model
        for model in scenario.models
    )
    return replace(scenario, models=models, policies=replace(scenario.policies, scaling=scaling))
