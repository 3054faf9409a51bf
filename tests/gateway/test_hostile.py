"""Hostile clients: what they can take is bounded, and everybody else is served meanwhile.

Memory is this process's, in which attackers, server and engines are together. Figures are printed
by `pytest -s`, and written as a page where `SLALOM_HOSTILE_PAGE` says so (`make bench-hostile`).
"""

import asyncio
import ctypes
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.units import KIB, MIB, SECOND
from tests.gateway.hostile_page import Figure, page
from tests.gateway.house import WAIT_S, House, chat, house
from tests.gateway.torrent import ANSWER_BYTES, TorrentLauncher, torrent
from tests.gateway.wire import CHAT, params, post, valid

#: An ordinary client never waits this long beside an attack; a bound for broken, not for slow.
_ORDINARY_S = 20.0
#: Ordinary requests before an attack and beside it.
_ORDINARY = 20
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_FIGURES: list[Figure] = []


@pytest.fixture(scope="module", autouse=True)
def _written() -> Iterator[None]:
    """Write the page at the end."""
    yield
    path = os.environ.get("SLALOM_HOSTILE_PAGE")
    if path:
        Path(path).write_text(page(_FIGURES))


class Attack:
    """Connections of one attack, and what they cost.

    Args:
        world: The server.
        name: For people.
        alone_ms: What ordinary requests take without it.
    """

    def __init__(self, world: House, name: str, alone_ms: list[float]) -> None:
        self._world = world
        self._name = name
        self._alone_ms = alone_ms
        _give_back()
        self._rss_before = _rss()
        self._open: list[Connection] = []

    async def connect(self) -> Connection:
        one = await asyncio.open_connection("127.0.0.1", self._world.server.port)
        self._open.append(one)
        return one

    async def others_are_served(self, rss_max: int, note: str = "") -> None:
        """Serve ordinary clients now, and look at the memory."""
        beside_ms = await ordinary_ms(self._world)
        grown = _rss() - self._rss_before
        figure = Figure(self._name, grown / MIB, self._alone_ms, beside_ms, note)
        _FIGURES.append(figure)
        print(f"\n{figure}")  # noqa: T201
        assert grown < rss_max

    def end(self) -> None:
        for _, writer in self._open:
            writer.transport.abort()


async def ordinary_ms(world: House) -> list[float]:
    """What ordinary requests take, one after the other."""
    took: list[float] = []
    for _ in range(_ORDINARY):
        started = time.monotonic()
        async with asyncio.timeout(_ORDINARY_S):
            status, _, _ = await world.post(CHAT, chat(tokens=1))
        assert status == 200
        took.append((time.monotonic() - started) * 1000)
    return took


def _give_back() -> None:
    """Let go of what earlier attacks took, which would hide what this one takes."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _rss() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


@asynccontextmanager
async def attack(world: House, name: str) -> AsyncIterator[Attack]:
    """An attack, and that nothing of it is left behind it."""
    assert (await world.post(CHAT, chat(tokens=1)))[0] == 200  # the model is there
    found = Attack(world, name, await ordinary_ms(world))
    try:
        yield found
    finally:
        found.end()
    await world.until(lambda: world.gateway.inflight == 0)
    assert world.gateway.shared.bytes_inside == 0


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes."""
    said = b""
    async with asyncio.timeout(WAIT_S):
        while piece := await reader.read(65_536):
            said += piece
    return said


class Standstill:
    """Whether a number has not changed for some time."""

    def __init__(self, number: Callable[[], int], seconds: float = 0.5) -> None:
        self._number = number
        self._seconds = seconds
        self._last = -1
        self._since_s = 0.0

    def __call__(self) -> bool:
        if self._number() != self._last:
            self._last, self._since_s = self._number(), time.monotonic()
        return time.monotonic() - self._since_s > self._seconds


async def test_readers_that_read_nothing() -> None:
    """What an engine could send waits with the engine: the clients' sockets fill, and that is all.

    Each answer is a gigabyte, which the engine sends as fast as it is read. Kernels keep a few
    megabytes for each socket; our memory is looked at.
    """
    readers = 8
    async with torrent() as program:
        launchers: dict[str, FakeLauncher] = {
            "a": FakeLauncher(),
            "torrent": TorrentLauncher(port=program.port),
        }
        async with (
            house(launchers, places=readers) as world,
            attack(world, f"{readers} readers that read nothing of a gigabyte each") as foe,
        ):
            connections: list[Connection] = []
            for _ in range(readers):
                reader, writer = await foe.connect()
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(post(json.dumps(chat("torrent", stream=True)).encode()))
                connections.append((reader, writer))
            await world.until(lambda: program.answers == readers)
            await world.until(Standstill(lambda: program.written_bytes))
            taken = program.written_bytes
            sent = f"{taken / MIB / readers:.1f} MiB of each answer left the engine"
            await foe.others_are_served(64 * MIB, sent)
            assert taken < readers * ANSWER_BYTES / 20
            assert not program.emptied
            assert world.runtime.snapshot().running == readers
            reader, writer = connections[0]  # one begins to read after all
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            read = 0
            async with asyncio.timeout(WAIT_S):
                while read < 2 * taken // readers:
                    read += len(await reader.read(MIB))


