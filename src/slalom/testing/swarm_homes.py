"""Gives models of a random world a choice of devices.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by `swarm`.
"""

from dataclasses import replace

from slalom.twin.noise import stream
from slalom.twin.scenario import Scenario, TwinModel


def with_homes(scenario: Scenario, seed: int) -> Scenario:
    """The scenario, in half of the seeds with models that may be on several devices."""
    rng = stream(seed, "homes")
    if rng.random() < 0.5:
        return scenario
    hosts = {device.host for device in scenario.devices}
    names = [device.id for device in scenario.devices if device.id not in hosts]
    if len(names) == 1:
        names.append("spare")
    share = rng.choice((0.3, 1.0))
    pins = sum(model.spec.pinned for model in scenario.models)

    def spread(model: TwinModel) -> TwinModel:
        others = [name for name in names if name != model.spec.device]
        stays = model.spec.pinned and pins > 1  # or they might not all find a seat
        if model.spec.device not in names or rng.random() > share or stays:
            return model
        rng.shuffle(others)
        homes = (model.spec.device, *others[: rng.randint(1, len(others))])
        return replace(model, spec=replace(model.spec, devices=homes))

    models = tuple(map(spread, scenario.models))
    first = next(device for device in scenario.devices if device.id == names[0])
    devices = list(scenario.devices)
    if names[-1] == "spare":
        budget = first.budget_bytes * rng.choice((1, 2)) // rng.choice((1, 2))
        devices.append(replace(first, id="spare", budget_bytes=max(budget, 1)))
    chosen = {name for model in models for name in model.spec.devices}
    return replace(
        scenario,
        models=models,
        devices=tuple(
            replace(device, window=0) if device.id in chosen else device for device in devices
        ),
    )
