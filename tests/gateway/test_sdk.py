"""The official SDK, unchanged, sync and async, against the whole house."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from slalom.core.events import FailureKind
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, Fault, FaultKind
from slalom.units import MIB, MS
from tests.gateway.house import House, house

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def client(world: House, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=world.base_url, api_key="none", max_retries=0, **more)


async def in_thread(world: House, use: Callable[[openai.OpenAI], Any]) -> Any:
    def run() -> Any:
        with openai.OpenAI(base_url=world.base_url, api_key="none", max_retries=0) as sync:
            return use(sync)

    return await asyncio.to_thread(run)


async def test_chat_whole_and_streamed() -> None:
    async with house() as world, client(world) as sdk:
        whole = await sdk.chat.completions.create(model="a", messages=MESSAGES, max_tokens=3)
        assert whole.choices[0].message.content == " w0 w1 w2"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 3
        stream = await sdk.chat.completions.create(
            model="a", messages=MESSAGES, max_tokens=3, stream=True
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == " w0 w1 w2"
        assert all(chunk.choices for chunk in chunks), "a usage chunk nobody asked for"


async def test_sync_client() -> None:
    async with house() as world:

        def use(sdk: openai.OpenAI) -> tuple[str | None, str, list[str]]:
            whole = sdk.chat.completions.create(model="a", messages=MESSAGES, max_tokens=2)
            stream = sdk.completions.create(model="a", prompt="x", max_tokens=2, stream=True)
            names = [model.id for model in sdk.models.list()]
            text = "".join(chunk.choices[0].text for chunk in stream)
            return whole.choices[0].message.content, text, names

        assert await in_thread(world, use) == (" w0 w1", " w0 w1", ["a"])


async def test_usage_comes_when_asked_for() -> None:
    async with house() as world, client(world) as sdk:
        stream = await sdk.chat.completions.create(
            model="a",
            messages=MESSAGES,
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        last = [chunk async for chunk in stream][-1]
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.completion_tokens == 3


async def test_tools_and_unknown_fields_reach_the_engine_untouched() -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"x": 1}}}]
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"type": "object"}},
    }
    async with house() as world, client(world) as sdk:
        reply = await sdk.chat.completions.with_raw_response.create(
            model="a",
            messages=MESSAGES,
            tools=tools,
            response_format=schema,
            extra_body={"cache_prompt": True, "min_p": 0.05},
        )
        assert reply.headers["x-slalom-task"] == "agent"
        seen = _last_body(world)
        assert seen["tools"] == tools
        assert seen["response_format"] == schema
        assert seen["cache_prompt"] is True
        assert seen["min_p"] == 0.05
        assert seen["max_tokens"] == 8192, "an unlimited request would run to the context's end"
        assert seen["model"] == "fake"


async def test_infill_is_rendered_with_the_models_own_tokens() -> None:
    async with house() as world, client(world) as sdk:
        reply = await sdk.completions.with_raw_response.create(
            model="a", prompt="def f(", suffix="): pass", max_tokens=8
        )
        assert reply.headers["x-slalom-task"] == "completion"
        seen = _last_body(world)
        assert seen["prompt"] == "<PRE>def f(<SUF>): pass<MID>"
        assert "suffix" not in seen


async def test_embeddings() -> None:
    async with house() as world, client(world) as sdk:
        reply = await sdk.embeddings.create(model="a", input=["x", "yy"], encoding_format="float")
        assert [len(item.embedding) for item in reply.data] == [8, 8]
        await world.until(lambda: world.ended)
        assert world.ended[0].task == "embedding"


async def test_errors_are_the_sdks_own_classes() -> None:
    async with house(embeddings=False) as world, client(world) as sdk:
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.chat.completions.create(model="nope", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
        assert "Known models: a" in missing.value.message
        with pytest.raises(openai.BadRequestError) as wrong:
            await sdk.chat.completions.create(model="a", messages=[])
        assert wrong.value.param == "messages"
        with pytest.raises(openai.BadRequestError) as unable:
            await sdk.embeddings.create(model="a", input="x")
        assert unable.value.code == "unsupported_by_model"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(FaultKind.STATUS, status=500), openai.InternalServerError),
        (Fault(FaultKind.STATUS, status=400), openai.BadRequestError),
        (Fault(FaultKind.STATUS, status=401), openai.InternalServerError),
        (Fault(FaultKind.CUT), openai.InternalServerError),
    ],
)
async def test_engine_failures_before_the_first_byte_have_a_status(
    fault: Fault, expected: type[openai.APIStatusError]
) -> None:
    launcher = FakeLauncher(FakeScript(fault=lambda _number, _asked: fault))
    async with house({"a": launcher}) as world, client(world) as sdk:
        for stream in (False, True):
            with pytest.raises(expected) as failure:
                await sdk.chat.completions.create(
                    model="a",
                    messages=MESSAGES,
                    stream=stream,
                )
            assert failure.value.response.headers["x-request-id"]


async def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_event() -> None:
    def first_only(number: int, asked: object) -> Fault | None:
        return Fault(FaultKind.CUT, after_tokens=2) if number == 1 else None

    launcher = FakeLauncher(FakeScript(fault=first_only))
    async with house({"a": launcher}) as world, client(world) as sdk:
        stream = await sdk.chat.completions.create(
            model="a", messages=MESSAGES, max_tokens=9, stream=True
        )
        text: list[str] = []
        with pytest.raises(openai.APIError) as failure:
            await _read(stream, text)
        assert text == [" w0", " w1"]
        assert isinstance(failure.value.body, dict)
        assert failure.value.body["code"] == FailureKind.CRASHED
        again = await sdk.chat.completions.create(model="a", messages=MESSAGES, max_tokens=1)
        assert again.choices[0].message.content == " w0"


async def test_a_failed_load_is_a_proper_status_without_comments() -> None:
    launcher = FakeLauncher(load=FakeLoad(failure=FailureKind.MODEL_UNUSABLE))
    async with house({"a": launcher}) as world, client(world) as sdk:
        with pytest.raises(openai.InternalServerError) as failure:
            await sdk.chat.completions.create(model="a", messages=MESSAGES, stream=True)
        assert failure.value.status_code == 503
        assert failure.value.code == FailureKind.MODEL_UNUSABLE
        assert failure.value.response.headers["x-should-retry"] == "false"


async def test_a_failed_load_after_comments_is_an_error_event() -> None:
    launcher = FakeLauncher(
        load=FakeLoad(duration_ns=900 * MS, steps=20, failure=FailureKind.MODEL_UNUSABLE)
    )
    params = GatewayParams((ServedModel("a"),), wait_comment_after_ns=0)
    async with house({"a": launcher}, params=params) as world, client(world) as sdk:
        stream = await sdk.chat.completions.create(model="a", messages=MESSAGES, stream=True)
        text: list[str] = []
        with pytest.raises(openai.APIError) as failure:
            await _read(stream, text)
        assert text == []
        assert isinstance(failure.value.body, dict)
        assert failure.value.body["code"] == FailureKind.MODEL_UNUSABLE


async def test_a_model_that_does_not_fit_says_so() -> None:
    async with (
        house(budget_bytes=10 * MIB, need_bytes=64 * MIB) as world,
        client(world) as sdk,
    ):
        with pytest.raises(openai.InternalServerError) as failure:
            await sdk.chat.completions.create(model="a", messages=MESSAGES)
        assert failure.value.code == "model_does_not_fit"


async def _read(stream: AsyncIterator[ChatCompletionChunk], text: list[str]) -> None:
    async for chunk in stream:
        text += [chunk.choices[0].delta.content or ""]


def _last_body(world: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.engine().calls[-1].body)
    return body
