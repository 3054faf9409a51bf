"""Engines that run under a host elsewhere, as launchers and engines like any other.

Owns the core's side: calls go over HTTP straight to the engine's machine, all that concerns its
process goes to its host. Also the engines that an earlier core left behind. What starts and calls
hosts is given to it, so that nothing here knows Ray.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from slalom.core.events import FailureKind
from slalom.engines.http_engine import HttpEngine
from slalom.engines.memory_use import MemoryUse
from slalom.engines.protocol import Call, EngineMetrics, OnProgress
from slalom.engines.upstream import Upstream
from slalom.engines.upstream_connection import UpstreamReply
from slalom.errors import EngineError
from slalom.fleet.engine_facts import EngineFacts, EngineOrder, Launched

_log = logging.getLogger(__name__)

#: How often a host is asked how far a launch is, s.
_PROGRESS_EVERY_S = 0.25
#: A host is asked anew whether its engine has ended so often, s.
_WATCH_S = 15.0
#: Longest wait for a host's answer beyond what it was told to take, s.
_ANSWER_S = 10.0


class HostLostError(EngineError):
    """The host of an engine is gone, and the engine with it."""

    code = FailureKind.CRASHED


class HostLine(Protocol):
    """The calls to one host. Each raises `HostLostError` when the host is gone."""

    name: str

    async def launch(self) -> Launched:
        """As `EngineHost`."""
        ...

    async def progress(self) -> float:
        """As `EngineHost`."""
        ...

    async def facts(self) -> EngineFacts | None:
        """As `EngineHost`."""
        ...

    async def memory_bytes(self) -> int:
        """As `EngineHost`."""
        ...

    async def memory_use(self) -> MemoryUse | None:
        """As `EngineHost`."""
        ...

    async def note_asleep(self, *, asleep: bool) -> None:
        """As `EngineHost`."""
        ...

    async def wait_closed(self, most_s: float) -> str | None:
        """As `EngineHost`."""
        ...

    async def stop(self, grace_s: float) -> None:
        """As `EngineHost`."""
        ...

    async def end(self) -> None:
        """End the host itself and give back what it held; never raises."""
        ...


class Hosts(Protocol):
    """Starts hosts."""

    async def start(self, order: EngineOrder) -> HostLine:
        """Place a host; returns when it runs.

        Raises:
            EngineError: There is no place for it.
        """
        ...


class HostedEngine:
    """An `Engine` under a host.

    Args:
        host: The calls to its host.
        facts: The engine.
    """

    def __init__(self, host: HostLine, facts: EngineFacts) -> None:
        self.capabilities = facts.capabilities
        self.model_name = facts.model_name
        self.facts = facts
        self._host = host
        self._http = HttpEngine(
            Upstream(facts.base_url, headers=facts.headers),
            model_name=facts.model_name,
            capabilities=facts.capabilities,
            health_path=facts.health_path,
            metrics_path=facts.metrics_path,
            sleep_paths=facts.sleep_paths,
        )
        self._stopping: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<HostedEngine {self._host.name} {self._http.upstream!r}>"

    async def generate(self, call: Call) -> UpstreamReply:
        """Straight to the engine."""
        return await self._http.generate(call)

    async def health(self) -> bool:
        """Asked of the engine itself."""
        return await self._http.health()

    async def metrics(self) -> EngineMetrics | None:
        """Asked of the engine itself."""
        return await self._http.metrics()

    async def memory_bytes(self) -> int:
        """Measured by its host; 0 where that does not answer."""
        with contextlib.suppress(HostLostError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                return await self._host.memory_bytes()
        return 0

    async def memory_use(self) -> MemoryUse | None:
        """Told by its host; None where that does not answer."""
        with contextlib.suppress(HostLostError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                return await self._host.memory_use()
        return None

    async def sleep(self, level: int) -> None:
        """Put it to sleep.

        Raises:
            EngineError: It cannot, or its host is gone.
        """
        await self._note_asleep(asleep=True)
        await self._http.sleep(level)

    async def wake(self) -> None:
        """Wake it.

        Raises:
            EngineError: It failed, or its host is gone.
        """
        await self._http.wake()
        await self._note_asleep(asleep=False)

    async def _note_asleep(self, *, asleep: bool) -> None:
        """Tell its host, so that no later core takes a sleeper for an engine that answers."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._host.note_asleep(asleep=asleep)
        except TimeoutError:
            raise EngineError(
                f"{self._host.name}: its host did not answer within {_ANSWER_S:g} s",
                code=FailureKind.ENGINE_ERROR,
            ) from None

    async def wait_closed(self) -> str:
        """Return when it has ended, or its host with it."""
        said: str | None = None
        while said is None:
            try:
                said = await self._host.wait_closed(_WATCH_S)
            except HostLostError as problem:
                said = str(problem)
        self._http.upstream.close()
        return said

    async def stop(self, grace_s: float) -> None:
        """End the engine and its host. Idempotent, never raises."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(grace_s))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> None:
        await self._http.stop(0.0)
        await end_host(self._host, grace_s)


async def end_host(host: HostLine, grace_s: float) -> None:
    """End an engine, then its host; never raises."""
    try:
        async with asyncio.timeout(grace_s + _ANSWER_S):
            await host.stop(grace_s)
    except (EngineError, TimeoutError) as problem:
        _log.debug("%s: %s", host.name, problem)
    await host.end()


@dataclass(eq=False)
class FoundEngines:
    """Running engines that an earlier core left behind and nobody has taken yet."""

    engines: list[tuple[HostLine, EngineFacts]] = field(default_factory=list)
    #: Fingerprints of the orders for which one will do.
    wanted: set[str] = field(default_factory=set)
    taken: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:
        return f"<FoundEngines left={len(self.engines)} taken={self.taken}>"

    def take(self, fingerprint: str) -> tuple[HostLine, EngineFacts] | None:
        """One that will do."""
        for index, (_, facts) in enumerate(self.engines):
            if facts.fingerprint == fingerprint:
                self.taken += 1
                self._news.set()
                return self.engines.pop(index)
        return None

    async def when_taken(self, count: int) -> None:
        """Return once so many were taken."""
        while self.taken < count:
            self._news.clear()
            await self._news.wait()

    async def end_unfit(self) -> int:
        """End those that will do for no order; how many."""
        unfit = [one for one in self.engines if one[1].fingerprint not in self.wanted]
        return await self._end(unfit)

    async def end_rest(self) -> int:
        """End those that nobody took; how many."""
        return await self._end(self.engines)

    async def _end(self, these: list[tuple[HostLine, EngineFacts]]) -> int:
        self.engines = [one for one in self.engines if one not in these]
        await asyncio.gather(*(end_host(host, 0.0) for host, _ in these))
        return len(these)


class HostedLauncher:
    """A `Launcher` of engines under hosts.

    Args:
        hosts: Starts them.
        order: Makes the order for a replica.
        found: Engines that run already.
    """

    def __init__(
        self, hosts: Hosts, order: Callable[[str], EngineOrder], found: FoundEngines
    ) -> None:
        self._hosts = hosts
        self._order = order
        self._found = found

    def __repr__(self) -> str:
        return f"<HostedLauncher found={self._found!r}>"

    async def launch(self, replica_id: str, on_progress: OnProgress) -> HostedEngine:
        """Take an engine that runs already, or have one started.

        Raises:
            EngineError: As `Launcher.launch`.
        """
        order = self._order(replica_id)
        left = self._found.take(order.fingerprint)
        if left is not None:
            on_progress(1.0)
            return HostedEngine(*left)
        host = await self._hosts.start(order)
        telling = asyncio.ensure_future(_tell(host, on_progress))
        try:
            facts = (await host.launch()).running()
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(end_host(host, 0.0)))
            raise
        finally:
            telling.cancel()
        on_progress(1.0)
        return HostedEngine(host, facts)


async def _tell(host: HostLine, on_progress: OnProgress) -> None:
    with contextlib.suppress(HostLostError):
        while True:
            on_progress(await host.progress())
            await asyncio.sleep(_PROGRESS_EVERY_S)
