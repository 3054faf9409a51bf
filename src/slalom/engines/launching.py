"""A launch that can be called off.

Owns the wait for whichever comes first: the engine, or the wish that there be none. Called by the
supervisor, and by the hosts of engines on Ray.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from slalom.engines.protocol import Engine


async def launched(launch: Coroutine[Any, Any, Engine], unwanted: asyncio.Event) -> Engine | None:
    """The engine once it is ready; None where it was called off before.

    Args:
        launch: A call of `Launcher.launch`, not begun yet.
        unwanted: Set when it is to be called off; returns once its memory is free.

    Raises:
        EngineError: As `Launcher.launch`.
    """
    launching = asyncio.ensure_future(launch)
    asked = asyncio.ensure_future(unwanted.wait())
    try:
        await asyncio.wait((launching, asked), return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        if not launching.done():
            launching.cancel()
    try:
        return await launching
    except asyncio.CancelledError:
        return None
