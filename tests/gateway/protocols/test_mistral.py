"""Mistral's official client, unchanged, against the whole house."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import BaseModelCard

from slalom.engines.protocol import Capabilities
from slalom.gateway.params import GatewayParams, ModelFacts, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, Fault, FaultKind
from slalom.units import MS
from tests.gateway.house import House, house, last_body

CHATS = FakeScript(capabilities=Capabilities())


async def used(world: House, use: Callable[[Mistral], Any]) -> Any:
    def run() -> Any:
        with Mistral(api_key="none", server_url=world.url) as client:
            return use(client)

    return await asyncio.to_thread(run)


async def test_a_gap_is_filled_whole_and_streamed() -> None:
    async with house() as world:
        whole = await used(
            world,
            lambda sdk: sdk.fim.complete(
                model="a", prompt="def f(", suffix="): pass", max_tokens=3, random_seed=7, stop="Z"
            ),
        )
        assert whole.choices[0].message.content == " w0 w1 w2"
        assert whole.choices[0].finish_reason == "length"
        assert (whole.model, whole.usage.completion_tokens) == ("a", 3)
        seen = last_body(world)
        assert seen["prompt"] == "<PRE>def f(<SUF>): pass<MID>"
        assert seen["seed"] == 7
        assert "Z" in seen["stop"]

        def read(sdk: Mistral) -> list[Any]:
            with sdk.fim.stream(model="a", prompt="x", suffix="y", max_tokens=3) as events:
                return [event.data for event in events]

        chunks = await used(world, read)
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == " w0 w1 w2"
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
        assert chunks[-1].usage.completion_tokens == 3
        assert [end.task for end in world.ended] == ["completion", "completion"]


async def test_without_a_suffix_the_cursor_is_at_the_end() -> None:
    launchers = {"a": FakeLauncher(), "chats": FakeLauncher(CHATS)}
    async with house(launchers) as world:
        for model, expected in (("a", "<PRE>x<SUF><MID>"), ("chats", "x")):
            body = {"model": model, "prompt": "x", "max_tokens": 2}
            status, _, _ = await world.post("/v1/fim/completions", body)
            assert status == 200
            seen = last_body(world, model)
            assert seen["prompt"] == expected
            assert "suffix" not in seen
        assert [end.task for end in world.ended] == ["completion", "completion"]


async def test_a_model_without_marks_is_a_clear_error() -> None:
    async with house({"a": FakeLauncher(CHATS)}) as world:
        with pytest.raises(SDKError) as refused:
            await used(world, lambda sdk: sdk.fim.complete(model="a", prompt="x", suffix="y"))
        assert refused.value.status_code == 400
        assert "fill-in-the-middle" in refused.value.body
        assert '"object":"error"' in refused.value.body


async def test_a_broken_off_stream_raises() -> None:
    broken = FakeScript(fault=lambda _number, _asked: Fault(FaultKind.CUT, after_tokens=2))
    async with house({"a": FakeLauncher(broken)}) as world:

        def read(sdk: Mistral) -> list[Any]:
            with sdk.fim.stream(model="a", prompt="x", max_tokens=9) as events:
                return list(events)

        with pytest.raises(Exception, match=r"(?i)validation|error"):
            await used(world, read)


async def test_a_cold_start_is_waited_for() -> None:
    slow = FakeLauncher(load=FakeLoad(duration_ns=300 * MS))
    params = GatewayParams(
        (ServedModel("a"),), wait_comment_after_ns=20 * MS, wait_comment_every_ns=20 * MS
    )
    async with house({"a": slow}, params=params) as world:

        def read(sdk: Mistral) -> str:
            with sdk.fim.stream(model="a", prompt="x", max_tokens=2) as events:
                return "".join(event.data.choices[0].delta.content for event in events)

        assert await used(world, read) == " w0 w1"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ["x"]}, "prompt"),
        ({"suffix": 3}, "suffix"),
        ({"random_seed": "7"}, "random_seed"),
        ({"random_seed": True}, "random_seed"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": 3}, "stop"),
        ({"model": None}, "model"),
    ],
)
async def test_a_wrong_field_is_named(changes: dict[str, Any], param: str) -> None:
    async with house() as world:
        body = {"model": "a", "prompt": "x", **changes}
        status, document, _ = await world.post("/v1/fim/completions", body)
        assert (status, document["object"], document["param"]) == (400, "error", param)


async def test_models_say_what_they_can() -> None:
    facts = ModelFacts(context_tokens=2048, thinks=True)
    params = GatewayParams(
        (ServedModel("a", aliases=("coder",), facts=facts), ServedModel("chats"))
    )
    launchers = {"a": FakeLauncher(), "chats": FakeLauncher(CHATS)}
    async with house(launchers, params=params, embeddings=False) as world:
        listed = await used(world, lambda sdk: sdk.models.list())
        first, second = listed.data
        assert isinstance(first, BaseModelCard)
        assert (first.id, first.aliases, first.max_context_length) == ("a", ["coder"], 2048)
        assert first.capabilities.completion_fim
        assert first.capabilities.completion_chat
        assert not second.capabilities.completion_fim
        one = await used(world, lambda sdk: sdk.models.retrieve(model_id="coder"))
        assert one.id == "a"
        _, document, _ = await world.get("/v1/models")
        assert "slalom" in document["data"][0], "to others the list is OpenAI's"
