"""Lets models of a random world sleep: levels, host memory, how long it takes.

Owns that part of the drawing, with random numbers of its own, so that the rest of a seed's world
stays what it was. Called by `swarm`.
"""

import random
from dataclasses import replace

from slalom.core.request import DeviceSpec
from slalom.twin.noise import stream
from slalom.twin.scenario import Scenario, SleepLaw, TwinModel
from slalom.units import GIB, MIB, MS, SECOND

_RAM = "ram"


def with_naps(scenario: Scenario, seed: int) -> Scenario:
    """The scenario, in three of five seeds with models that sleep in scarce host memory."""
    rng = stream(seed, "naps")
    if rng.random() < 0.4:
        return scenario
    ram = DeviceSpec(_RAM, rng.choice((2, 5, 8, 40)) * GIB)
    models = [_sleeper(rng, model) for model in scenario.models]
    if len(models) > 1 and rng.random() < 0.3 and not models[-1].spec.pinned:
        models[-1] = _in_host_memory(models[-1], ram)
    devices, params, faults = scenario.devices, scenario.params, scenario.faults
    if rng.random() < 0.6:
        devices = tuple(_crowded(device, models) for device in devices)
        params = replace(params, min_residency_ns=0, swap_patience_ns=0)
        if faults.late:  # answers come when the replica has been told something else
            faults = replace(faults, late=0.5)
    return replace(
        scenario,
        models=tuple(models),
        devices=(*(replace(device, host=_RAM) for device in devices), ram),
        faults=faults,
        params=replace(params, sleep_timeout_ns=rng.choice((3, 20)) * SECOND),
    )


def _sleeper(rng: random.Random, model: TwinModel) -> TwinModel:
    spec, level = model.spec, rng.choice((0, 1, 1, 1, 2))
    if not level or not spec.bytes_needed:
        return model
    share = rng.choice((0, 2, 2, 1))
    spec = replace(
        spec,
        sleep_level=level,
        host_bytes=spec.bytes_needed // share if level == 1 and share else 0,
        residual_bytes=min(rng.choice((0, 100 * MIB, 900 * MIB)), spec.bytes_needed),
    )
    law = SleepLaw(
        fixed_ns=rng.choice((0, 200 * MS, 1 * SECOND)),
        bytes_per_s=rng.choice((2 * GIB, 20 * GIB)),
        first_bytes_per_s=rng.choice((0, 1 * GIB)),
    )
    load = replace(model.load, fixed_ns=rng.choice((0, model.load.fixed_ns)))
    return replace(model, spec=spec, sleep=law, load=load)


def _in_host_memory(model: TwinModel, ram: DeviceSpec) -> TwinModel:
    """A model that runs where others sleep."""
    needed = min(model.spec.bytes_needed, ram.budget_bytes)
    spec = replace(model.spec, device=ram.id, bytes_needed=needed, sleep_level=0, host_bytes=0)
    return replace(model, spec=replace(spec, residual_bytes=0))


def _crowded(device: DeviceSpec, models: list[TwinModel]) -> DeviceSpec:
    """A device that holds its pinned models and the largest of the others, so that all take turns.

    What sleepers keep fits beside it.
    """
    here = [model.spec for model in models if model.spec.device == device.id]
    pinned = sum(spec.bytes_needed for spec in here if spec.pinned)
    others = [spec.bytes_needed for spec in here if not spec.pinned]
    kept = sum(spec.residual_bytes for spec in here if spec.sleep_level)
    needed = pinned + max(others, default=0) + kept
    return replace(device, budget_bytes=min(max(needed, 1), device.budget_bytes))
