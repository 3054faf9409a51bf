"""What an ingress passes on, what it holds while the core is away, and what it gives out once."""

import asyncio
import json

import aiohttp
import pytest

from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry
from tests.fleet.world import CHAT, EVENTS, SECRET, Asked, FakeCore, World, chunk, document, world

DONE = b"data: [DONE]\n\n"
SIGN = b": waiting 800 ms; model loading\n\n"
WORD = b'data: {"choices": [{"delta": {"content": "one"}}]}\n\n'


async def answers(asked: Asked) -> None:
    await asked.say(document(b'{"said": "%s"}' % asked.headers["x-request-id"].encode()))


async def silent(asked: Asked) -> None:
    await asked.left.wait()


async def streams(asked: Asked) -> None:
    await asked.say(EVENTS, chunk(WORD), chunk(DONE), chunk(b""))


async def signs(asked: Asked) -> None:
    await asked.say(EVENTS, chunk(SIGN))
    await asked.left.wait()


async def begins(asked: Asked) -> None:
    await asked.say(EVENTS, chunk(SIGN), chunk(WORD))
    await asked.left.wait()


async def refuses(asked: Asked) -> None:
    told = {"error": {"message": "Full.", "type": "overloaded_error", "code": "queue_full"}}
    await asked.say(document(json.dumps(told).encode(), b"503 Service Unavailable"))


async def killed_while_asked(here: World, first: FakeCore, count: int = 1) -> None:
    """The core dies once it has been asked, and nothing takes its place yet."""
    await here.until(lambda: len(first.asked) >= count)
    here.core = None
    first.die()


async def test_a_request_and_its_answer_are_passed_on_as_they_are() -> None:
    async def tells(asked: Asked) -> None:
        await asked.say(document(b"{}", b"418 I am a teapot", b"x-slalom-queue-ms: 3.0"))

    async with world() as here:
        core = await here.born("one", tells)
        spoofed = {"x-slalom-fleet-age-us": "9000000000", "x-slalom-fleet-secret": "guess"}
        status, text, headers = await here.post(
            {"model": "ä"}, CHAT + "?a=%20b", {"x-request-id": "mine", "x-own": "1", **spoofed}
        )
        asked = core.asked[0]
        assert (status, text, headers["x-slalom-queue-ms"]) == (418, "{}", "3.0")
        assert (asked.method, asked.target) == ("POST", CHAT + "?a=%20b")
        assert json.loads(asked.body) == {"model": "ä"}
        assert asked.headers["x-request-id"] == "mine"
        assert asked.headers["x-own"] == "1"
        assert asked.headers["x-slalom-fleet-secret"] == SECRET
        assert int(asked.headers["x-slalom-fleet-age-us"]) < 9_000_000_000
        assert asked.headers["x-slalom-fleet-client"] == "127.0.0.1"


async def test_a_request_waits_for_a_core_and_counts_from_its_arrival() -> None:
    async with world() as here:
        waiting = asyncio.create_task(here.post())
        await here.until(lambda: here.ingress.held == 1)
        core = await here.born("one", answers)
        status, _, _ = await waiting
        assert status == 200
        assert int(core.asked[0].headers["x-slalom-fleet-age-us"]) > 0
        assert here.ingress.status()["held"] == 0


async def test_what_no_byte_was_answered_of_goes_to_the_next_life_once() -> None:
    async with world() as here:
        first = await here.born("one", silent)
        asking = asyncio.create_task(here.post())
        await killed_while_asked(here, first)
        second = await here.born("two", answers)
        status, text, _ = await asking
        old, new = first.asked[0].headers, second.asked[0].headers
        assert status == 200
        assert json.loads(text)["said"] == old["x-request-id"] == new["x-request-id"]
        assert old["x-slalom-fleet-request"] == new["x-slalom-fleet-request"]
        assert int(new["x-slalom-fleet-age-us"]) > int(old["x-slalom-fleet-age-us"])
        assert (len(first.asked), len(second.asked), here.ingress.resent) == (1, 1, 1)


