"""The HTTP client towards engines, against servers that answer byte for byte as written here."""

import asyncio

import pytest

from slalom.core.events import FailureKind
from slalom.engines.upstream import Upstream
from slalom.engines.upstream_connection import BUFFER_BYTES_MAX, HEAD_BYTES_MAX, UpstreamReply
from slalom.testing import VirtualClock, run_virtual
from slalom.testing.engine_talk import until
from slalom.units import SECOND
from tests.engines.scripted import (
    CHUNKED,
    Peer,
    answering,
    call,
    chunk,
    failure,
    read,
    scripted,
    whole,
)

BODY = b"data: {}\n\n"


FRAMINGS = {
    "length": whole(BODY),
    "chunked": CHUNKED + chunk(BODY[:3]) + chunk(BODY[3:]) + b"0\r\n\r\n",
    "trailer": CHUNKED + chunk(BODY) + b"0\r\nx-check: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + whole(BODY),
    "old": b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("step", [1, 7, 100_000])
async def test_body_arrives_however_it_is_framed_and_cut(framing: str, step: int) -> None:
    answer = FRAMINGS[framing]
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
    async with scripted(answering(*pieces)) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        assert reply.status == 200
        assert await read(reply) == BODY
        assert await reply.read() == b""
        upstream.close()


async def test_body_without_length_ends_with_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\n", BODY)
        peer.writer.close()
        await peer.writer.wait_closed()

    async with scripted(script) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        assert reply.content_type == "a/b"
        assert await read(reply) == BODY
        assert upstream.connections_open == 0


async def test_request_is_what_the_engine_needs() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(whole(b"ok"))

    async with scripted(script) as served:
        upstream = Upstream(f"{served.url}/prefix/", headers={"authorization": "Bearer k"})
        await read(await upstream.post(call(b'{"a":1}', headers={"x-request-id": "r-1"})))
        upstream.close()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /prefix/v1/completions HTTP/1.1"
    assert body == b'{"a":1}'
    for line in (b"content-type: application/json", b"x-request-id: r-1", b"content-length: 7"):
        assert line in lines
    assert b"authorization: Bearer k" in lines
    assert any(line.startswith(b"host: localhost:") for line in lines)


async def test_one_read_of_the_socket_is_one_piece() -> None:
    many = b"".join(chunk(b"data: %d\n\n" % n) for n in range(50))
    async with scripted(answering(CHUNKED + many + b"0\r\n\r\n")) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        assert (await reply.read()).count(b"data:") == 50
        assert await reply.read() == b""
        upstream.close()


async def test_connections_are_reused_and_errors_are_answers() -> None:
    answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}"
    async with scripted(answering(answer)) as served:
        upstream = Upstream(served.url)
        for _ in range(5):
            reply = await upstream.post(call())
            assert reply.status == 503
            assert await read(reply) == b"{}"
        assert served.connections == 1
        assert upstream.connections_open == 1
        upstream.close()
        assert upstream.connections_open == 0


async def test_connection_marked_close_is_not_reused() -> None:
    async with scripted(answering(whole(BODY, b"connection: close"))) as served:
        upstream = Upstream(served.url)
        for _ in range(2):
            assert await read(await upstream.post(call())) == BODY
        assert served.connections == 2


async def test_stale_connection_is_tried_again_once() -> None:
    async def closes_later(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole(b"first"))
        await peer.request()  # and closes without a byte

    async with scripted(closes_later, answering(whole(b"second"))) as served:
        upstream = Upstream(served.url)
        assert await read(await upstream.post(call())) == b"first"
        assert await read(await upstream.post(call())) == b"second"
        assert served.connections == 2
        upstream.close()


async def test_nothing_is_tried_again_after_a_byte_or_on_a_fresh_connection() -> None:
    async def closes_mid_head(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole(b"first"))
        await peer.request()
        await peer.say(b"HTTP/1.1 200")

    async def closes(peer: Peer) -> None:
        await peer.request()

    async with scripted(closes_mid_head, closes) as served:
        upstream = Upstream(served.url)
        assert await read(await upstream.post(call())) == b"first"
        problem = await failure(upstream.post(call()))
        assert problem.code == FailureKind.CRASHED
        assert served.connections == 1
        problem = await failure(upstream.post(call()))
        assert "without an answer" in str(problem)
        assert served.connections == 2


