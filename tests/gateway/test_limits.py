"""Rooms that are full, and clients that leave: what is refused, and what is freed."""

import asyncio
import json
from functools import partial

import pytest

from slalom.core.params import SchedulerParams
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings
from slalom.units import MS, SECOND
from tests.gateway.house import WAIT_S, House, chat, house
from tests.gateway.wire import CHAT, params, post, raw, valid


async def test_surplus_connections_get_503() -> None:
    async with house(params=params(connections_max=1)) as world:
        _, first = await asyncio.open_connection("127.0.0.1", world.server.port)
        await world.until(lambda: world.server._server.server_state.connections)  # type: ignore[union-attr]
        status, headers, document = await raw(world, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (status, document["error"]["code"]) == (503, "too_many_connections")
        assert int(headers["retry-after"]) >= 1
        first.close()


async def test_surplus_requests_get_503_with_retry_after() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=SECOND)))
    async with house({"a": launcher}, params=params(inflight_max=1)) as world:
        running = asyncio.create_task(world.post(CHAT, chat(tokens=100)))
        await world.until(lambda: world.gateway.inflight)
        status, document, headers = await world.post(CHAT, chat())
        assert (status, document["error"]["code"]) == (503, "too_many_requests")
        assert int(headers["retry-after"]) >= 1
        running.cancel()


async def test_the_bodies_of_all_requests_together_are_bounded() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=SECOND)))
    async with house({"a": launcher}, params=params(bodies_bytes_max=10_000)) as world:
        big = chat(tokens=100, pad="x" * 6_000)
        running = asyncio.create_task(world.post(CHAT, big))
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        status, document, headers = await world.post(CHAT, big)
        assert (status, document["error"]["code"]) == (503, "too_many_bytes")
        assert int(headers["retry-after"]) >= 1
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        body = json.dumps(big).encode()
        status, _, document = await raw(world, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert (status, document["error"]["code"]) == (503, "too_many_bytes")
        running.cancel()
        await world.until(lambda: world.gateway.inflight == 0)
        assert world.gateway._shared.bytes_inside == 0
        assert (await world.post(CHAT, chat(tokens=1, pad="x" * 6_000)))[0] == 200


async def test_a_full_queue_is_429_with_retry_after() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=SECOND)))
    async with house(
        {"a": launcher}, places=1, scheduler_params=SchedulerParams(queue_max=1)
    ) as world:
        tasks = []
        for count in (1, 2):
            tasks.append(asyncio.create_task(world.post(CHAT, chat(tokens=100))))
            await world.until(partial(_inside, world, count))
        await world.until(lambda: world.runtime.snapshot().running == 1)
        status, document, headers = await world.post(CHAT, chat())
        assert (status, document["error"]["code"]) == (429, "queue_full")
        assert int(headers["retry-after"]) >= 1
        for task in tasks:
            task.cancel()


def _inside(world: House, count: int) -> bool:
    snapshot = world.runtime.snapshot()
    return snapshot.waiting + snapshot.running == count


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_engine(stream: bool) -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=20 * MS)))
    async with house({"a": launcher}) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        # Large enough to meet uvicorn's paused reading, through which nobody sees a client go.
        body = chat(tokens=100_000, stream=stream, pad="x" * 300_000)
        writer.write(post(json.dumps(body).encode()))
        if stream:
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b"data:")
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        writer.transport.abort()
        await world.until(lambda: world.engine().aborted == 1)
        await world.until(lambda: world.ended)
        assert world.ended[0].outcome == "cancelled"
        await world.until(lambda: world.gateway.records.latest(1))
        assert world.gateway.records.latest(1)[0]["status"] == 499
        assert world.gateway.inflight == 0


async def test_a_client_that_leaves_while_its_model_loads_ends_the_load() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=100 * SECOND))
    async with house({"a": launcher}) as world:
        _, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(post(valid()))
        await world.until(lambda: launcher.launches)
        writer.close()
        await world.until(lambda: launcher.cancelled == 1)
