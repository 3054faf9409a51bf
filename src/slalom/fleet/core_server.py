"""One life of the core: scheduler, runtime, gateway and server, behind a front door.

Owns the order of its start (what is known of earlier lives, the engines they left behind, then
clients) and of its end. Knows no Ray: what finds engines and keeps what must outlive it is given
to it. Run by `ray_core`, and by tests.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from slalom.assembly.parts import MakeLauncher, Parts, assemble
from slalom.assembly.serving import keep_learned, save_learned, watch_ledgers
from slalom.config.schema import Config
from slalom.core.actions import LoadReplica
from slalom.core.events import ReplicaFound
from slalom.core.journal import Entry
from slalom.fleet.core_line import CoreAddress
from slalom.fleet.front_door import FrontDoor
from slalom.fleet.hosted_engine import FoundEngines
from slalom.fleet.keepsakes import Keepsakes, Kept
from slalom.gateway.server import GatewayServer

_log = logging.getLogger(__name__)

#: Longest wait for engines that are to be taken over, s.
_TAKE_OVER_S = 5.0
#: What must outlive the core is written down so often, s.
_KEEP_EVERY_S = 1.0
#: Time for the last answers to leave, s.
_AFTER_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class CoreOrder:
    """What a life of the core is told."""

    config: Config
    #: The fleet's.
    secret: str = field(repr=False)
    #: Names this life.
    life: str
    #: Address that ingresses can reach.
    host: str = "127.0.0.1"


class CoreServer:
    """A life of the core.

    Args:
        order: What it is told.
        make_launcher: Makes the launchers of its engines.
        found: Engines that an earlier life left behind.
        kept: Reads and writes what outlives it; None keeps nothing.
    """

    def __init__(
        self,
        order: CoreOrder,
        make_launcher: MakeLauncher,
        found: FoundEngines,
        kept: Kept | None = None,
    ) -> None:
        self._order = order
        self._found = found
        self.keepsakes = Keepsakes(kept) if kept is not None else None
        if self.keepsakes is not None:
            self.keepsakes.put_back_files()
        self.parts: Parts = assemble(order.config, make_launcher)
        self._door = FrontDoor(self.parts.gateway, order.secret, order.life)
        self._server = GatewayServer(self._door, host=order.host, port=0, insecure=True)
        self._besides: list[asyncio.Future[None]] = []
        #: Engines that were taken over, and that were ended instead.
        self.taken_over = 0
        self.ended = 0

    def __repr__(self) -> str:
        return f"<CoreServer {self._order.life} {self._server!r}>"

    @property
    def address(self) -> CoreAddress:
        """Where it listens."""
        return CoreAddress(self._order.host, self._server.port, self._order.life)

    async def start(self) -> None:
        """Take over what is there, then take requests.

        Raises:
            SlalomError: It cannot start.
        """
        parts = self.parts
        if self.keepsakes is not None:
            self.keepsakes.put_back(parts)
        await self._take_over()
        works = [keep_learned(parts), watch_ledgers(parts)]
        if self.keepsakes is not None:
            works.append(self.keepsakes.keep_on(parts, _KEEP_EVERY_S))
        self._besides = [asyncio.ensure_future(work) for work in works]
        if parts.batches is not None:
            parts.batches.start()
        await self._server.start()

    async def _take_over(self) -> None:
        """Begin the scheduler with the engines that are there, and end those that may not stay."""
        runtime, found = self.parts.runtime, self._found
        self.ended = await found.end_unfit()
        count = len(found.engines)
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def note(entry: Entry) -> None:
            if not first.done():
                loads = sum(isinstance(action, LoadReplica) for action in entry.actions)
                first.set_result(loads)

        runtime.on_step.append(note)
        runtime.post(*(ReplicaFound(facts.model, facts.device) for _, facts in found.engines))
        runtime.start()
        if count:
            try:
                async with asyncio.timeout(_TAKE_OVER_S):
                    await found.when_taken(min(await first, count))
            except TimeoutError:
                _log.warning("%d engines were not taken over in time", len(found.engines))
        runtime.on_step.remove(note)
        self.taken_over = found.taken
        self.ended += await found.end_rest()
        if self.taken_over or self.ended:
            _log.info("took over %d engines, ended %d", self.taken_over, self.ended)

    async def drain(self) -> int:
        """Take nothing new, finish what is here, end the engines; how many did not finish."""
        parts = self.parts
        parts.gateway.start_draining()
        if parts.batches is not None:
            await parts.batches.stop()
        unfinished = await parts.runtime.drain(parts.config.server.drain_seconds)
        await self._server.stop(_AFTER_DRAIN_S)
        return unfinished

    async def close(self) -> None:
        """End at once, with every engine. Idempotent."""
        parts = self.parts
        await self._server.stop(0.0)
        if parts.batches is not None:
            await parts.batches.close()
        await parts.runtime.close()
        for task in self._besides:
            task.cancel()
        await asyncio.gather(*self._besides, return_exceptions=True)
        save_learned(parts)
        if parts.recorder is not None:
            await parts.recorder.close()

    async def failed(self) -> None:
        """Return when the scheduler failed: only a fresh life can go on."""
        await self.parts.runtime.failed.wait()
