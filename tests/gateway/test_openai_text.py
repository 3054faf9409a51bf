"""Text completions beyond their text: echo, log probabilities, several prompts; what chats ask."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from slalom.engines.protocol import Capabilities
from slalom.errors import EngineError, RequestError
from slalom.gateway.protocols.engine_stream import EventReader
from slalom.gateway.protocols.frame import Internal
from slalom.gateway.protocols.openai import PassThrough
from slalom.gateway.protocols.openai_text import TextWriter, settle
from slalom.testing import FakeLauncher, FakeScript
from tests.gateway.house import House, chat, house, last_body

FOLDER = Path(__file__).parent / "corpus"
PROMPTS = ["def add(a, b):\n    return", "class A"]
#: What llama.cpp says of itself.
BARE = Capabilities(echo=False, pictures=False, tools=False)
PATH = "/v1/completions"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def documents(data: bytes) -> list[Completion]:
    """Every event, by the SDK's own model."""
    reader = EventReader()
    events = [*reader.feed(data), *reader.finish()]
    assert events.pop() == b"[DONE]"
    return [Completion.model_validate(_with_reasons(json.loads(event))) for event in events]


def _with_reasons(document: dict[str, Any]) -> dict[str, Any]:
    """The SDK's model knows no answer that goes on; its client does not look at that."""
    choices = [{**c, "finish_reason": c["finish_reason"] or "stop"} for c in document["choices"]]
    return {**document, "choices": choices}


def texts(found: list[Completion]) -> dict[int, str]:
    said: dict[int, str] = {}
    for choice in itertools.chain.from_iterable(document.choices for document in found):
        said[choice.index] = said.get(choice.index, "") + choice.text
    return said


def told(writer: TextWriter, *pieces: bytes) -> bytes:
    return b"".join([writer.feed(piece) for piece in pieces]) + writer.finish()


def test_log_probabilities_have_the_form_of_completions() -> None:
    stream = (FOLDER / "llama-text-logprobs.sse").read_bytes()
    found = documents(told(TextWriter((), 1, 2), stream))
    parts = [c.logprobs for document in found for c in document.choices if c.logprobs]
    body = (FOLDER / "llama-text-logprobs.json").read_bytes()
    whole = Completion.model_validate_json(TextWriter((), 1, 2).whole(body))
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == [" a", "\n", "def"] == [t for p in parts for t in p.tokens or ()]
    assert logprobs.text_offset == [0, 2, 3] == [o for p in parts for o in p.text_offset or ()]
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs == [x for p in parts for x in p.token_logprobs or ()]
    assert all(-3 < value < 0 for value in logprobs.token_logprobs)
    assert logprobs.top_logprobs is not None
    assert [len(place) for place in logprobs.top_logprobs] == [2, 2, 2]
    assert logprobs.top_logprobs[0][" a"] == logprobs.token_logprobs[0]
    none = Completion.model_validate_json(TextWriter((), 1, 0).whole(body)).choices[0].logprobs
    assert none is not None
    assert (none.tokens, none.top_logprobs) == (logprobs.tokens, None)


def test_what_has_that_form_already_keeps_it() -> None:
    logprobs = {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    body = {"id": "c", "choices": [{"index": 0, "text": "x", "logprobs": logprobs}]}
    assert json.loads(TextWriter((), 1, 1).whole(json.dumps(body).encode())) == body


def test_several_prompts_have_no_event_without_an_answer() -> None:
    stream = (FOLDER / "llama-text-list.sse").read_bytes()
    assert b"data: null" in stream
    said = texts(documents(told(TextWriter((), 1, None), stream)))
    assert said == {0: " a\ndef", 1: " class class class"}
    echoed = texts(documents(told(TextWriter(PROMPTS, 1, None), stream)))
    assert echoed == {index: PROMPTS[index] + text for index, text in said.items()}
    whole = TextWriter(PROMPTS, 1, None).whole((FOLDER / "llama-text-list.json").read_bytes())
    assert texts([Completion.model_validate_json(whole)]) == echoed
    twice = TextWriter(["x"], 2, None).whole((FOLDER / "llama-text-list.json").read_bytes())
    assert texts([Completion.model_validate_json(twice)]) == {
        index: "x" + text for index, text in said.items()
    }


_STREAMS = [FOLDER / name for name in ("llama-text-logprobs.sse", "llama-text-list.sse")]


@settings(deadline=None, max_examples=60)
@given(path=st.sampled_from(_STREAMS), places=st.lists(st.integers(0, 9999), max_size=40))
def test_any_cut_of_the_bytes_is_told_alike(path: Path, places: list[int]) -> None:
    data = path.read_bytes()
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert told(TextWriter(PROMPTS, 1, 2), *pieces) == told(TextWriter(PROMPTS, 1, 2), data)


def test_garbage_is_the_engines_fault() -> None:
    for garbage in (b"", b"[]", b"\xff", b'{"choices": 3}'):
        with pytest.raises(EngineError):
            TextWriter((), 1, None).whole(garbage)
    with pytest.raises(EngineError):
        TextWriter((), 1, None).feed(b"data: {nonsense\n\n")


def settled(body: dict[str, Any], can: Capabilities = BARE) -> Internal:
    found = Internal(PATH, {"model": "a", **body}, PassThrough(), b"raw")
    settle(found, can, "a")
    return found


@pytest.mark.parametrize("body", [{}, {"n": 1}, {"best_of": 1}, {"echo": False, "logprobs": None}])
def test_plain_completions_pass_through(body: dict[str, Any]) -> None:
    found = settled({"prompt": "x", **body})
    assert isinstance(found.writer, PassThrough)
    assert found.raw == b"raw"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"best_of": True, "n": 2}, "best_of"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": "x"}, "logprobs"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "prompt": [1, 2]}, "echo"),
    ],
)
def test_what_is_not_to_be_had_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as wrong:
        settled({"prompt": "x", **body})
    assert wrong.value.param == param