async def test_a_thousand_idle_streams() -> None:
    """Streams that are open and say nothing for long."""
    quiet = FakeScript(timings=FakeTimings(token_ns=3600 * SECOND), places=1100)
    launchers = {"a": FakeLauncher(), "quiet": FakeLauncher(quiet)}
    async with (
        house(launchers, places=1100) as world,
        attack(world, "1,000 idle streams") as foe,
    ):
        body = json.dumps(chat("quiet", tokens=9, stream=True)).encode()
        for _ in range(1000):
            _, writer = await foe.connect()
            writer.write(post(body))
        await world.until(lambda: world.gateway.inflight == 1000)
        await foe.others_are_served(256 * MIB)


async def test_connections_half_open() -> None:
    """Heads and bodies that stop in the middle; their time is bounded too (test_http)."""
    given = params(header_timeout_s=0.5, body_timeout_s=0.5)
    async with house(params=given) as world, attack(world, "200 half-open") as foe:
        readers = []
        for number in range(200):
            reader, writer = await foe.connect()
            writer.write(post(valid())[: 20 if number % 2 else -5])
            readers.append(reader)
        await foe.others_are_served(64 * MIB)
        for reader in readers:
            await _until_closed(reader)


async def test_giant_bodies() -> None:
    """Declared or not, no more is taken than may be."""
    given = params(body_bytes_max=MIB, bodies_bytes_max=4 * MIB)
    async with house(params=given) as world, attack(world, "20 giant bodies") as foe:
        for number in range(20):
            reader, writer = await foe.connect()
            if number % 2:
                writer.write(post(b"").replace(b"length: 0", b"length: %d" % (64 * MIB)))
            else:
                head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
                writer.write(head + b"%x\r\n%s\r\n" % (2 * MIB, b"x" * (2 * MIB)))
            async with asyncio.timeout(WAIT_S):
                line = await reader.readline()
            assert line.split()[1] in {b"413", b"503"}
        await foe.others_are_served(96 * MIB)


_BODIES: dict[str, Callable[[], bytes]] = {
    "deep arrays": lambda: b'{"model":"a","messages":' + b"[" * 500_000,
    "deep objects": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "invalid UTF-8": lambda: b'{"model":"a","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "half a character": lambda: b'{"model":"a","messages":[{"role":"user","content":"\xc3"}]}',
    "lone surrogate": lambda: b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}',
    "a null byte": lambda: b"\x00" * 1000,
    "a long number": lambda: b'{"model":"a","n":' + b"9" * 100_000 + b"}",
    "many members": lambda: json.dumps({str(n): n for n in range(50_000)}).encode(),
}


@pytest.mark.parametrize("name", _BODIES)
async def test_bodies_that_are_no_requests(name: str) -> None:
    async with house() as world, attack(world, name) as foe:
        reader, writer = await foe.connect()
        writer.write(post(_BODIES[name]()))
        async with asyncio.timeout(WAIT_S):
            line = await reader.readline()
        assert 400 <= int(line.split()[1]) < 500
        await foe.others_are_served(64 * MIB)


async def test_a_flood_of_headers() -> None:
    async with house() as world, attack(world, "header floods") as foe:
        for size in (64 * KIB, MIB):
            reader, writer = await foe.connect()
            lines = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 50) for n in range(size // 50))
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + lines)
            async with asyncio.timeout(WAIT_S):
                line = await reader.readline()
            assert line.split()[1] == b"431"
        await foe.others_are_served(32 * MIB)


async def test_requests_that_do_not_wait_for_answers() -> None:
    """Pipelining: each gets its answer, in order, and no more than one runs at a time."""
    async with house() as world, attack(world, "200 pipelined") as foe:
        reader, writer = await foe.connect()
        writer.write(post(valid()) * 200)
        await foe.others_are_served(64 * MIB)
        async with asyncio.timeout(WAIT_S):
            for _ in range(200):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().split(b"content-length:")[1].split()[0])
                await reader.readexactly(length)
