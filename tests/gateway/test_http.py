"""HTTP as hostile or clumsy clients send it: everything is bounded and answered in one shape."""

import asyncio
import json

import pytest

from slalom.engines.protocol import Capabilities
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings
from slalom.units import MS
from tests.gateway.house import WAIT_S, chat, house
from tests.gateway.wire import CHAT, COMPLETIONS, answer, params, post, raw, valid


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"", None, "invalid_json"),
        (b"[1]", None, "invalid_json"),
        (b'"x"', None, "invalid_json"),
        (b'{"model": "a\xff\xfe"}', None, "invalid_json"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "invalid_json"),
        (b"{}", "model", "invalid_request"),
        (b'{"model": 3}', "model", "invalid_request"),
        (b'{"model": "a"}', "messages", "invalid_request"),
        (b'{"model": "a", "messages": "hi"}', "messages", "invalid_request"),
        (b'{"model": "a", "messages": [1]}', "messages[0]", "invalid_request"),
        (b'{"model": "a", "messages": [{"role": 1}]}', "messages[0].role", "invalid_request"),
        *(
            (json.dumps({**chat(), name: value}).encode(), name, "invalid_request")
            for name, value in [
                ("stream", "yes"),
                ("max_tokens", "7"),
                ("max_tokens", -3),
                ("max_tokens", 1 << 40),
                ("max_completion_tokens", True),
                ("n", 0),
                ("temperature", "hot"),
                ("stream_options", 1),
                ("metadata", []),
                ("tools", {}),
                ("stop", [1]),
            ]
        ),
    ],
)
async def test_wrong_bodies_are_400_and_name_the_field(
    body: bytes, param: str | None, code: str
) -> None:
    async with house() as world:
        status, headers, document = await raw(world, post(body))
        assert status == 400
        assert headers["x-request-id"]
        assert set(document["error"]) == {"message", "type", "param", "code"}
        assert document["error"]["type"] == "invalid_request_error"
        assert document["error"]["param"] == param
        assert document["error"]["code"] == code
        assert not world.launchers["a"].launches


async def test_wrong_routes_methods_and_types() -> None:
    async with house() as world:
        status, document, headers = await world.get("/v1/nothing")
        assert (status, document["error"]["code"]) == (404, "not_found")
        assert headers["x-request-id"]
        status, headers_405, document = await raw(
            world, b"GET " + CHAT.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        assert (status, document["error"]["code"]) == (405, "method_not_allowed")
        assert headers_405["allow"] == "POST"
        status, document, _ = await world.post("/health", {})
        assert (status, document["error"]["code"]) == (405, "method_not_allowed")
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b""):
            request = post(valid()).replace(b"application/json", kind)
            status, _, document = await raw(world, request)
            assert (status, document["error"]["code"]) == (415, "unsupported_media_type")
        for kind in (b"application/json; charset=utf-8", b"application/vnd.x+json"):
            status, _, document = await raw(world, post(valid()).replace(b"application/json", kind))
            assert status == 200
        status, _, document = await raw(world, b"nonsense\r\n\r\n")
        assert (status, document["error"]["code"]) == (400, "invalid_http")


async def test_giant_bodies_are_413_and_the_connection_lives_on() -> None:
    async with house(params=params(body_bytes_max=100_000)) as world:
        big = json.dumps(chat(pad="x" * 300_000)).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(post(big))
        status, _, document = await answer(reader)
        assert (status, document["error"]["code"]) == (413, "body_too_large")
        writer.write(post(valid()))
        status, _, _ = await answer(reader)
        assert status == 200
        writer.close()
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"x" * 60_000] * 3)
        status, _, document = await raw(world, head + chunks + b"0\r\n\r\n")
        assert (status, document["error"]["code"]) == (413, "body_too_large")


async def test_a_refused_body_is_not_read_for_ever() -> None:
    async with house(params=params(body_bytes_max=10_000)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(post(b"").replace(b"content-length: 0", b"content-length: 100000000"))
        assert (await answer(reader))[0] == 413
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                await _write_on(writer)
        writer.close()


async def _write_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()


async def test_chunked_bodies_are_bodies() -> None:
    async with house() as world:
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        body = valid()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        status, _, document = await raw(world, head + chunks + b"0\r\n\r\n")
        assert status == 200
        assert document["choices"]


async def test_expect_continue_is_answered_before_the_body() -> None:
    async with house() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        head, _, body = post(valid(), CHAT, "expect: 100-continue").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer(reader))[0] == 200
        writer.close()


async def test_a_body_that_never_comes_is_408() -> None:
    async with house(params=params(body_timeout_s=0.2)) as world:
        status, headers, document = await raw(world, post(valid())[:-5])
        assert (status, document["error"]["code"]) == (408, "body_timeout")
        assert headers["connection"] == "close"


@pytest.mark.parametrize(
    "extra",
    ["x-flood: " + "y" * 9_000, "\r\n".join(f"x-flood-{n}: 1" for n in range(900))],
    ids=["long", "many"],
)
async def test_header_floods_are_431(extra: str) -> None:
    async with house(params=params(header_bytes_max=8_192)) as world:
        status, _, document = await raw(world, post(valid(), CHAT, extra))
        assert (status, document["error"]["code"]) == (431, "headers_too_large")
        status, _, _ = await raw(world, post(valid(), CHAT, "x-fine: " + "y" * 4_000))
        assert status == 200