async def test_signs_of_life_are_no_answer_and_the_stream_goes_on_behind_them() -> None:
    async with world() as here:
        first = await here.born("one", signs)
        asking = asyncio.create_task(here.post({"model": "a", "stream": True}))
        await killed_while_asked(here, first)
        await here.born("two", streams)
        status, text, _ = await asking
        assert (status, text) == (200, (SIGN + WORD + DONE).decode())


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (CHAT, b"data: [DONE]\n\n"),
        ("/v1/messages", b'"type":"api_error"'),
        ("/v1/responses", b'event: error\ndata: {"type":"error","code":"core_lost"'),
    ],
)
async def test_an_answer_that_had_begun_ends_with_an_error_and_is_not_asked_again(
    path: str, last: bytes
) -> None:
    async with world() as here:
        first = await here.born("one", begins)
        async with here.http.post(here.server.url + path, json={"stream": True}) as reply:
            assert (await reply.content.readany()).startswith(SIGN[:2])
            await here.until(lambda: here.ingress.inside == 1)
            read = await reply.content.readuntil(b'"one"}}]}\n\n')
            second = await here.born("two", streams)
            first.die()
            read += await reply.content.read()
        assert b'"one"' in read
        assert last in read
        assert b"went away while it answered" in read
        assert not second.asked


async def test_lines_of_json_end_with_a_line_of_error() -> None:
    head = EVENTS.replace(b"text/event-stream", b"application/x-ndjson")

    async def tells(asked: Asked) -> None:
        await asked.say(head, chunk(b'{"done": false}\n'))
        await asked.left.wait()

    async with world() as here:
        first = await here.born("one", tells)
        async with here.http.post(here.server.url + "/api/chat", json={}) as reply:
            await reply.content.readline()
            first.die()
            rest = await reply.content.read()
        assert json.loads(rest)["code"] == "core_lost"


async def test_a_refusal_after_a_sign_of_life_ends_the_stream() -> None:
    async with world() as here:
        first = await here.born("one", signs)
        asking = asyncio.create_task(here.post({"model": "a", "stream": True}))
        await killed_while_asked(here, first)
        await here.born("two", refuses)
        status, text, _ = await asking
        events = text.removeprefix(SIGN.decode()).split("\n\n")
        assert status == 200
        assert json.loads(events[0].removeprefix("data: "))["error"]["code"] == "queue_full"
        assert events[1] == "data: [DONE]"


async def test_a_document_that_was_cut_off_is_asked_for_again() -> None:
    async def cut(asked: Asked) -> None:
        await asked.say(document(b'{"half": "of it"}')[:-5])
        await asked.left.wait()

    async with world() as here:
        first = await here.born("one", cut)
        asking = asyncio.create_task(here.post())
        await killed_while_asked(here, first)
        await here.born("two", answers)
        status, text, _ = await asking
        assert (status, "said" in text, "half" in text) == (200, True, False)


async def test_the_wait_for_a_core_ends() -> None:
    async with world(hold_s=0.1) as here:
        status, text, headers = await here.post()
        assert (status, json.loads(text)["error"]["code"]) == (503, "core_away")
        assert headers["retry-after"] == "1"
        assert here.ingress.status()["given_up"] == 1


async def test_only_so_many_wait_and_no_strangers() -> None:
    keys = (KeyEntry("k", key_digest("good")),)
    async with world(GatewayParams(models=(), keys=keys), hold_max=1) as here:
        mine = {"authorization": "Bearer good"}
        waiting = asyncio.create_task(here.post(headers=mine))
        await here.until(lambda: here.ingress.held == 1)
        assert (await here.post(headers=mine))[0] == 503
        await here.born("one", answers)
        assert (await waiting)[0] == 200
    async with world(GatewayParams(models=(), keys=keys)) as here:
        assert (await here.post(headers={"authorization": "Bearer bad"}))[0] == 503


