"""What a configuration means for the parts of a fleet, which are on other machines.

Owns the changes: secrets that only this machine can read, memory that is the cluster's and not
this machine's, and files that would lie on whatever node the core is on. Pure but for reading
secrets. Called by `serving`.
"""

import os
from collections.abc import Mapping
from math import ceil

from slalom.config.engine_sections import ModelSection, RemoteEngine
from slalom.config.fields import AUTO
from slalom.config.params import HOST
from slalom.config.schema import Config
from slalom.config.secret_sources import key_sha256
from slalom.config.sections import DeviceSection, KeySection
from slalom.config.vllm_section import VllmEngine
from slalom.errors import ConfigError
from slalom.gateway.auth import check_exposure
from slalom.gateway.params import GatewayParams, KeyEntry
from slalom.units import KIB, MIB


def for_fleet(config: Config, cluster_memory_bytes: int) -> Config:
    """The configuration as the core is told of it.

    Args:
        config: As loaded here.
        cluster_memory_bytes: Of all nodes, as Ray counts it.

    Raises:
        ConfigError: A secret is not where it should be, the server would be open to the network
            without keys, a budget can only be measured where the device is, or a model would
            run on another number of GPUs than Ray gives it.
    """
    server = config.server
    for model in config.models:
        _check_gpus(model)
    check_exposure(server.host, has_keys=bool(config.keys), insecure=server.insecure)
    changes: dict[str, object] = {
        "keys": tuple(_digested(key) for key in config.keys),
        "devices": tuple(_sized(device, cluster_memory_bytes) for device in config.devices),
    }
    if config.measurements.file == AUTO:  # it would tell of whatever machine the core is on
        changes["measurements"] = config.measurements.model_copy(update={"file": "none"})
    return config.model_copy(update=changes)


def environment_for(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that the core needs: the keys of engines that others run."""
    names = [
        model.engine.api_key_env
        for model in config.models
        if isinstance(model.engine, RemoteEngine) and model.engine.api_key_env is not None
    ]
    return {name: environ[name] for name in names if name in environ}


def _check_gpus(model: ModelSection) -> None:
    engine, asked = model.engine, model.ray
    if not isinstance(engine, VllmEngine) or not asked.gpus or asked.nodes > 1:
        return
    if ceil(asked.gpus) != engine.tensor_parallel:
        raise ConfigError(
            f"models: {model.id!r} spreads over {engine.tensor_parallel} GPUs "
            f"(engine.tensor_parallel), but asks Ray for {asked.gpus:g} (ray.gpus): write the same"
        )


def _digested(key: KeySection) -> KeySection:
    digest = key_sha256(key, os.environ).hex()
    nothing = {"key": None, "key_env": None, "key_file": None}
    return key.model_copy(update={**nothing, "key_sha256": digest})


def _sized(device: DeviceSection, cluster_memory_bytes: int) -> DeviceSection:
    if device.budget != AUTO:
        return device
    if device.gpu is None and device.id == HOST and not device.ray_resources:
        budget = int(cluster_memory_bytes * device.auto_share)
        return device.model_copy(update={"budget": budget})
    raise ConfigError(
        f"devices: the budget of {device.id!r} cannot be auto on Ray, since nobody here can "
        "measure it: write its size, such as 20GiB"
    )


def ingress_params(config: Config) -> GatewayParams:
    """The bounds of an ingress; it knows neither models nor tasks.

    Args:
        config: As the core is told of it.
    """
    server = config.server
    largest_mib = max(server.max_body_mib, config.batches.max_file_mib + 1)
    keys = tuple(KeyEntry(key.name, bytes.fromhex(key.key_sha256 or "")) for key in config.keys)
    return GatewayParams(
        models=(),
        keys=keys,
        body_bytes_max=largest_mib * MIB,
        bodies_bytes_max=max(1024, 4 * largest_mib) * MIB,
        body_timeout_s=server.body_timeout_seconds,
        header_bytes_max=server.max_header_kib * KIB,
        header_timeout_s=server.header_timeout_seconds,
        keep_alive_s=server.keep_alive_seconds,
        connections_max=server.max_connections,
        inflight_max=server.max_inflight,
    )