async def test_an_endless_head_is_431_before_it_ends() -> None:
    async with house(params=params(header_bytes_max=8_192)) as world:
        status, _, document = await raw(world, b"GET /health HTTP/1.1\r\nx-flood: " + b"y" * 9_000)
        assert (status, document["error"]["code"]) == (431, "headers_too_large")


async def test_a_head_that_never_ends_is_closed() -> None:
    async with house(params=params(header_timeout_s=0.1)) as world:
        for start in (b"", b"GET /health HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
            writer.write(start)
            async with asyncio.timeout(WAIT_S):
                assert await reader.read() == b""
            writer.close()


async def test_reply_headers() -> None:
    async with house() as world:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        sent = {"x-request-id": "mine-7", "traceparent": trace, "x-slalom-task": "warp"}
        status, _, headers = await world.post(CHAT, chat(), sent)
        assert status == 200
        assert headers["x-request-id"] == "mine-7"
        assert headers["x-slalom-task"] == "generation"
        assert "warp" in headers["x-slalom-notice"]
        assert float(headers["x-slalom-queue-ms"]) >= 0
        assert headers["x-slalom-attempt"] == "1"
        assert headers["x-slalom-replica"]
        upstream = world.engine().calls[0].headers
        assert upstream["traceparent"] == trace
        assert upstream["x-request-id"] == "mine-7"
        status, _, headers = await world.post(CHAT, chat(), {"x-request-id": "no good id"})
        assert headers["x-request-id"].startswith("req-")


async def test_the_same_id_twice_at_a_time_is_two_requests() -> None:
    async with house() as world:
        replies = await asyncio.gather(
            *(world.post(CHAT, chat(), {"x-request-id": "same"}) for _ in range(5))
        )
        assert [status for status, _, _ in replies] == [200] * 5
        assert len({headers["x-request-id"] for _, _, headers in replies}) == 5


async def test_comments_while_a_model_loads() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=1200 * MS, steps=40))
    some = params(wait_comment_after_ns=0, wait_comment_every_ns=100 * MS)
    async with (
        house({"a": launcher}, params=some) as world,
        world.http.post(f"{world.url}{CHAT}", json=chat(stream=True)) as reply,
    ):
        text = (await reply.read()).decode()
        assert reply.status == 200
        assert reply.content_type == "text/event-stream"
    comments = [line for line in text.split("\n\n") if line.startswith(":")]
    assert len(comments) >= 2
    assert "loading" in comments[0]
    assert text.endswith("data: [DONE]\n\n")


async def test_names_of_models() -> None:
    served = (
        ServedModel("coder-7b:q8", aliases=("coder", "summarisation"), tasks=("translation",)),
        ServedModel("other"),
    )
    launchers = {model.id: FakeLauncher() for model in served}
    async with house(launchers, params=GatewayParams(served)) as world:
        for name, task in [
            ("coder-7b:q8", "generation"),
            ("coder", "generation"),
            ("coder:batch", "batch"),
            ("coder-7b:q8:batch", "batch"),
            ("summarisation", "summarisation"),
            ("translation", "translation"),
        ]:
            status, _, headers = await world.post(CHAT, chat(name))
            assert (status, headers["x-slalom-task"]) == (200, task), name
            assert headers["x-slalom-replica"].startswith("coder-7b")
        for name in ("coder:nothing", "nothing:batch", "batch", ""):
            status, document, _ = await world.post(CHAT, chat(name))
            assert status in (400, 404), name
            assert document["error"]["param"] == "model"


async def test_infill_needs_a_model_that_knows_it() -> None:
    launcher = FakeLauncher(FakeScript(capabilities=Capabilities()))
    async with house({"a": launcher}) as world:
        body = {"model": "a", "prompt": "x", "suffix": "y"}
        status, document, _ = await world.post(COMPLETIONS, body)
        assert status == 400
        assert document["error"]["param"] == "suffix"
    async with house() as world:
        status, document, _ = await world.post(COMPLETIONS, {**body, "prompt": ["x"]})
        assert (status, document["error"]["param"]) == (400, "prompt")


async def test_draining_refuses_new_work_and_finishes_the_old() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=10 * MS)))
    async with house({"a": launcher}) as world:
        running = asyncio.create_task(world.post(CHAT, chat(tokens=30)))
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        world.gateway.start_draining()
        status, document, headers = await world.post(CHAT, chat())
        assert (status, document["error"]["code"]) == (503, "draining")
        assert headers["retry-after"]
        status, document, _ = await world.get("/ready")
        assert (status, document["status"]) == (503, "draining")
        assert (await world.get("/health"))[0] == 200
        await world.server.stop(WAIT_S)
        assert (await running)[0] == 200


async def test_one_connection_carries_many_requests() -> None:
    async with house() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        for _ in range(3):
            writer.write(post(valid()))
            assert (await answer(reader))[0] == 200
        writer.write(post(valid()) + post(valid()))
        assert (await answer(reader))[0] == 200
        assert (await answer(reader))[0] == 200
        writer.close()


async def test_answers_too_large_to_hold_are_refused() -> None:
    async with house(params=params(answer_bytes_max=200)) as world:
        status, document, _ = await world.post(CHAT, chat(tokens=500))
        assert (status, document["error"]["code"]) == (502, "answer_too_large")
        async with world.http.post(f"{world.url}{CHAT}", json=chat(tokens=5, stream=True)) as reply:
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")