async def test_what_may_not_be_done_twice_is_held_only_if_it_was_never_sent() -> None:
    async with world() as here:
        waiting = asyncio.create_task(here.post(path="/v1/files"))
        await here.until(lambda: here.ingress.held == 1)
        first = await here.born("one", silent)
        await killed_while_asked(here, first)
        second = await here.born("two", answers)
        status, text, _ = await waiting
        assert (status, json.loads(text)["error"]["code"]) == (502, "core_lost")
        assert not second.asked


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    async with world() as here:
        waiting = asyncio.create_task(here.post())
        await here.until(lambda: here.ingress.held == 1)
        waiting.cancel()
        await here.until(lambda: here.ingress.inside == 0)
        core = await here.born("one", answers)
        await here.post()
        assert len(core.asked) == 1


async def test_the_core_sees_a_client_leave() -> None:
    async with world() as here:
        core = await here.born("one", silent)
        asking = asyncio.create_task(here.post())
        await here.until(lambda: core.asked)
        asking.cancel()
        async with asyncio.timeout(10):
            await core.asked[0].left.wait()


async def test_a_core_that_says_nothing_any_more_is_given_up() -> None:
    async with world() as here:
        first = await here.born("one", silent)
        asking = asyncio.create_task(here.post())
        await here.until(lambda: first.asked)
        first.answers = False  # its machine is gone: no connection says so
        await here.born("two", answers)
        status, _, _ = await asking
        assert status == 200
        assert here.ingress.resent == 1


async def test_a_connection_that_breaks_is_no_death() -> None:
    async def breaks(asked: Asked) -> None:
        if len(core.asked) == 1:
            asked.writer.transport.abort()
        else:
            await answers(asked)

    async with world() as here:
        core = await here.born("one", breaks)
        assert (await here.post())[0] == 200
        assert len(core.asked) == 2


async def test_an_endless_death_is_not_followed_for_ever() -> None:
    async def breaks(asked: Asked) -> None:
        asked.writer.transport.abort()

    async with world(attempts_max=3) as here:
        core = await here.born("one", breaks)
        status, text, _ = await here.post()
        assert (status, json.loads(text)["error"]["code"]) == (502, "core_lost")
        assert len(core.asked) == 3


async def test_a_head_is_asked_for_and_has_no_body() -> None:
    async with world() as here:
        await here.born("one", answers)
        async with here.http.head(here.server.url + "/health") as reply:
            assert (reply.status, await reply.read()) == (200, b"")


async def test_it_tells_of_itself_without_a_core_and_drains() -> None:
    async with world() as here:
        async with here.http.get(here.server.url + "/ingress") as reply:
            told = await reply.json()
        assert told["core"] == {"reachable": False, "life": None, "pid": None}
        here.ingress.start_draining()
        status, text, _ = await here.post()
        assert (status, json.loads(text)["error"]["code"]) == (503, "draining")


async def test_bodies_have_their_bound() -> None:
    async with world(GatewayParams(models=(), body_bytes_max=64)) as here:
        await here.born("one", answers)
        status, text, _ = await here.post({"x": "y" * 100})
        assert (status, json.loads(text)["error"]["code"]) == (413, "body_too_large")


async def test_streams_reach_the_client_as_they_come() -> None:
    more = asyncio.Event()

    async def waits(asked: Asked) -> None:
        await asked.say(EVENTS, chunk(WORD))
        await more.wait()
        await asked.say(chunk(DONE), chunk(b""))

    async with world() as here:
        await here.born("one", waits)
        timeout = aiohttp.ClientTimeout(10)
        async with here.http.post(here.server.url + CHAT, json={}, timeout=timeout) as reply:
            assert await reply.content.readany() == WORD
            more.set()
            assert await reply.content.read() == DONE
