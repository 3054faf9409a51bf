"""An engine behind a socket that sends as fast as it is read, and counts what it got rid of.

Owns the program (aiohttp in this process) and the fake engine that is reached through it by the
real upstream client. What a reader that reads nothing leaves unread must stay here.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from slalom.engines.protocol import Call, Engine
from slalom.engines.remote import RemoteLauncher, RemoteOptions
from slalom.engines.upstream_connection import UpstreamReply
from slalom.testing import FakeEngine, FakeLauncher, FakeScript, fake_wire
from slalom.units import KIB, MIB

#: What one answer has in all.
ANSWER_BYTES = 1024 * MIB


class Torrent:
    """The program."""

    def __init__(self) -> None:
        self.written_bytes = 0
        self.answers = 0
        #: Whether an answer could be written to its end.
        self.emptied = False
        self.port = 0
        choice = {"index": 0, "delta": {"content": "x" * (16 * KIB)}, "finish_reason": None}
        self._event = fake_wire.sse({"id": "t", "choices": [choice]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send until the end, or until nobody is there."""
        await request.read()
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        self.answers += 1
        for _ in range(ANSWER_BYTES // len(self._event)):
            await reply.write(self._event)
            self.written_bytes += len(self._event)
        self.emptied = True
        return reply


class _Reached(FakeEngine):
    """Its calls go to the program, by the client that every remote engine has."""

    def __init__(self, script: FakeScript, engine: Engine) -> None:
        super().__init__(script)
        self._engine = engine

    async def generate(self, call: Call) -> UpstreamReply:
        """Ask the program."""
        reply = await self._engine.generate(call)
        assert isinstance(reply, UpstreamReply)
        return reply

    async def stop(self, grace_s: float) -> None:
        """Close the connections."""
        await self._engine.stop(grace_s)
        await super().stop(grace_s)


@dataclass(eq=False, slots=True)
class TorrentLauncher(FakeLauncher):
    """Connects to it."""

    port: int = 0

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        """As soon as it answers."""
        self.launches.append(replica_id)
        assert isinstance(self.script, FakeScript)
        options = RemoteOptions(f"http://127.0.0.1:{self.port}", health_path="/health")
        remote = RemoteLauncher(options, model_name="torrent")
        engine = _Reached(self.script, await remote.launch(replica_id, on_progress))
        self.engines.append(engine)
        return engine


@asynccontextmanager
async def torrent() -> AsyncIterator[Torrent]:
    """Start it, and end it whatever it still has to say."""
    program = Torrent()

    async def well(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/chat/completions", program.answer)
    app.router.add_get("/health", well)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    program.port = runner.addresses[0][1]
    try:
        yield program
    finally:
        await runner.cleanup()
