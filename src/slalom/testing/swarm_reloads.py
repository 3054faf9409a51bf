"""Reads the configuration of a random world anew now and then: models come, change and go.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by tests/swarm and by whoever wants such worlds, and from the command
line for one seed: `python -m slalom.testing.swarm_reloads SEED`.
"""

import random
import sys
from dataclasses import replace

from slalom.core.events import ConfigChanged
from slalom.core.reloading import ADJUSTABLE
from slalom.core.request import ModelSpec, Swap
from slalom.testing.swarm import ADDITIONS, plain_world, survive, until_the_end
from slalom.twin.noise import stream
from slalom.twin.scenario import Arrival, Reload, Scenario, TwinModel
from slalom.units import MIB, MS, SECOND

#: Within this time, while requests come.
_SPAN_NS = 80 * SECOND
#: Parts of a model that a reload may change without another engine.
_SWAPS = (Swap.NORMAL, Swap.NORMAL, Swap.IDLE, Swap.NEVER)


def reloading_world(seed: int) -> Scenario:
    """The random world of a seed, with every addition and some reloads."""
    scenario = plain_world(seed)
    for add in ADDITIONS:
        scenario = add(scenario, seed)
    return until_the_end(with_reloads(scenario, seed))


def with_reloads(scenario: Scenario, seed: int) -> Scenario:
    """The scenario with one to six reloads; some arrivals are for what these bring."""
    rng = stream(seed, "reloads")
    living = {model.spec.id: model for model in scenario.models}
    fresh = iter(range(1_000))
    reloads = []
    times = sorted(rng.randrange(_SPAN_NS) for _ in range(rng.randint(1, 6)))
    for number, at_ns in enumerate(times):
        made = _reload(rng, living, f"new{next(fresh)}", f"reload{number}")
        reloads.append(replace(made, at_ns=at_ns))
    names = sorted({model.spec.id for one in reloads for model in one.models})
    share = rng.choice((0.0, 0.2, 0.5))

    def sent_elsewhere(arrival: Arrival) -> Arrival:
        if not names or arrival.request.alternatives is not None or rng.random() >= share:
            return arrival
        return replace(arrival, request=replace(arrival.request, model=rng.choice(names)))

    arrivals = tuple(sent_elsewhere(arrival) for arrival in scenario.arrivals)
    return replace(scenario, arrivals=arrivals, reloads=tuple(reloads))


def _reload(rng: random.Random, living: dict[str, TwinModel], name: str, reload_id: str) -> Reload:
    """One reload of the models there are, which are kept up to date."""
    added, replaced, adjusted, removed = [], [], [], []
    for model_id, model in list(living.items()):
        fate = rng.random()
        if fate < 0.15 and len(living) > 1:
            removed.append(model_id)
            del living[model_id]
        elif fate < 0.35:
            living[model_id] = replace(model, spec=_another(rng, model.spec))
            replaced.append(living[model_id])
        elif fate < 0.55:
            living[model_id] = replace(model, spec=_seen_otherwise(rng, model.spec))
            adjusted.append(living[model_id].spec)
    if living and rng.random() < 0.5:
        pattern = rng.choice(list(living.values()))
        spec = replace(_another(rng, pattern.spec), id=name, pinned=False)
        added.append(replace(pattern, spec=spec))
        living[name] = added[-1]
    change = ConfigChanged(
        added=tuple(model.spec for model in added),
        replaced=tuple(model.spec for model in replaced),
        adjusted=tuple(adjusted),
        removed=tuple(removed),
        drain_ns=rng.choice((0, 500 * MS, 5 * SECOND, 60 * SECOND)),
        reload_id=reload_id,
    )
    return Reload(0, change, (*added, *replaced))


def _another(rng: random.Random, spec: ModelSpec) -> ModelSpec:
    """A model with another engine: more or less memory, more or fewer places."""
    bytes_needed = spec.bytes_needed
    if bytes_needed and not spec.pinned and not spec.sleep_level:
        bytes_needed = rng.randint(200, 6_000) * MIB
    return replace(spec, bytes_needed=bytes_needed, places=rng.choice((1, 2, 4, 8)))


def _seen_otherwise(rng: random.Random, spec: ModelSpec) -> ModelSpec:
    changed = replace(
        spec,
        swap=rng.choice(_SWAPS),
        replicas=spec.replicas if spec.pinned else rng.choice((1, 1, 2, 3)),
        idle_unload_ns=rng.choice((0, 1 * SECOND, 10 * SECOND)),
        pinned=spec.pinned and rng.random() < 0.5,
        hold_ns=rng.choice((0, 2 * SECOND)),
    )
    differing = {
        name
        for name in ModelSpec.__dataclass_fields__
        if getattr(spec, name) != getattr(changed, name)
    }
    assert differing <= ADJUSTABLE
    return changed


if __name__ == "__main__":
    survived = survive(reloading_world(int(sys.argv[1])))
    sys.stdout.write(f"{len(survived.result.entries)} entries, {survived.result.snapshot}\n")
