"""The core's front door: who comes in, since when, and that nobody is worked for twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from slalom.fleet.core_line import PING_PATH
from slalom.fleet.front_door import FrontDoor
from slalom.fleet.passing_on import PassedOn, read_passed_on
from slalom.gateway.server import GatewayServer
from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.units import SECOND
from tests.fleet.world import CHAT, SECRET
from tests.gateway.house import House, chat, house


def told(token: str = "t-1", age_us: int = 0, secret: str = SECRET) -> dict[str, str]:
    lines = PassedOn(age_us, token, "203.0.113.9").headers(secret)
    return {name.decode(): value.decode() for name, value in lines}


@asynccontextmanager
async def door(script: FakeScript | None = None) -> AsyncIterator[tuple[str, House, FrontDoor]]:
    """A house behind a door: the door's URL."""
    async with house({"a": FakeLauncher(script or FakeScript())}) as inside:
        front = FrontDoor(inside.gateway, SECRET, "life-1")
        server = GatewayServer(front, insecure=True)
        await server.start()
        try:
            yield server.url, inside, front
        finally:
            await server.stop(0.0)


async def test_only_ingresses_of_the_fleet_come_in() -> None:
    async with door() as (url, inside, _):
        for headers in ({}, told(secret="guess"), told(age_us=-5)):
            async with inside.http.post(url + CHAT, json=chat(), headers=headers) as reply:
                assert reply.status == 401
        async with inside.http.post(url + CHAT, json=chat(), headers=told()) as reply:
            assert reply.status == 200
        async with inside.http.get(url + PING_PATH, headers=told()) as reply:
            assert await reply.text() == "life-1"


async def test_a_request_counts_from_its_arrival_at_the_ingress() -> None:
    async with door() as (url, inside, _):
        headers = told(age_us=2_000_000)
        async with inside.http.post(url + CHAT, json=chat(), headers=headers) as reply:
            assert float(reply.headers["x-slalom-queue-ms"]) >= 2000
        (end,) = inside.ended
        assert end.ended_ns - end.arrived_ns >= 2 * SECOND


async def test_a_request_that_comes_again_takes_the_place_of_its_earlier_self() -> None:
    slow = FakeScript(FakeTimings(token_ns=SECOND // 50), places=1)
    async with door(slow) as (url, inside, front):
        first = asyncio.create_task(_post(inside, url, 500))
        await inside.until(lambda: inside.launchers["a"].engines and inside.engine().calls)
        second = asyncio.create_task(_post(inside, url, 2))
        assert await second == 200
        assert front.replaced == 1
        assert [str(end.outcome) for end in inside.ended] == ["cancelled", "done"]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def _post(inside: House, url: str, tokens: int) -> int:
    try:
        async with inside.http.post(url + CHAT, json=chat(tokens=tokens), headers=told()) as reply:
            await reply.read()
            return reply.status
    except aiohttp.ClientError:
        return 0


def test_what_is_told_is_read_as_it_was_written() -> None:
    said = PassedOn(17, "t", "::1")
    assert read_passed_on(said.headers(SECRET), SECRET) == said
    assert read_passed_on(said.headers(SECRET), "other") is None
    assert read_passed_on(said.headers(""), "") is None
