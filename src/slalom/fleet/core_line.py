"""The way from an ingress to the core of the moment, which may die and come up elsewhere.

Owns finding the core, noticing that it is gone although no connection said so, and the wait for
the next one. Does not own requests: `ingress` does. What finds the core is given to it, so that
nothing here knows Ray.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from slalom.engines.upstream import Upstream
from slalom.errors import EngineError
from slalom.fleet.passing_on import Lines

_log = logging.getLogger(__name__)

#: Answered by the core's front door at once, with the name of its life.
PING_PATH = "/fleet/ping"


@dataclass(frozen=True, slots=True)
class CoreAddress:
    """Where one life of the core listens."""

    host: str
    port: int
    #: Names the life; the next one has another name.
    life: str
    #: Its process, where it runs; for people.
    pid: int = 0


#: Finds the core; None while there is none. May raise whatever it likes: that is none, too.
Locate = Callable[[], Awaitable[CoreAddress | None]]


@dataclass(frozen=True, slots=True)
class LineParams:
    """How closely the core is watched."""

    #: Between two looks for a core that is away, and at one that is there, s.
    seek_every_s: float = 0.1
    watch_every_s: float = 1.0
    #: Longest wait for what finds the core, and for its answer to a ping, s.
    locate_timeout_s: float = 3.0
    ping_timeout_s: float = 2.0
    #: Pings that fail in a row before the core counts as gone.
    failures_max: int = 3
    connections_max: int = 16_384


@dataclass(eq=False)
class CoreLife:
    """One life of the core, as its clients see it."""

    address: CoreAddress
    upstream: Upstream
    #: Pings that failed in a row.
    failures: int = 0


@dataclass(eq=False)
class CoreLine:
    """Finds the core and keeps watching it.

    Args:
        locate: Finds it.
        params: How closely to watch.
        ping_headers: What makes the core answer a ping.
    """

    locate: Locate
    params: LineParams = field(default_factory=LineParams)
    ping_headers: Lines = field(default_factory=list)
    #: The life that requests go to; None while there is none.
    life: CoreLife | None = None
    #: The last one, which did not take a request and has not answered since.
    _suspect: CoreLife | None = None
    _here: asyncio.Event = field(default_factory=asyncio.Event)
    _look: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:
        return f"<CoreLine {self.life.address if self.life else 'away'}>"

    async def run(self) -> None:
        """Find the core, watch it, find the next one, for ever."""
        try:
            while True:
                if self.life is None:
                    await self._seek()
                else:
                    await self._watch(self.life)
        finally:
            self._drop()

    async def ready(self) -> CoreLife:
        """The core, as soon as there is one that answers."""
        while self.life is None:
            await self._here.wait()
        return self.life

    def suspect(self, life: CoreLife) -> None:
        """A request did not get through to this life: it is asked at once whether it lives.

        What runs on it goes on meanwhile; what is new waits until it has answered.
        """
        if self.life is life:
            self.life, self._suspect = None, life
            self._here.clear()
            self._look.set()

    async def _seek(self) -> None:
        suspect = self._suspect
        if suspect is not None:
            if await self._ping(suspect):
                self._take(suspect)
                return
            suspect.failures += 1
            if suspect.failures >= self.params.failures_max:
                self._drop()
        address = await self._located()
        if address is not None and not (suspect is not None and suspect.address == address):
            life = CoreLife(address, self._upstream(address))
            if await self._ping(life):
                self._take(life)
                _log.info("the core is at %s, life %s", life.upstream.where, address.life)
                return
            life.upstream.close()
        await self._pause(self.params.seek_every_s)

    def _take(self, life: CoreLife) -> None:
        suspect, self._suspect = self._suspect, None
        if suspect is not None and suspect is not life:
            suspect.upstream.close()
        life.failures = 0
        self.life = life
        self._here.set()

    async def _watch(self, life: CoreLife) -> None:
        await self._pause(self.params.watch_every_s)
        if self.life is not life:
            return
        if await self._ping(life, reuse=True):
            life.failures = 0
            return
        life.failures += 1
        if life.failures >= self.params.failures_max:
            _log.warning("the core at %s does not answer any more", life.upstream.where)
            self._drop()

    def _drop(self) -> None:
        """Forget every life: what is under way on them fails now."""
        lives = (self.life, self._suspect)
        self.life = self._suspect = None
        self._here.clear()
        for life in lives:
            if life is not None:
                life.upstream.close()

    async def _pause(self, seconds: float) -> None:
        self._look.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()

    async def _located(self) -> CoreAddress | None:
        try:
            async with asyncio.timeout(self.params.locate_timeout_s):
                return await self.locate()
        except Exception as problem:  # noqa: BLE001 - however it failed, there is no core now
            _log.debug("the core was not found: %s", type(problem).__name__)
            return None

    async def _ping(self, life: CoreLife, *, reuse: bool = False) -> bool:
        """Whether it answers, and is who it was."""
        try:
            async with asyncio.timeout(self.params.ping_timeout_s):
                reply = await life.upstream.forward(
                    "GET",
                    PING_PATH,
                    self.ping_headers,
                    b"",
                    stall_timeout_s=self.params.ping_timeout_s,
                    reuse=reuse,
                )
                try:
                    said = await reply.read_all(4096)
                finally:
                    reply.abort()
        except (EngineError, TimeoutError):
            return False
        return reply.status == 200 and said == life.address.life.encode()

    def _upstream(self, address: CoreAddress) -> Upstream:
        host = f"[{address.host}]" if ":" in address.host else address.host
        return Upstream(
            f"http://{host}:{address.port}",
            connections_max=self.params.connections_max,
            connect_timeout_s=self.params.ping_timeout_s,
        )
