"""The official SDKs of OpenAI and Anthropic: streams from a real model, a tool on a scripted one.

They are among the project's own tools, so that this runs in every test run.
"""

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.clients.place import Place
from tests.clients.scripted_model import SENTENCE
from tests.clients.test_sdks import CHAT, REAL, TOOL
from tests.live.live_server import KEY

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

_ASK: list[Any] = [{"role": "user", "content": "def add(a, b):"}]
_COMMAND = {"command": "cat fact.txt"}


async def test_openai(place: Place) -> None:
    tool: Any = TOOL
    async with openai.AsyncOpenAI(base_url=place.v1, api_key=KEY, max_retries=0) as sdk:
        parts = await sdk.chat.completions.create(
            model=REAL, messages=_ASK, max_tokens=16, stream=True
        )
        assert "".join([part.choices[0].delta.content or "" async for part in parts])
        texts = await sdk.completions.create(
            model=REAL, prompt="def add(a, b):", max_tokens=16, stream=True
        )
        assert "".join([part.choices[0].text async for part in texts])
        # The limit ends it: `response.incomplete`, which is no final response to the SDK.
        events = [
            event
            async for event in await sdk.responses.create(
                model=REAL, input="def add(a, b):", max_output_tokens=16, stream=True
            )
        ]
        assert any(event.type == "response.output_text.delta" for event in events)
        assert events[-1].type in {"response.incomplete", "response.completed"}
        chat: dict[str, Any] = {"model": "scripted", "messages": _ASK}
        async with sdk.chat.completions.stream(**chat, tools=[tool]) as stream:
            whole = await stream.get_final_completion()
        calls = whole.choices[0].message.tool_calls
        plain = await sdk.chat.completions.create(**chat)
    assert calls is not None
    (call,) = calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("bash", _COMMAND)
    assert plain.choices[0].message.content == SENTENCE
    for path in (CHAT, "/v1/completions", "/v1/responses"):
        assert await place.streamed(path, REAL)


async def test_anthropic(place: Place) -> None:
    function = TOOL["function"]
    assert isinstance(function, dict)
    tool: Any = {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }
    base: dict[str, Any] = {"messages": _ASK, "max_tokens": 16}
    async with anthropic.AsyncAnthropic(
        base_url=place.server.url, api_key=KEY, max_retries=0
    ) as sdk:
        async with sdk.messages.stream(model=REAL, **base) as stream:
            assert "".join([text async for text in stream.text_stream])
        async with sdk.messages.stream(model="scripted", tools=[tool], **base) as stream:
            called = await stream.get_final_message()
    assert called.stop_reason == "tool_use"
    (block,) = (block for block in called.content if block.type == "tool_use")
    assert (block.name, block.input) == ("bash", _COMMAND)
    assert await place.streamed("/v1/messages", REAL)
