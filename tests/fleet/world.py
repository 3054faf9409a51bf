"""An ingress over real sockets, in front of cores that a test has written down.

Owns `FakeCore`, one life of a core that follows a script and dies when it is told to, and the
ingress that looks for it. Used by the tests of this folder.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from slalom.fleet.core_line import PING_PATH, CoreAddress, CoreLine, LineParams
from slalom.fleet.ingress import Ingress, IngressParams
from slalom.fleet.passing_on import PassedOn
from slalom.gateway.params import GatewayParams
from slalom.gateway.server import GatewayServer

SECRET = "between-us"
WAIT_S = 20.0
#: Quick, so that nothing here waits long.
LINE = LineParams(seek_every_s=0.01, watch_every_s=0.02, ping_timeout_s=0.2, failures_max=2)
CHAT = "/v1/chat/completions"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """A chunk of a body; the last one for no data."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def document(body: bytes, status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """A whole answer."""
    head = [b"HTTP/1.1 " + status, b"content-type: application/json", *lines]
    head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@dataclass(eq=False)
class Asked:
    """A request as the core got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    #: Set when whoever sent it has closed the connection.
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, *pieces: bytes) -> None:
        """Write, each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)


Script = Callable[[Asked], Awaitable[None]]


class FakeCore:
    """One life of a core."""

    def __init__(self, life: str, script: Script) -> None:
        self.life = life
        self.script = script
        self.asked: list[Asked] = []
        #: Whether it still answers pings.
        self.answers = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> "FakeCore":
        self._server = await asyncio.start_server(self._follow, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def die(self) -> None:
        """At once, as a process that is killed."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await _read(reader, writer)
                if asked.target == PING_PATH:
                    if self.answers:
                        await asked.say(document(self.life.encode()))
                    continue
                self.asked.append(asked)
                task = asyncio.create_task(self._play(asked))
                self._tasks.add(task)
        if self.asked:
            self.asked[-1].left.set()

    async def _play(self, asked: Asked) -> None:
        with suppress(ConnectionError):
            await self.script(asked)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split()
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body, writer)


@dataclass
class World:
    """What a test can reach."""

    ingress: Ingress
    line: CoreLine
    server: GatewayServer
    http: aiohttp.ClientSession
    #: The core that is found; None for none.
    core: FakeCore | None = None
    _all: list[FakeCore] = field(default_factory=list)

    async def born(self, life: str, script: Script) -> FakeCore:
        """The next life of the core."""
        self.core = await FakeCore(life, script).start()
        self._all.append(self.core)
        return self.core

    async def locate(self) -> CoreAddress | None:
        core = self.core
        return None if core is None else CoreAddress("127.0.0.1", core.port, core.life)

    async def post(
        self, body: Any = None, path: str = CHAT, headers: dict[str, str] | None = None
    ) -> tuple[int, str, Any]:
        """Status, text, headers."""
        url = self.server.url + path
        async with self.http.post(url, json=body or {"model": "a"}, headers=headers) as reply:
            return reply.status, await reply.text(), reply.headers

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                moment = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(0.005, moment.set_result, None)
                await moment

    def end(self) -> None:
        for core in self._all:
            core.die()


@asynccontextmanager
async def world(gateway: GatewayParams | None = None, **bounds: Any) -> AsyncIterator[World]:
    """An ingress without a core."""
    gateway = gateway or GatewayParams(models=())
    made: list[World] = []

    async def locate() -> CoreAddress | None:
        return await made[0].locate() if made else None

    line = CoreLine(locate, LINE, ping_headers=PassedOn(0, "ping").headers(SECRET))
    ingress = Ingress(line, gateway, IngressParams(SECRET, **{"hold_s": 10.0, **bounds}))
    server = GatewayServer(ingress, insecure=True)
    await server.start()
    running = asyncio.create_task(line.run())
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(WAIT_S)) as http:
        made.append(World(ingress, line, server, http))
        try:
            async with asyncio.timeout(2 * WAIT_S):
                yield made[0]
        finally:
            made[0].end()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await server.stop(0.0)
