"""OpenAI's finer points on real llama.cpp: what is asked for comes, or an error says why not."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.live.live_server import KEY, LiveServer, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SMALL = "slalom-small"
MESSAGES: list[Any] = [{"role": "user", "content": "def add(a, b):"}]
PROMPT = "def add(a, b):\n    return"
TOOL: Any = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "s", "schema": {"enum": ["left", "right"]}},
}
PICTURE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def test_openais_details(tmp_path: Path) -> None:
    async with (
        live_server(tmp_path, {"models": [model(SMALL)]}) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as sdk,
    ):
        await _chats(sdk)
        await _streamed_chats(sdk)
        await _what_cannot_be_had(sdk)
        await _texts(sdk)
        await _streamed_texts(sdk)
        await _other_words_for_pictures(server)


async def _chats(sdk: openai.AsyncOpenAI) -> None:
    async def ask(**more: Any) -> Any:
        wanted = {"model": SMALL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, **more}
        return await sdk.chat.completions.create(**wanted)

    plain = await ask()
    chosen = await ask(response_format=SCHEMA, max_tokens=40)
    assert json.loads(chosen.choices[0].message.content) in ("left", "right")
    likely = await ask(logprobs=True, top_logprobs=2, max_tokens=3)
    places = likely.choices[0].logprobs.content
    assert len(places) == likely.usage.completion_tokens == 3
    assert all(len(place.top_logprobs) == 2 for place in places)
    several = await ask(n=2, temperature=1)
    assert [choice.index for choice in several.choices] == [0, 1]
    seeded = {"seed": 7, "temperature": 1.5, "max_tokens": 12}
    first, again = await ask(**seeded), await ask(**seeded)
    assert first.choices[0].message.content == again.choices[0].message.content
    begin = plain.choices[0].message.content
    word = begin[3:6]
    stopped = await ask(stop=[word])
    assert stopped.choices[0].message.content == begin.partition(word)[0]
    assert stopped.choices[0].finish_reason == "stop"
    told = await sdk.chat.completions.with_raw_response.create(
        model=SMALL, messages=MESSAGES, max_tokens=2, tools=[TOOL]
    )
    assert "cannot call tools" in told.headers["x-slalom-notice"]


async def _streamed_chats(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model=SMALL,
        messages=MESSAGES,
        max_tokens=3,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    said: dict[int, str] = {}
    usage = None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
    assert usage is not None
    assert said.keys() == {0, 1}
    assert all(said.values())


async def _what_cannot_be_had(sdk: openai.AsyncOpenAI) -> None:
    chat: Any = sdk.chat.completions.create
    text: Any = sdk.completions.create
    looks = [{"role": "user", "content": [{"type": "text", "text": "x"}, PICTURE]}]
    chats: dict[str, dict[str, Any]] = {
        "messages": {"messages": looks},
        "tool_choice": {"tools": [TOOL], "tool_choice": "required"},
        "tools[0]": {"tools": [None]},
        "functions": {"functions": [{"name": "f"}]},
    }
    for param, asked in chats.items():
        with pytest.raises(openai.BadRequestError) as refused:
            await chat(**{"model": SMALL, "messages": MESSAGES, "max_tokens": 2, **asked})
        assert refused.value.param == param
    texts: dict[str, dict[str, Any]] = {
        "best_of": {"best_of": 3},
        "echo": {"echo": True, "logprobs": 1},
    }
    for param, asked in texts.items():
        with pytest.raises(openai.BadRequestError) as refused:
            await text(model=SMALL, prompt=PROMPT, max_tokens=2, **asked)
        assert refused.value.param == param


async def _texts(sdk: openai.AsyncOpenAI) -> None:
    async def ask(**more: Any) -> Any:
        wanted = {"model": SMALL, "prompt": PROMPT, "max_tokens": 3, "temperature": 0, **more}
        return await sdk.completions.create(**wanted)

    text = (await ask()).choices[0].text
    assert (await ask(echo=True)).choices[0].text == PROMPT + text
    assert (await ask(suffix="\n")).choices
    logprobs = (await ask(logprobs=2)).choices[0].logprobs
    assert "".join(logprobs.tokens) == text
    assert [len(place) for place in logprobs.top_logprobs] == [2, 2, 2]
    assert len((await ask(logprobs=0)).choices[0].logprobs.token_logprobs) == 3
    several = await ask(prompt=[PROMPT, "class A"])
    assert several.choices[0].text == text
    assert several.choices[1].text
    assert len((await ask(prompt=[[5, 6, 7], [7, 8]], n=2, temperature=1)).choices) == 4


async def _streamed_texts(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.completions.create(
        model=SMALL, prompt=[PROMPT, "class A"], max_tokens=3, echo=True, stream=True
    )
    said: dict[int, str] = {}
    async for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + choice.text
    assert said[0].startswith(PROMPT)
    assert said[1].startswith("class A")
    assert len(said[1]) > len("class A")


async def _other_words_for_pictures(server: LiveServer) -> None:
    """On other protocols the same is refused."""
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    asked: dict[str, dict[str, Any]] = {
        "/v1/messages": {
            "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]
        },
        "/v1/responses": {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}],
                }
            ]
        },
        "/api/chat": {"messages": [{"role": "user", "content": "x", "images": ["iVBOR"]}]},
    }
    for path, body in asked.items():
        async with server.session.post(server.url + path, json={"model": SMALL, **body}) as reply:
            assert reply.status == 400, path
            assert "cannot see pictures" in await reply.text()
