"""Builds what holds the ledgers against the devices, and says who holds memory.

Owns the choice of a meter for each device: main memory, a GPU, or none. Called by `parts`.
"""

from slalom.config.params import HOST
from slalom.config.schema import Config
from slalom.core.events import DeviceSampled
from slalom.core.request import ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.runtime.driver import Runtime
from slalom.runtime.ledger_watch import LedgerWatch, Meter, gpu_meter, host_meter


def ledger_watch(
    config: Config,
    scheduler: Scheduler,
    runtime: Runtime,
    specs: tuple[ModelSpec, ...],
    *,
    here: bool = True,
) -> LedgerWatch:
    """The watch over every device of the configuration.

    Args:
        config: As loaded.
        scheduler: Has the books.
        runtime: Has the engines.
        specs: The models, as the scheduler was told of them at its start.
        here: Whether the devices are this machine's, and so can be measured from here.
    """
    meters: dict[str, Meter] = {}
    for device in config.devices if here else ():
        if device.gpu is not None:
            meters[device.id] = gpu_meter(device.gpu)
        elif device.id == HOST:
            meters[device.id] = host_meter
    return LedgerWatch(
        snapshot=scheduler.snapshot,
        engine=runtime.engine,
        now_ns=runtime.now_ns,
        specs=specs,
        meters=meters,
        on_foreign=lambda device, count: runtime.post(
            DeviceSampled(device, count, runtime.now_ns())
        ),
    )
