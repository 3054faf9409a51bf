"""What every protocol must keep: any cut of the engine's bytes means the same to the client."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.errors import EngineError, RequestError
from slalom.gateway import request_body
from slalom.gateway.error_table import failure_of
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.protocols import stopwatch
from slalom.gateway.protocols.engine_stream import EVENT_BYTES_MAX, EventReader, EventTooLargeError
from slalom.gateway.protocols.frame import Asked, Internal, Writer
from slalom.gateway.protocols.registry import Protocols
from slalom.gateway.resolution import CHAT_PATH, EMBEDDINGS_PATH
from tests.gateway.engine_corpus import CORPUS, BrokenOffError, Meaning
from tests.gateway.house import house
from tests.gateway.protocol_samples import PLAIN, SAMPLES, Sample

PROTOCOLS = Protocols(GatewayParams((ServedModel("a"),)))
PATHS = sorted(SAMPLES)

paths = pytest.mark.parametrize("path", PATHS)
answers = pytest.mark.parametrize("name", sorted(CORPUS))


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the same answer twice is the same to the byte."""
    monkeypatch.setattr(stopwatch, "now_ns", lambda: 1)


def asked(path: str, body: Any) -> Asked:
    return Asked("req-1", path, json.dumps(body).encode(), body, {}, None)


def internal(path: str, body: Any) -> Internal:
    return PROTOCOLS.routes[path].protocol.reads[path](asked(path, body))


def writer(path: str, *, stream: bool) -> Writer:
    sample = SAMPLES[path]
    return internal(path, {**sample.body, **(sample.streams if stream else {})}).writer


def told(path: str, pieces: list[bytes]) -> bytes:
    out = writer(path, stream=True)
    return b"".join([out.feed(piece) for piece in pieces] + [out.finish()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def comparable(meaning: Meaning, sample: Sample) -> Meaning:
    """Without what the protocol cannot tell, and with arguments as values, not as texts."""
    tools = tuple((i, name, str(json.loads(text))) for i, name, text in meaning.tools)
    finish = meaning.finish
    if tools or finish == "tool_calls":
        finish = "tool_calls" if sample.tools else "stop"
    kept = replace(meaning, tools=tools if sample.tools else (), finish=finish)
    return kept if sample.thoughts else replace(kept, thought="")


def test_every_route_has_a_sample() -> None:
    known = {path for protocol in PROTOCOLS.all for path in protocol.reads}
    assert known == SAMPLES.keys() | PLAIN


@paths
@answers
def test_a_stream_means_what_the_engine_said(path: str, name: str) -> None:
    recorded, sample = CORPUS[name], SAMPLES[path]
    found = sample.read_stream(told(path, [recorded.stream]))
    assert comparable(found, sample) == comparable(recorded.meaning, sample)


@paths
@answers
def test_a_whole_answer_means_the_same(path: str, name: str) -> None:
    recorded, sample = CORPUS[name], SAMPLES[path]
    if recorded.whole:
        found = sample.read_whole(writer(path, stream=False).whole(recorded.whole))
        assert comparable(found, sample) == comparable(recorded.meaning, sample)


@paths
@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(CORPUS)), places=st.lists(st.integers(0, 9999), max_size=40))
def test_any_cut_of_the_bytes_is_told_alike(path: str, name: str, places: list[int]) -> None:
    data = CORPUS[name].stream
    assert told(path, cut(data, places)) == told(path, [data])


@paths
@answers
def test_byte_by_byte(path: str, name: str) -> None:
    data = CORPUS[name].stream
    assert told(path, [data[i : i + 1] for i in range(len(data))]) == told(path, [data])


@paths
@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(CORPUS)), at=st.integers(0, 9999), fails=st.booleans())
def test_an_end_anywhere_is_an_answer_or_an_error(
    path: str, name: str, at: int, fails: bool
) -> None:
    recorded, sample = CORPUS[name], SAMPLES[path]
    data = recorded.stream[: at % len(recorded.stream)]
    out = writer(path, stream=True)
    try:
        said = out.feed(data)
        if not out.ended:
            said += out.failed(failure_of("engine_crashed")) if fails else out.finish()
    except EngineError:
        return  # cut inside an event that came without its end; the runtime ends the request
    assert out.ended
    try:
        found = sample.read_stream(said)
    except BrokenOffError:
        return
    assert not fails or b"[DONE]" in data
    assert comparable(found, sample).text == comparable(recorded.meaning, sample).text


@paths
def test_garbage_is_the_engines_fault(path: str) -> None:
    out = writer(path, stream=True)
    with pytest.raises(EngineError):
        out.feed(b"data: {nonsense\n\n")
    for garbage in (b"", b"[]", b"\xff", b"{}", b'{"choices": 3}'):
        with pytest.raises(EngineError):
            writer(path, stream=False).whole(garbage)


