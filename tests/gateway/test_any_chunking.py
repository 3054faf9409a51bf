"""However an engine's bytes come, and wherever they stop: every client understands the same.

From the engine's connection to the client's, over HTTP, on every protocol; OpenAI's answers are
read by its own client. That the translations alone stand any cut is in `test_protocol_frame`.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from tests.gateway.engine_corpus import CORPUS, BrokenOffError, Meaning, Recorded
from tests.gateway.house import House, chat, house
from tests.gateway.protocol_samples import SAMPLES
from tests.gateway.replaying_engine import End, ReplayingLauncher
from tests.gateway.test_protocol_frame import comparable, cut

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PATHS = [CHAT, TEXT, *sorted(SAMPLES)]
paths = pytest.mark.parametrize("path", PATHS)
#: The one that is no chat, and the one of which OpenAI's clients read both answers.
_TEXTS, _TWO = "llama.cpp completion", "another choice beside"
ROUNDS = 12


def recorded_for(path: str) -> list[tuple[str, Recorded]]:
    """Answers that an engine may give on this path."""
    if path == TEXT:
        return [(_TEXTS, CORPUS[_TEXTS])]
    left_out = {_TEXTS, _TWO} if path == CHAT else set()
    return [(name, CORPUS[name]) for name in sorted(CORPUS) if name not in left_out]


def rounds(path: str, salt: str) -> Iterator[tuple[Recorded, random.Random]]:
    """Recorded answers, each with a source of places to cut at."""
    found = recorded_for(path)
    for number in range(max(ROUNDS, len(found))):
        yield found[number % len(found)][1], random.Random(f"{salt} {number}")


def pieces(data: bytes, source: random.Random) -> list[bytes]:
    """The bytes in pieces, sometimes single ones, sometimes several events in one."""
    count = source.choice((0, 1, 3, 20, len(data) // 2))
    return cut(data, [source.randrange(len(data) + 1) for _ in range(count)])


async def ask(world: House, path: str, *, stream: bool = True) -> Meaning:
    """What the client understands; raises `BrokenOffError` for every kind of failure."""
    if path in {CHAT, TEXT}:
        return await _by_openai(world, path, stream=stream)
    sample = SAMPLES[path]
    more = sample.streams if stream else dict.fromkeys(sample.streams, False)
    async with world.http.post(world.url + path, json={**sample.body, **more}) as reply:
        said = await reply.read()
        if reply.status >= 500:
            raise BrokenOffError(said.decode())
        assert reply.status == 200
    meaning = sample.read_stream(said) if stream else sample.read_whole(said)
    return comparable(meaning, sample)


async def _by_openai(world: House, path: str, *, stream: bool) -> Meaning:
    asked: dict[str, Any] = {"model": "a", "max_tokens": 9}
    asked |= {"messages": chat()["messages"]} if path == CHAT else {"prompt": "one"}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        async with openai.AsyncOpenAI(
            base_url=world.base_url, api_key="none", max_retries=0
        ) as sdk:
            api: Any = sdk.chat.completions if path == CHAT else sdk.completions
            answer = await api.create(**asked)
            chunks = [chunk async for chunk in answer] if stream else [answer]
    except openai.APIError as problem:
        raise BrokenOffError(str(problem)) from problem
    return _added_up(chunks)


def _added_up(chunks: list[Any]) -> Meaning:
    """As a program that uses the client does it."""
    text = thought = ""
    finish, usage = None, None
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            said = getattr(choice, "delta", None) or getattr(choice, "message", None)
            if said is None:
                text += choice.text
                continue
            text += said.content or ""
            extra = said.model_extra or {}
            thought += extra.get("reasoning_content") or extra.get("reasoning") or ""
            for place, call in enumerate(said.tool_calls or ()):
                parts = calls.setdefault(getattr(call, "index", place), ["", "", ""])
                parts[0] += call.id or ""
                parts[1] += call.function.name or ""
                parts[2] += call.function.arguments or ""
    assert usage is not None
    tools = tuple((name_id, name, str(json.loads(text))) for name_id, name, text in calls.values())
    finish = "tool_calls" if tools else str(finish)
    return Meaning(text, thought, tools, finish, usage.prompt_tokens, usage.completion_tokens)


def expected(path: str, recorded: Recorded) -> Meaning:
    if path not in {CHAT, TEXT}:
        return comparable(recorded.meaning, SAMPLES[path])
    tools = tuple((i, name, str(json.loads(text))) for i, name, text in recorded.meaning.tools)
    finish = "tool_calls" if tools else recorded.meaning.finish
    return replace(recorded.meaning, tools=tools, finish=finish)


@paths
async def test_any_cut_means_the_same(path: str) -> None:
    launcher = ReplayingLauncher()
    async with house({"a": launcher}) as world:
        for recorded, source in rounds(path, "cut"):
            launcher.replay.say(pieces(recorded.stream, source))
            assert await ask(world, path) == expected(path, recorded)


@paths
async def test_any_cut_of_a_whole_answer_means_the_same(path: str) -> None:
    launcher = ReplayingLauncher()
    async with house({"a": launcher}) as world:
        for recorded, source in rounds(path, "whole"):
            if recorded.whole:
                launcher.replay.say(pieces(recorded.whole, source), whole=True)
                assert await ask(world, path, stream=False) == expected(path, recorded)


@paths
@pytest.mark.parametrize("end", [End.BROKEN, End.SILENT])
async def test_an_end_too_early_is_an_error(path: str, end: End) -> None:
    """Or the whole answer, where only its end mark is missing: never half of it as a whole."""
    launcher = ReplayingLauncher()
    async with house({"a": launcher}) as world:
        found = list(rounds(path, end.value))
        for recorded, source in found[: 3 if end is End.SILENT else ROUNDS]:
            data = recorded.stream[: source.randrange(len(recorded.stream) * 9 // 10)]
            launcher.replay.say(pieces(data, source), end)
            try:
                understood = await ask(world, path)
            except BrokenOffError:
                continue
            assert understood.text == expected(path, recorded).text


@paths
async def test_the_next_answer_is_whole_again(path: str) -> None:
    launcher = ReplayingLauncher()
    async with house({"a": launcher}) as world:
        recorded = recorded_for(path)[0][1]
        half = recorded.stream[: len(recorded.stream) // 2]
        launcher.replay.say([half], End.BROKEN)
        with pytest.raises(BrokenOffError):
            await ask(world, path)
        launcher.replay.say([recorded.stream])
        assert await ask(world, path) == expected(path, recorded)
