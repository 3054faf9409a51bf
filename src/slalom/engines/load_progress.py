"""How far a loading process is, seen from outside.

Owns the estimate by resident memory. Called by the launchers that start processes.
"""

import asyncio

from slalom.engines.process import EngineProcess
from slalom.engines.protocol import OnProgress

#: How often a loading process is looked at, seconds.
_PERIOD_S = 0.1
#: Progress by memory never says "done": the server does.
_FRACTION_MAX = 0.99


async def tell_progress(
    process: EngineProcess, bytes_expected: int, on_progress: OnProgress
) -> None:
    """Tell how much of the model is resident, rising only, until cancelled.

    Args:
        process: The loading process; what it holds at the start does not count.
        bytes_expected: Size of the model; 0 where it is not known: then only the start is told.
        on_progress: Told fractions, 0.0 to 0.99.
    """
    on_progress(0.0)
    if bytes_expected <= 0:
        return
    told = 0.0
    start_bytes = await process.memory_bytes()
    while True:
        await asyncio.sleep(_PERIOD_S)
        loaded_bytes = await process.memory_bytes() - start_bytes
        fraction = min(_FRACTION_MAX, loaded_bytes / bytes_expected)
        if fraction > told:
            told = fraction
            on_progress(fraction)