def test_an_engine_that_repeats_prompts_is_asked_to() -> None:
    body = {"prompt": [1, 2], "echo": True, "logprobs": 1}
    assert settled(body, Capabilities()).body == {"model": "a", **body}


def bare() -> dict[str, FakeLauncher]:
    """A model that knows neither tools nor pictures, on an engine that repeats no prompt."""
    script = FakeScript()
    can = replace(script.capabilities, echo=False, pictures=False, tools=False)
    return {"a": FakeLauncher(FakeScript(capabilities=can))}


async def streamed(world: House, body: dict[str, Any]) -> bytes:
    async with world.http.post(world.url + PATH, json={**body, "stream": True}) as reply:
        assert reply.status == 200
        return await reply.read()


async def test_echo_on_an_engine_that_has_none() -> None:
    async with house(bare()) as world:
        body = {"model": "a", "prompt": "one two", "echo": True, "max_tokens": 2}
        status, whole, _ = await world.post(PATH, body)
        assert status == 200
        assert whole["choices"][0]["text"] == "one two w0 w1"
        assert not last_body(world)["echo"]
        found = documents(await streamed(world, body))
        assert texts(found) == {0: "one two w0 w1"}
        gap = {**body, "suffix": "three"}
        _, whole, _ = await world.post(PATH, gap)
        assert whole["choices"][0]["text"] == "one two w0 w1"


async def test_what_a_model_cannot_do_is_said() -> None:
    async with house(bare()) as world:
        looks = [{"role": "user", "content": [{"type": "text", "text": "x"}, PICTURE]}]
        refused = {
            "messages": chat(messages=looks),
            "tool_choice": chat(tools=[TOOL], tool_choice="required"),
            "functions": chat(functions=[{"name": "f"}]),
        }
        for param, body in refused.items():
            status, document, _ = await world.post("/v1/chat/completions", body)
            assert (status, document["error"]["param"]) == (400, param)
        status, _, headers = await world.post("/v1/chat/completions", chat(tools=[TOOL]))
        assert status == 200
        assert "cannot call tools" in headers["x-slalom-notice"]
        picture = {"model": "a", "prompt": "x", "images": ["iVBOR"]}
        status, document, _ = await world.post("/api/generate", picture)
        assert (status, document["code"]) == (400, "unsupported_by_model")
        assert len(world.engine().calls) == 1


#: What the engine has to see as the client wrote it.
PASSED: dict[str, Any] = {
    "tools": [TOOL, {"type": "custom", "custom": {"name": "g"}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    "logprobs": True,
    "top_logprobs": 3,
    "n": 2,
    "seed": 7,
    "stop": ["a", "b"],
    "logit_bias": {"5": -100},
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "reasoning_effort": "low",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, PICTURE]}],
}
PASSED_TEXT: dict[str, Any] = {
    "prompt": ["one two", "three"],
    "echo": True,
    "logprobs": 2,
    "n": 2,
    "best_of": 2,
    "seed": 7,
    "stop": "x",
    "logit_bias": {"5": -100},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_sees_what_the_client_wrote(*, stream: bool) -> None:
    options = {"stream_options": {"include_usage": True, "continuous_usage_stats": False}}
    async with house() as world:
        for path, given in (("/v1/chat/completions", PASSED), (PATH, PASSED_TEXT)):
            body = {**chat(), **given, **(options if stream else {}), "stream": stream}
            if path == PATH:
                del body["messages"]
            async with world.http.post(world.url + path, json=body) as reply:
                assert reply.status == 200
                await reply.read()
            seen = last_body(world)
            wanted = {**given, **(options if stream else {})}
            assert {name: seen.get(name) for name in wanted} == wanted
