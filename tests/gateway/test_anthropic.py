"""Anthropic's official SDK, unchanged, against the whole house."""

import asyncio
import json
from typing import Any

import anthropic
import pytest

from slalom.core.actions import Outcome
from slalom.core.events import FailureKind
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings, Fault, FaultKind
from slalom.units import MS
from tests.gateway.house import House, house

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]

PICTURE = {"type": "base64", "media_type": "image/png", "data": "AA"}


def client(world: House, **more: Any) -> anthropic.AsyncAnthropic:
    options: dict[str, Any] = {"api_key": "none", "max_retries": 0, **more}
    return anthropic.AsyncAnthropic(base_url=world.url, **options)


async def read(stream: Any, kinds: list[str]) -> None:
    async for event in stream:
        kinds += [event.type]


def last_body(world: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.engine().calls[-1].body)
    return body


async def test_a_whole_message() -> None:
    async with house() as world, client(world) as sdk:
        reply = await sdk.messages.with_raw_response.create(
            model="a", messages=MESSAGES, max_tokens=3, system="be brief", stop_sequences=["x"]
        )
        message = await reply.parse()
        assert [block.model_dump() for block in message.content] == [
            {"type": "text", "text": " w0 w1 w2", "citations": None}
        ]
        assert message.model == "a"
        assert message.stop_reason == "max_tokens"
        assert message.usage.output_tokens == 3
        assert message.usage.input_tokens == 5
        assert reply.headers["request-id"] == reply.headers["x-request-id"]
        seen = last_body(world)
        assert seen["messages"] == [{"role": "system", "content": "be brief"}, *MESSAGES]
        assert seen["stop"] == ["x"]
        assert seen["max_tokens"] == 3


async def test_a_streamed_message() -> None:
    async with house() as world, client(world) as sdk:
        async with sdk.messages.stream(model="a", messages=MESSAGES, max_tokens=3) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()
        assert text == " w0 w1 w2"
        assert message.stop_reason == "max_tokens"
        assert message.usage.output_tokens == 3
        assert message.usage.input_tokens == 3


async def test_errors_are_the_sdks_own_classes_and_name_its_fields() -> None:
    async with house() as world, client(world) as sdk:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await sdk.messages.create(model="nope", messages=MESSAGES, max_tokens=1)
        assert "Known models: a" in str(missing.value)
        wrong: Any = [{"role": "user", "content": [{"type": "mystery"}]}]
        with pytest.raises(anthropic.BadRequestError) as bad:
            await sdk.messages.create(model="a", messages=wrong, max_tokens=1)
        assert isinstance(bad.value.body, dict)
        assert bad.value.body["error"]["type"] == "invalid_request_error"
        assert "messages.0.content.0.type" in bad.value.body["error"]["message"]
        assert bad.value.body["request_id"] == bad.value.request_id


async def test_a_key_comes_in_x_api_key() -> None:
    keys = (KeyEntry("k", key_digest("right")),)
    params = GatewayParams((ServedModel("a"),), keys=keys)
    async with house(params=params) as world:
        async with client(world, api_key="right") as sdk:
            await sdk.messages.create(model="a", messages=MESSAGES, max_tokens=1)
            assert (await sdk.models.list()).data[0].id == "a"
        async with client(world, api_key="wrong") as sdk:
            with pytest.raises(anthropic.AuthenticationError):
                await sdk.messages.create(model="a", messages=MESSAGES, max_tokens=1)
            with pytest.raises(anthropic.AuthenticationError) as shut:
                await sdk.models.list()
            assert isinstance(shut.value.body, dict)
            assert shut.value.body["error"]["type"] == "authentication_error"


async def test_models_are_in_the_form_of_who_asks() -> None:
    async with house() as world, client(world) as sdk:
        listed = await sdk.models.list()
        assert [(model.id, model.type) for model in listed.data] == [("a", "model")]
        assert (await sdk.models.retrieve("a")).display_name == "a"
        _, plain, _ = await world.get("/v1/models")
        assert plain["object"] == "list"


async def test_tokens_are_counted() -> None:
    async with house() as world, client(world) as sdk:
        counted = await sdk.messages.with_raw_response.count_tokens(model="a", messages=MESSAGES)
        assert (await counted.parse()).input_tokens > 3
        assert counted.headers["x-slalom-token-count"] == "estimate"
        assert not world.gateway._shared.bytes_inside


