"""OpenAI's Responses with the official SDK: turns that go on, what is kept, and for whom."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from slalom.core.events import FailureKind
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.protocols.responses_answer import ResponseTeller
from slalom.gateway.protocols.responses_request import messages_of, with_instructions
from slalom.gateway.protocols.responses_store import Kept, ResponseStore, messages_in
from slalom.gateway.protocols.responses_tools import tools_of
from slalom.gateway.protocols.translation import Translated
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings, Fault, FaultKind
from slalom.units import MS
from tests.gateway.engine_corpus import CORPUS, DONE, call, chunk, usage
from tests.gateway.house import House, house
from tests.gateway.protocol_samples import sse


def client(world: House, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=world.base_url, api_key=key, max_retries=0)


def last_body(world: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.engine().calls[-1].body)
    return body


async def read(stream: Any, kinds: list[str]) -> Response | None:
    found = None
    async for event in stream:
        kinds += [event.type]
        found = getattr(event, "response", found)
    return found


async def test_a_turn_whole_and_streamed() -> None:
    async with house() as world, client(world) as sdk:
        whole = await sdk.responses.create(
            model="a", input="one two", instructions="be brief", max_output_tokens=3
        )
        assert whole.output_text == " w0 w1 w2"
        assert whole.status == "incomplete"
        assert whole.incomplete_details is not None
        assert whole.incomplete_details.reason == "max_output_tokens"
        assert last_body(world)["messages"] == [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one two"},
        ]
    launcher = FakeLauncher(FakeScript(output_tokens=lambda _asked: 2))
    async with house({"a": launcher}) as world, client(world) as sdk:
        async with sdk.responses.stream(model="a", input="one") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == " w0 w1"
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"


async def test_a_turn_goes_on_behind_a_kept_one() -> None:
    async with house() as world, client(world) as sdk:
        first = await sdk.responses.create(
            model="a", input="one", instructions="not carried over", max_output_tokens=1
        )
        second = await sdk.responses.create(
            model="a", input="two", previous_response_id=first.id, max_output_tokens=1
        )
        await sdk.responses.create(
            model="a", input="three", previous_response_id=second.id, max_output_tokens=1
        )
        assert [(m["role"], m["content"]) for m in last_body(world)["messages"]] == [
            ("user", "one"),
            ("assistant", " w0"),
            ("user", "two"),
            ("assistant", " w0"),
            ("user", "three"),
        ]


async def test_kept_responses_are_read_listed_and_deleted() -> None:
    async with house() as world, client(world) as sdk:
        made = await sdk.responses.create(model="a", input="one", max_output_tokens=1)
        assert await sdk.responses.retrieve(made.id) == made
        items = await sdk.responses.input_items.list(made.id)
        assert [item.to_dict()["content"] for item in items.data] == [
            [{"type": "input_text", "text": "one"}]
        ]
        await sdk.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as gone:
            await sdk.responses.create(model="a", input="x", previous_response_id=made.id)
        assert gone.value.code == "previous_response_not_found"
        assert gone.value.param == "previous_response_id"


async def test_nothing_is_kept_that_was_not_to_be() -> None:
    async with house() as world, client(world) as sdk:
        made = await sdk.responses.create(model="a", input="one", store=False)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(made.id)


async def test_a_response_belongs_to_its_key() -> None:
    keys = (KeyEntry("k1", key_digest("one")), KeyEntry("k2", key_digest("two")))
    params = GatewayParams((ServedModel("a"),), keys=keys)
    async with house(params=params) as world:
        async with client(world, "one") as mine:
            made = await mine.responses.create(model="a", input="secret", max_output_tokens=1)
            assert (await mine.responses.retrieve(made.id)).id == made.id
        async with client(world, "two") as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(made.id)
            with pytest.raises(openai.NotFoundError):
                await other.responses.delete(made.id)
            with pytest.raises(openai.BadRequestError):
                await other.responses.create(model="a", input="x", previous_response_id=made.id)


async def test_a_conversation_is_as_bounded_as_a_body() -> None:
    params = GatewayParams((ServedModel("a"),), body_bytes_max=1000)
    async with house(params=params) as world, client(world) as sdk:
        first = await sdk.responses.create(model="a", input="x" * 700, max_output_tokens=1)
        assert world.gateway._shared.bytes_inside == 0
        second = await sdk.responses.create(
            model="a", input="y", previous_response_id=first.id, max_output_tokens=1
        )
        assert world.gateway._shared.bytes_inside == 0
        third = await sdk.responses.create(
            model="a", input="z" * 300, previous_response_id=second.id, max_output_tokens=1
        )
        body = {"model": "a", "input": "y", "previous_response_id": third.id}
        status, document, _ = await world.post("/v1/responses", body)
        assert status == 413
        assert document["error"]["param"] == "previous_response_id"


async def test_what_is_brought_along_counts_while_it_is_inside() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=100 * MS)))
    async with house({"a": launcher}) as world, client(world) as sdk:
        first = await sdk.responses.create(model="a", input="x" * 5000, max_output_tokens=1)
        stream = await sdk.responses.create(
            model="a", input="y", previous_response_id=first.id, stream=True, max_output_tokens=50
        )
        await anext(aiter(stream))
        assert world.gateway._shared.bytes_inside > 5000
        await stream.close()
        await world.until(lambda: world.gateway._shared.bytes_inside == 0)


async def test_input_tokens_are_counted() -> None:
    async with house() as world, client(world) as sdk:
        counted = await sdk.responses.input_tokens.count(model="a", input="one two three four")
        assert counted.input_tokens > 4


async def test_a_stream_that_dies_is_a_failed_response() -> None:
    launcher = FakeLauncher(FakeScript(fault=lambda *_: Fault(FaultKind.CUT, after_tokens=2)))
    async with house({"a": launcher}) as world, client(world) as sdk:
        stream = await sdk.responses.create(model="a", input="x", stream=True)
        kinds: list[str] = []
        failed = await read(stream, kinds)
        assert kinds[-1] == "response.failed"
        assert failed is not None
        assert failed.error is not None
        assert failed.error.type == FailureKind.CRASHED
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(failed.id)


async def test_a_client_that_waits_gets_events_and_the_right_answer() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=900 * MS, steps=20))
    params = GatewayParams((ServedModel("a"),), wait_comment_after_ns=0, wait_comment_every_ns=1)
    async with house({"a": launcher}, params=params) as world, client(world) as sdk:
        stream = await sdk.responses.create(model="a", input="x", max_output_tokens=1, stream=True)
        kinds: list[str] = []
        done = await read(stream, kinds)
        assert done is not None
        assert done.output_text == " w0"
        assert kinds.count("response.created") == 1
        assert kinds.count("response.in_progress") > 1
        assert kinds.index("response.output_item.added") > kinds.index("response.in_progress")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", True),
        ("conversation", "c"),
        ("input", []),
        ("input", [{"type": "item_reference", "id": "x"}]),
        ("max_output_tokens", 0),
        ("tool_choice", 3),
        ("tools", [{"type": "function"}]),
        ("instructions", []),
    ],
)
async def test_what_is_not_offered_is_refused_by_name(field: str, value: Any) -> None:
    async with house() as world:
        body = {"model": "a", "input": "x", field: value}
        status, document, _ = await world.post("/v1/responses", body)
        assert status == 400
        assert document["error"]["param"].startswith(field)


def test_items_become_the_messages_of_a_chat() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
        {"role": "user", "content": "look"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": '*** "x"'},
        {"type": "function_call_output", "call_id": "1", "output": "done"},
        {
            "type": "custom_tool_call_output",
            "call_id": "2",
            "output": [
                {"type": "input_text", "text": "seen"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA"},
            ],
        },
        {"type": "web_search_call", "id": "w"},
        {"role": "developer", "content": "a later rule"},
    ]
    messages = with_instructions("be brief", messages_of(items))
    calls = messages[2].pop("tool_calls")
    assert messages == [
        {"role": "system", "content": "be brief\n\nrules"},
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "I", "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "tool", "tool_call_id": "2", "content": "seen"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "text", "text": "a later rule"},
            ],
        },
    ]
    assert [(c["id"], c["function"]["name"]) for c in calls] == [("1", "f"), ("2", "patch")]
    assert json.loads(calls[1]["function"]["arguments"]) == {"input": '*** "x"'}


def teller(tools: list[Any], kept: list[Any]) -> ResponseTeller:
    frame: dict[str, Any] = {"id": "resp_1", "output": [], "usage": None}
    found = tools_of({"tools": tools})
    return ResponseTeller(frame, found, 1 << 20, lambda *what: kept.append(what))


def test_tools_with_a_text_and_in_a_namespace_keep_their_own_words() -> None:
    patch = {"type": "custom", "name": "patch", "format": {"syntax": "lark", "definition": "s: x"}}
    inner = {"type": "function", "name": "find", "parameters": {"type": "object"}}
    space = {"type": "namespace", "name": "files", "tools": [inner]}
    tools = tools_of({"tools": [patch, space, {"type": "web_search"}]})
    assert [tool["function"]["name"] for tool in tools.functions] == ["patch", "files__find"]
    assert "s: x" in json.dumps(tools.functions[0])
    assert list(tools.left_out) == ["web_search"]
    kept: list[Any] = []
    stream = [
        chunk(call(0, '{"input": "*** ', id="c1", name="patch")),
        chunk(call(1, '{"a"', id="c2", name="files__find")),
        chunk(call(0, '\\u00fc"}')),
        chunk(call(1, ": 1}")),
        chunk({}, "tool_calls"),
        chunk(**usage(1, 1)),
        DONE,
    ]
    events = list(sse(Translated(teller([patch, space], kept)).feed(b"".join(stream))))
    deltas = [d["delta"] for name, d in events if name.endswith("input.delta")]
    assert deltas == ["*** ü"]
    output = events[-1][1]["response"]["output"]
    assert [(item["type"], item["name"], item.get("namespace")) for item in output] == [
        ("custom_tool_call", "patch", None),
        ("function_call", "find", "files"),
    ]
    assert output[0]["input"] == "*** ü"
    assert output[1]["arguments"] == '{"a": 1}'
    assert kept[0][1]["tool_calls"][1]["function"]["name"] == "files__find"


def test_an_answer_that_grows_beyond_its_bound_is_refused() -> None:
    told = Translated(ResponseTeller({"id": "resp_1"}, tools_of({}), 4, lambda *_: None))
    with pytest.raises(Exception, match="larger than this server"):
        told.feed(CORPUS["llama.cpp chat"].stream)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def kept(name: str, previous: str = "", size: int = 100) -> Kept:
    message = json.dumps([{"role": "user", "content": name}]).encode()
    return Kept(name, previous, b"x" * size, b"[]", message)


def test_what_is_kept_is_bounded_for_each_key() -> None:
    size = kept("r00").size
    store = ResponseStore(3 * size, 60.0, Clock())
    for number in range(10):
        store.keep("k", kept(f"r{number:02}"))
    store.keep("other", kept("r00"))
    there = [n for n in range(10) if store.find("k", f"r{n:02}") is not None]
    assert there == [7, 8, 9]
    assert store.find("other", "r00") is not None
    store.keep("k", kept("big", size=4 * size))
    assert store.find("k", "big") is None
    assert store.find("k", "r09") is not None


def test_a_conversation_that_is_used_stays_whole() -> None:
    size = kept("r00").size
    store = ResponseStore(3 * size, 60.0, Clock())
    store.keep("k", kept("r00"))
    store.keep("k", kept("old"))
    store.keep("k", kept("r01", "r00"))
    conversation = store.conversation("k", "r01")
    assert conversation is not None
    assert [message["content"] for message in messages_in(conversation)] == ["r00", "r01"]
    store.keep("k", kept("new"))
    assert store.find("k", "old") is None
    assert store.conversation("k", "r01") is not None
    store.drop("k", "r00")
    assert store.conversation("k", "r01") is None


def test_what_nobody_uses_is_forgotten() -> None:
    clock = Clock()
    store = ResponseStore(1 << 20, 60.0, clock)
    store.keep("k", kept("r00"))
    clock.now_s = 59.0
    assert store.find("k", "r00") is not None
    clock.now_s = 118.0
    assert store.find("k", "r00") is not None
    clock.now_s = 179.0
    assert store.find("k", "r00") is None
    assert repr(store) == "<ResponseStore responses=0 bytes=0>"


def test_a_circle_ends() -> None:
    store = ResponseStore(1 << 20, 60.0, Clock())
    store.keep("k", kept("r00", "r00"))
    assert store.conversation("k", "r00") is None
