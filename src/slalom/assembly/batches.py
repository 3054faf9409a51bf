"""Builds what files and batches need: desk, routes, and the runner behind the gateway.

Owns the translation of their configuration and of the devices' into places. Called by `parts`.
"""

from collections.abc import Iterable

from slalom.batches.desk import Desk
from slalom.batches.params import DAY_S, BatchParams
from slalom.batches.runner import Runner
from slalom.config.places import batches_dir
from slalom.config.schema import Config
from slalom.config.sections import BatchesSection
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.gateway.app import Gateway
from slalom.gateway.batches.batch_metrics import BatchCollector
from slalom.gateway.batches.calls import InsideCalls
from slalom.gateway.batches.idle import IdlePlaces, ModelPlace
from slalom.units import MIB


def desk_for(config: Config) -> Desk | None:
    """Where files and batches lie; None where there are to be none."""
    section, folder = config.batches, batches_dir(config.batches)
    if folder is None:
        return None
    return Desk(
        BatchParams(
            folder=folder,
            file_bytes_max=section.max_file_mib * MIB,
            line_bytes_max=config.server.max_body_mib * MIB,
            lines_max=section.max_lines,
            files_max=section.max_files_per_key,
            unfinished_max=section.max_unfinished_per_key,
            total_bytes_max=section.max_total_mib * MIB,
            free_bytes_min=section.min_free_mib * MIB,
            keep_s=section.keep_days * DAY_S,
        )
    )


def idle_places(
    models: Iterable[ModelSpec], devices: Iterable[DeviceSpec], section: BatchesSection
) -> IdlePlaces:
    """The places that the gateway's clients leave idle."""
    return IdlePlaces(
        places_of(models),
        {device.id: device.window for device in devices},
        section.spare_places,
        section.beside_share,
    )


def places_of(models: Iterable[ModelSpec]) -> dict[str, ModelPlace]:
    """Where models are served."""
    return {one.id: ModelPlace(one.device, one.places, one.bytes_needed) for one in models}


def runner_for(desk: Desk, gateway: Gateway, idle: IdlePlaces) -> Runner:
    """Works on the desk's batches in those places."""
    runner = Runner(desk, InsideCalls(gateway, idle))
    gateway.show(BatchCollector(runner.line_counts))
    return runner
