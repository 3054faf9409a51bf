"""The official SDKs of other protocols on real llama.cpp with the bundled model."""

from pathlib import Path

import anthropic
import openai
import pytest

from tests.live.live_server import KEY, LiveServer, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SMALL = "slalom-small"
QUESTION = "def add(a, b):"
#: The SDK has no name for it any more.
COLD = {"temperature": 0}


async def test_each_protocol_makes_a_round_trip(tmp_path: Path) -> None:
    async with live_server(tmp_path, {"models": [model(SMALL)]}) as server:
        await _anthropic(server)
        await _responses(server)


async def _anthropic(server: LiveServer) -> None:
    ask = {"model": SMALL, "messages": [{"role": "user", "content": QUESTION}]}
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key=KEY, max_retries=0) as sdk:
        # The first request finds no engine, so that the second count is the engine's own.
        estimated = await sdk.messages.with_raw_response.count_tokens(**ask)  # type: ignore[arg-type]
        assert estimated.headers["x-slalom-token-count"] == "estimate"
        whole = await sdk.messages.create(**ask, max_tokens=8, extra_body=COLD)  # type: ignore[call-overload]
        async with sdk.messages.stream(**ask, max_tokens=8, extra_body=COLD) as stream:  # type: ignore[arg-type]
            text = "".join([piece async for piece in stream.text_stream])
            streamed = await stream.get_final_message()
        assert text
        assert whole.content[0].text == text
        assert whole.stop_reason == streamed.stop_reason == "max_tokens"
        counted = await sdk.messages.with_raw_response.count_tokens(**ask)  # type: ignore[arg-type]
        assert counted.headers["x-slalom-token-count"] == "engine"
        usage = streamed.usage
        prompt_tokens = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        assert (await counted.parse()).input_tokens == prompt_tokens
        assert usage.output_tokens == 8


async def _responses(server: LiveServer) -> None:
    base_url = f"{server.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as sdk:
        first = await sdk.responses.create(
            model=SMALL, input=QUESTION, max_output_tokens=8, temperature=0
        )
        assert first.output_text
        assert first.usage is not None
        stream = await sdk.responses.create(
            model=SMALL,
            input="and sub?",
            previous_response_id=first.id,
            max_output_tokens=4,
            stream=True,
        )
        events = [event async for event in stream]
        last = events[-1]
        assert last.type in {"response.completed", "response.incomplete"}
        assert last.response.usage is not None
        assert last.response.usage.input_tokens > first.usage.total_tokens
        said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert last.response.output_text == said
        assert (await sdk.responses.retrieve(last.response.id)).output_text == said