@paths
@pytest.mark.parametrize("event", [b'data: {"error": {"message": "x"}}', b'error: {"code": 500}'])
def test_an_error_inside_the_stream_is_left_to_the_runtime(path: str, event: bytes) -> None:
    out = writer(path, stream=True)
    assert out.feed(event + b"\n\n") == b""
    assert not out.ended
    with pytest.raises(BrokenOffError):
        SAMPLES[path].read_stream(out.failed(failure_of("engine_error")))


@paths
def test_a_sign_of_life_disturbs_nothing(path: str) -> None:
    out, sample = writer(path, stream=True), SAMPLES[path]
    recorded = CORPUS["reasoning, then text"]
    said = out.sign_of_life("waiting 5 ms; model loading")
    assert said
    said += out.feed(recorded.stream) + out.finish()
    assert comparable(sample.read_stream(said), sample) == comparable(recorded.meaning, sample)


@paths
def test_nothing_follows_the_end(path: str) -> None:
    out = writer(path, stream=True)
    out.feed(CORPUS["nothing"].stream)
    assert out.ended
    assert out.feed(CORPUS["nothing"].stream) == b""
    assert out.finish() == b""


_KINDS = st.sampled_from(
    [
        *("text", "image", "tool_use", "tool_result", "thinking", "document", "search_result"),
        *("message", "input_text", "input_image", "function_call", "function_call_output"),
        *("custom_tool_call", "reasoning", "function", "custom", "namespace", "allowed_tools"),
        *("web_search", "base64", "url", "json_schema", "tool", "any", "auto", "user", "assistant"),
    ]
)
_FIELDS = st.sampled_from(
    [
        *("type", "text", "role", "content", "name", "id", "function", "source", "input", "tools"),
        *("arguments", "call_id", "tool_use_id", "output", "summary", "media_type", "data", "url"),
        *("input_schema", "parameters", "format", "schema", "image_url", "mode", "namespace"),
    ]
)
_SIMPLE = st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats() | st.text(max_size=5)
_JSON = st.recursive(
    _SIMPLE | _KINDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_FIELDS, inner, max_size=5)
        | st.builds(
            lambda kind, fields: {**fields, "type": kind, "role": kind},
            _KINDS,
            st.dictionaries(_FIELDS, inner, max_size=5),
        )
    ),
    max_leaves=20,
)


@paths
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_body_is_read_or_refused_by_name(path: str, data: st.DataObject) -> None:
    sample = SAMPLES[path]
    body = dict(sample.body)
    extra = [
        *("stream", "tools", "tool_choice", "stop", "metadata", "system", "temperature"),
        *("instructions", "previous_response_id", "text", "reasoning", "thinking", "output_config"),
    ]
    names = sorted({*sample.body, *extra})
    for name in data.draw(st.lists(st.sampled_from(names), max_size=3)):
        body[name] = data.draw(_JSON | st.lists(_JSON, max_size=3))
    refused = ""
    try:
        found = internal(path, body)
        embeddings = found.path == EMBEDDINGS_PATH
        request_body.check_fields(found.body, chat=found.path == CHAT_PATH, embeddings=embeddings)
    except RequestError as problem:
        refused = problem.param or "nobody knows what"
    assert refused != "nobody knows what"


def test_an_event_without_an_end_does_not_fill_the_memory() -> None:
    reader = EventReader()
    for _ in range(EVENT_BYTES_MAX // 65_536):
        assert reader.feed(b"x" * 65_536) == []
    with pytest.raises(EventTooLargeError):
        reader.feed(b"x")


async def test_refusals_have_the_protocols_own_shape() -> None:
    async with house() as world:
        for protocol in PROTOCOLS.all:
            for path in protocol.reads:
                _, document, headers = await world.post(path, {"model": 7})
                expected = protocol.error_body(failure_of("invalid_request"), "x")
                assert document.keys() == json.loads(expected).keys()
                assert headers["x-request-id"]
                reply = await world.http.get(f"{world.url}{path}")
                assert reply.status == 405
                assert (await reply.json()).keys() == json.loads(expected).keys()


@paths
async def test_streams_and_whole_answers_over_http(path: str) -> None:
    sample = SAMPLES[path]
    async with house() as world:
        whole_body = {**sample.body, **dict.fromkeys(sample.streams, False)}
        async with world.http.post(world.url + path, json=whole_body) as reply:
            assert reply.status == 200
            whole = sample.read_whole(await reply.read())
        async with world.http.post(
            world.url + path, json={**sample.body, **sample.streams}
        ) as reply:
            assert reply.status == 200
            streamed = sample.read_stream(await reply.read())
        assert whole.text
        assert whole == streamed
        await world.until(lambda: len(world.ended) == 2)
        assert [end.output_tokens for end in world.ended] == 2 * [whole.output_tokens]
