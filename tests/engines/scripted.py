"""A TCP server that answers with bytes the test wrote down."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from slalom.engines.protocol import Call
from slalom.engines.upstream_connection import UpstreamReply
from slalom.errors import EngineError

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return head + await self.reader.readexactly(int(line.split(b":")[1]))
        return head

    async def say(self, *pieces: bytes) -> None:
        """Write pieces, each in a segment of its own as far as we can tell."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed its end."""
        while await self.reader.read(65536):
            pass


class Served:
    """What a scripted server saw."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []


@asynccontextmanager
async def scripted(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """A server whose n-th connection follows the n-th script; the last one repeats."""
    served = Served()
    problems: list[Exception] = []
    tasks: set[asyncio.Task[None]] = set()

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = scripts[min(served.connections, len(scripts) - 1)]
        served.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as problem:  # noqa: BLE001 - shown at the end of the test
            problems.append(problem)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(follow, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    served.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not problems, problems


def answering(*pieces: bytes) -> Script:
    """Answer every request on the connection with the same pieces."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*pieces)

    return script


def call(body: bytes = b"{}", **more: object) -> Call:
    """Some call."""
    return Call("/v1/completions", body, **more)  # type: ignore[arg-type]


def whole(body: bytes, *head: bytes) -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *head]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(body: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


async def read(reply: UpstreamReply) -> bytes:
    """The whole body of an answer."""
    return await reply.read_all(1 << 26)


async def failure(work: Awaitable[object]) -> EngineError:
    """The engine error some work must end with."""
    with pytest.raises(EngineError) as caught:
        await asyncio.wait_for(work, 30.0)
    return caught.value