@pytest.mark.parametrize(
    "start", [whole(BODY)[:-3], CHUNKED + chunk(BODY), CHUNKED + b"ff\r\n" + BODY]
)
async def test_truncated_body_is_a_crash_after_what_came(start: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(start)

    async with scripted(script) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        assert BODY.startswith(await reply.read())
        problem = await failure(reply.read())
        assert problem.code == FailureKind.CRASHED
        assert upstream.connections_open == 0


async def test_silence_is_a_stall_before_and_after_the_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async def script_with_head(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, chunk(BODY))
        await peer.gone()

    async with scripted(script, script_with_head) as served:
        upstream = Upstream(served.url)
        problem = await failure(upstream.post(call(stall_timeout_s=0.1)))
        assert problem.code == FailureKind.STALLED
        reply = await upstream.post(call(stall_timeout_s=0.1))
        assert await reply.read() == BODY
        problem = await failure(reply.read())
        assert problem.code == FailureKind.STALLED
        assert upstream.connections_open == 0


async def test_closing_a_reply_closes_the_connection() -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, chunk(BODY))
        await peer.gone()
        seen.set()

    async with scripted(script) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        waiting = asyncio.ensure_future(failure(read(reply)))
        await reply.close()
        await asyncio.wait_for(seen.wait(), 30.0)
        assert (await waiting).code == FailureKind.ABORTED
        assert upstream.connections_open == 0
        await reply.close()


async def test_giving_up_before_the_head_closes_the_connection() -> None:
    asked, seen = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()
        seen.set()

    async with scripted(script) as served:
        upstream = Upstream(served.url)
        work = asyncio.ensure_future(upstream.post(call()))
        await asyncio.wait_for(asked.wait(), 30.0)
        work.cancel()
        await asyncio.wait_for(seen.wait(), 30.0)
        assert upstream.connections_open == 0


def test_slow_reader_is_no_stall() -> None:
    async def main(clock: VirtualClock) -> None:
        reply = UpstreamReply("engine", 1.0)
        reply.push(BODY)
        assert await reply.read() == BODY
        await asyncio.sleep(10.0)  # virtual: the reader does something else
        reply.push(BODY)
        assert await reply.read() == BODY
        start_ns = clock.now_ns()
        assert (await failure(reply.read())).code == FailureKind.STALLED
        assert clock.now_ns() - start_ns == SECOND

    run_virtual(main)


async def test_unread_answer_stops_the_engine_not_our_memory() -> None:
    total = 48 << 20
    block = b"x" * (1 << 20)
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while written < total:
            await peer.say(block)
            written += len(block)
        await peer.gone()

    async with scripted(script) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())

        async def is_full() -> bool:
            return reply.buffered_bytes > BUFFER_BYTES_MAX

        await until(is_full, "the buffer of the unread answer is full")
        for _ in range(2000):  # turns of the loop in which the engine could go on
            await asyncio.sleep(0)
        assert written < total
        assert reply.buffered_bytes <= 3 * BUFFER_BYTES_MAX
        size = 0
        while piece := await reply.read():
            size += len(piece)
        assert size == total
        upstream.close()


BAD_ANSWERS = {
    "garbage": b"\x00\x01 what is this",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x-filler: yes\r\n" * (HEAD_BYTES_MAX // 10),
    "upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "bad chunk": CHUNKED + b"zz\r\n",
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_what_is_no_http_is_an_engine_error(name: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(BAD_ANSWERS[name])
        await peer.gone()

    async with scripted(script) as served:
        upstream = Upstream(served.url)

        async def whole_exchange() -> None:
            await read(await upstream.post(call()))

        problem = await failure(whole_exchange())
        assert problem.code == FailureKind.ENGINE_ERROR
        assert upstream.connections_open == 0


@pytest.mark.parametrize("more", [whole(b"whose?"), whole(b"whose?")[:9], b"\x00\x01 junk"])
async def test_bytes_nobody_asked_for_end_the_connection(more: bytes) -> None:
    async with scripted(answering(whole(b"mine") + more)) as served:
        upstream = Upstream(served.url)
        for number in (1, 2):
            assert await read(await upstream.post(call())) == b"mine"
            assert upstream.connections_open == 0
            assert served.connections == number