async def test_a_stream_that_dies_ends_with_an_error_event() -> None:
    launcher = FakeLauncher(FakeScript(fault=lambda *_: Fault(FaultKind.CUT, after_tokens=2)))
    async with house({"a": launcher}) as world, client(world) as sdk:
        stream = await sdk.messages.create(model="a", messages=MESSAGES, max_tokens=9, stream=True)
        kinds: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as failure:
            await read(stream, kinds)
        assert kinds == ["message_start", "content_block_start", *2 * ["content_block_delta"]]
        assert isinstance(failure.value.body, dict)
        assert failure.value.body["error"]["code"] == FailureKind.CRASHED


async def test_a_client_that_waits_gets_pings_and_the_right_answer() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=600 * MS, steps=20))
    params = GatewayParams((ServedModel("a"),), wait_comment_after_ns=0)
    async with house({"a": launcher}, params=params) as world:
        body = {"model": "a", "messages": MESSAGES, "max_tokens": 1, "stream": True}
        async with world.http.post(f"{world.url}/v1/messages?beta=true", json=body) as reply:
            text = await reply.text()
        assert 'event: ping\ndata: {"type":"ping"}' in text
        assert text.index("event: ping") < text.index("event: message_start")
        assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_an_estimate_of_a_message() -> None:
    async with house() as world:
        body = {"model": "a", "messages": MESSAGES, "max_tokens": 4}
        status, document, _ = await world.post("/v1/estimate/v1/messages", body)
        assert status == 501
        assert document["error"]["code"] == "no_prediction"


AGENT_TURN: dict[str, Any] = {
    "model": "a",
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cch=1f2e3;"},
        {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "system", "content": "a later rule"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "sealed"},
                {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "ü"}},
                {"type": "tool_use", "id": "t2", "name": "Now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [
                        {"type": "text", "text": "seen"},
                        {"type": "image", "source": PICTURE},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True},
                {"type": "text", "text": "and?"},
            ],
        },
    ],
    "tools": [
        {"name": "Read", "description": "reads", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "disabled"},
    "metadata": {"user_id": "u"},
    "context_management": {"edits": []},
}


async def test_agents_conversations_are_told_as_templates_take_them() -> None:
    """Claude Code's shapes: a first block that changes, rules in the middle, results, thoughts."""
    async with house() as world:
        status, _, headers = await world.post("/v1/messages", AGENT_TURN)
        assert status == 200
        assert "web_search_20250305" in headers["x-slalom-notice"]
        assert headers["x-slalom-task"] == "agent"
        seen = last_body(world)
    assert seen["messages"][:2] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "look\n\na later rule"},
    ]
    answer = seen["messages"][2]
    assert answer["reasoning_content"] == "hm"
    assert [c["function"]["name"] for c in answer["tool_calls"]] == ["Read", "Now"]
    assert json.loads(answer["tool_calls"][0]["function"]["arguments"]) == {"path": "ü"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    assert seen["messages"][3:] == [
        {"role": "tool", "tool_call_id": "t1", "content": "seen"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": [image, {"type": "text", "text": "and?"}]},
    ]
    assert [tool["function"]["name"] for tool in seen["tools"]] == ["Read"]
    assert seen["tool_choice"] == "required"
    assert seen["parallel_tool_calls"] is False
    assert seen["chat_template_kwargs"] == {"enable_thinking": False}
    assert seen["user"] == "u"
    assert "context_management" not in seen


async def test_a_superseded_message_ends_empty_and_well_formed() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=200 * MS)))
    headers = {"x-slalom-task": "completion", "x-slalom-session": "s"}
    async with house({"a": launcher}) as world, client(world) as sdk:

        async def ask(tokens: int) -> list[str]:
            kinds: list[str] = []
            stream = await sdk.messages.create(
                model="a",
                messages=MESSAGES,
                max_tokens=tokens,
                stream=True,
                extra_headers=headers,
            )
            await read(stream, kinds)
            return kinds

        older = asyncio.create_task(ask(1000))
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        assert (await ask(1))[-1] == "message_stop"
        assert (await older)[-1] == "message_stop"
        await world.until(lambda: len(world.ended) == 2)
        assert {end.outcome for end in world.ended} == {Outcome.SUPERSEDED, Outcome.DONE}


async def test_a_client_that_leaves_frees_its_place() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=50 * MS)))
    async with house({"a": launcher}) as world, client(world) as sdk:
        stream = await sdk.messages.create(
            model="a", messages=MESSAGES, max_tokens=1000, stream=True
        )
        await anext(aiter(stream))
        await stream.close()
        await world.until(lambda: world.ended)
        assert world.ended[0].outcome is Outcome.CANCELLED
