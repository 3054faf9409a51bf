"""Hosts of engines in this process, instead of actors on a cluster.

Owns what a cluster does: hosts outlive the core that had them started, until somebody ends them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slalom.engines.memory_use import MemoryUse
from slalom.fleet.engine_facts import EngineFacts, EngineOrder, Launched
from slalom.fleet.engine_host import EngineHost, Place
from slalom.fleet.hosted_engine import FoundEngines, HostLostError

T = TypeVar("T")


class LocalHost:
    """A `HostLine` into this process."""

    def __init__(self, order: EngineOrder, hosts: "LocalHosts") -> None:
        self.name = order.name
        self.host = EngineHost(order, Place(node="here"))
        self._hosts = hosts
        self._pool = ThreadPoolExecutor(4)
        #: Set by a test: the machine is gone.
        self.lost = False

    async def _call(self, work: Callable[[], T]) -> T:
        if self.lost:
            raise HostLostError(f"{self.name}: lost")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def launch(self) -> Launched:
        return await self._call(self.host.launch)

    async def progress(self) -> float:
        return await self._call(self.host.progress)

    async def facts(self) -> EngineFacts | None:
        return await self._call(self.host.facts)

    async def memory_bytes(self) -> int:
        return await self._call(self.host.memory_bytes)

    async def memory_use(self) -> MemoryUse | None:
        return await self._call(self.host.memory_use)

    async def note_asleep(self, *, asleep: bool) -> None:
        await self._call(lambda: self.host.note_asleep(asleep=asleep))

    async def wait_closed(self, most_s: float) -> str | None:
        return await self._call(lambda: self.host.wait_closed(most_s))

    async def stop(self, grace_s: float) -> None:
        await self._call(lambda: self.host.stop(grace_s))

    async def end(self) -> None:
        self._hosts.running.pop(self.name, None)
        self._pool.shutdown(wait=False)


class LocalHosts:
    """`Hosts` in this process."""

    def __init__(self) -> None:
        self.running: dict[str, LocalHost] = {}
        self.started = 0

    async def start(self, order: EngineOrder) -> LocalHost:
        self.started += 1
        made = self.running[order.name] = LocalHost(order, self)
        return made

    async def found(self) -> FoundEngines:
        """Those that run."""
        pairs = [(one, await one.facts()) for one in self.running.values()]
        return FoundEngines([(host, facts) for host, facts in pairs if facts is not None])

    async def close(self) -> None:
        for one in list(self.running.values()):
            one.lost = False
            await one.stop(0.0)
            await one.end()
