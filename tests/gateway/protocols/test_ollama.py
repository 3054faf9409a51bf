"""Ollama's official client, unchanged, against the whole house."""

import json
from dataclasses import replace
from typing import Any

import ollama
import pytest

from slalom.core.actions import Outcome
from slalom.core.events import FailureKind
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ModelFacts, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, Fault, FaultKind
from tests.gateway.house import House, house
from tests.gateway.protocols.ollama_reader import generate_stream
from tests.gateway.test_protocol_cold import Gated

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]
FACTS = ModelFacts(
    architecture="qwen2",
    file_format="gguf",
    quantisation="Q8_0",
    parameter_count=7_600_000_000,
    file_bytes=8_000_000,
    context_tokens=2048,
    chats=True,
    thinks=True,
)
PARAMS = GatewayParams((ServedModel("a", aliases=("b:latest",), facts=FACTS),))


def client(world: House, **more: Any) -> ollama.AsyncClient:
    return ollama.AsyncClient(world.url, **more)


def last_body(world: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.engine().calls[-1].body)
    return body


async def test_a_chat_whole_and_streamed() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        options = {"num_predict": 3, "temperature": 0.5, "stop": ["zz"], "top_k": 7}
        whole = await sdk.chat("a", MESSAGES, options=options)
        assert whole.message.content == " w0 w1 w2"
        assert whole.message.role == "assistant"
        assert (whole.model, whole.done, whole.done_reason) == ("a", True, "length")
        assert (whole.prompt_eval_count, whole.eval_count) == (3, 3)
        assert whole.total_duration is not None
        assert whole.prompt_eval_duration is not None
        assert whole.eval_duration is not None
        assert whole.total_duration >= whole.prompt_eval_duration + whole.eval_duration > 0
        seen = last_body(world)
        assert seen["max_tokens"] == 3
        assert seen["temperature"] == 0.5
        assert seen["top_k"] == 7
        assert seen["stop"] == ["zz"]
        parts = [part async for part in await sdk.chat("a", MESSAGES, options=options, stream=True)]
        assert "".join(part.message.content or "" for part in parts) == " w0 w1 w2"
        assert [part.done for part in parts] == [False] * 3 + [True]
        assert parts[-1].eval_count == 3


async def test_a_request_that_does_not_say_is_streamed() -> None:
    async with house(params=PARAMS) as world:
        body = {"model": "a", "prompt": "x", "options": {"num_predict": 2}}
        async with world.http.post(f"{world.url}/api/generate", json=body) as reply:
            assert reply.content_type == "application/x-ndjson"
            lines = (await reply.read()).splitlines()
        assert [json.loads(line)["response"] for line in lines] == [" w0", " w1", ""]


async def test_texts_raw_and_with_a_suffix() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        limit = {"num_predict": 2}
        told = await sdk.generate("a", "one two", system="be brief", options=limit)
        assert told.response == " w0 w1"
        system = {"role": "system", "content": "be brief"}
        assert last_body(world)["messages"] == [system, {"role": "user", "content": "one two"}]
        await sdk.generate("a", "one two", raw=True, options=limit)
        assert last_body(world)["prompt"] == "one two"
        filled = await sdk.generate("a", "def f(", suffix="): pass", options=limit)
        assert filled.response == " w0 w1"
        assert last_body(world)["prompt"] == "<PRE>def f(<SUF>): pass<MID>"
        await world.until(lambda: len(world.ended) == 3)
        assert world.ended[-1].task == "completion"


async def test_a_request_without_a_prompt_loads() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        told = await sdk.generate("a")
        assert (told.response, told.done, told.done_reason) == ("", True, "load")
        assert [model.model for model in (await sdk.ps()).models] == ["a"]
        chatted = [part async for part in await sdk.chat("a", stream=True)]
        assert [part.done_reason for part in chatted] == ["load"]
        assert chatted[0].message.content == ""
        assert last_body(world)["max_tokens"] == 1


async def test_a_request_without_a_prompt_lets_go() -> None:
    """As `ollama stop` asks; a model that is not up is not brought up for it."""
    async with house(params=PARAMS) as world, client(world) as sdk:
        assert (await sdk.generate("a", keep_alive=0)).done_reason == "unload"
        (part,) = [part async for part in await sdk.chat("a", keep_alive=0, stream=True)]
        assert (part.done_reason, part.message.content) == ("unload", "")
        assert world.launchers["a"].launches == []
        await sdk.generate("a")
        assert (await sdk.generate("a", keep_alive=0)).done_reason == "unload"

        def states() -> list[str]:
            return [model.state.value for model in world.runtime.snapshot().models]

        await world.until(lambda: states() == ["cold"])


async def test_embeddings_new_and_old() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        told = await sdk.embed("a", ["x", "yyy"], truncate=True)
        assert [len(vector) for vector in told.embeddings] == [8, 8]
        assert told.embeddings[0] != told.embeddings[1]
        assert told.prompt_eval_count is not None
        single = await sdk.embed("a", "x")
        assert single.embeddings == [told.embeddings[0]]
        assert (await sdk.embeddings("a", "x")).embedding == told.embeddings[0]
        await world.until(lambda: world.ended)
        assert {end.task for end in world.ended} == {"embedding"}


async def test_documents_about_models() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        (model,) = (await sdk.list()).models
        assert (model.model, model.size) == ("a", 8_000_000)
        assert model.digest
        assert model.modified_at
        assert model.details
        assert model.details.family == "qwen2"
        assert model.details.parameter_size == "7.6B"
        assert model.details.quantization_level == "Q8_0"
        assert (await sdk.ps()).models == []
        shown = await sdk.show("a:latest")
        assert shown.modelinfo
        assert shown.modelinfo["qwen2.context_length"] == 2048
        assert shown.capabilities == ["completion", "tools", "insert", "thinking", "embedding"]
        await sdk.chat("b", MESSAGES, options={"num_predict": 1})
        (running,) = (await sdk.ps()).models
        assert running.context_length == 2048
        assert running.size
        assert running.size > 0
        assert running.size_vram == 0
        assert running.expires_at
        with pytest.raises(ollama.ResponseError, match="not served here") as missing:
            await sdk.show("nope")
        assert missing.value.status_code == 404


async def test_health_and_version() -> None:
    async with house(params=PARAMS) as world:
        async with world.http.get(world.url) as reply:
            assert (reply.status, await reply.text()) == (200, "Ollama is running")
        async with world.http.head(world.url) as reply:
            assert reply.status == 200
        _, document, _ = await world.get("/api/version")
        assert tuple(map(int, document["version"].split("."))) >= (0, 6, 4)


async def test_pull_of_a_configured_model_succeeds_and_of_others_does_not() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        assert (await sdk.pull("a")).status == "success"
        parts = [part async for part in await sdk.pull("a:latest", stream=True)]
        assert [part.status for part in parts][::2] == ["pulling manifest", "success"]
        assert parts[1].completed == parts[1].total == 8_000_000
        for stream in (False, True):
            with pytest.raises(ollama.ResponseError, match="slalom models pull") as refused:
                await _drain(await sdk.pull("llama9", stream=stream))
            assert refused.value.status_code == 404


async def _drain(stream: Any, texts: list[str] | None = None) -> None:
    async for part in stream:
        if texts is not None:
            texts += [part.response]


async def test_what_would_change_the_models_is_refused() -> None:
    async with house(params=PARAMS) as world, client(world) as sdk:
        for ask in (sdk.delete("a"), sdk.copy("a", "c"), sdk.create("c", from_="a"), sdk.push("a")):
            with pytest.raises(ollama.ResponseError, match="configuration") as refused:
                await ask
            assert refused.value.status_code == 403
        assert len((await sdk.list()).models) == 1


async def test_tools_travel_both_ways() -> None:
    def add(x: int, y: int) -> int:
        """Add.

        Args:
            x: One.
            y: Other.
        """
        return x + y

    calls = [{"function": {"name": "add", "arguments": {"x": 1, "y": 2}}}]
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "add", "content": "3"},
    ]
    async with house(params=PARAMS) as world, client(world) as sdk:
        await sdk.chat("a", messages, tools=[add], options={"num_predict": 1})
        seen = last_body(world)
        assert seen["tools"][0]["function"]["name"] == "add"
        assert seen["tools"][0]["function"]["parameters"]["required"] == ["x", "y"]
        call, result = seen["messages"][1]["tool_calls"][0], seen["messages"][2]
        assert json.loads(call["function"]["arguments"]) == {"x": 1, "y": 2}
        assert result == {"role": "tool", "tool_call_id": call["id"], "content": "3"}
        await world.until(lambda: world.ended)
        assert world.ended[0].task == "agent"


async def test_errors_have_ollamas_form() -> None:
    fault = Fault(FaultKind.CUT, after_tokens=2)
    launcher = FakeLauncher(FakeScript(fault=lambda number, _: fault if number == 1 else None))
    async with house({"a": launcher}, params=PARAMS) as world, client(world) as sdk:
        got: list[str] = []
        with pytest.raises(ollama.ResponseError):
            await _drain(await sdk.generate("a", "x", stream=True), got)
        assert got == [" w0", " w1"]
        with pytest.raises(ollama.ResponseError, match="Known models: a") as missing:
            await sdk.chat("nope", MESSAGES)
        assert missing.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match=r"options\.temperature"):
            await sdk.chat("a", MESSAGES, options={"temperature": "hot"})
        status, document, _ = await world.post("/api/chat", {"model": "a", "messages": 3})
        assert status == 400
        assert document["error"].startswith("messages:")


async def test_a_load_that_fails_has_its_status() -> None:
    launcher = FakeLauncher(load=FakeLoad(failure=FailureKind.MODEL_UNUSABLE))
    async with house({"a": launcher}, params=PARAMS) as world, client(world) as sdk:
        with pytest.raises(ollama.ResponseError) as failure:
            await sdk.generate("a", "x")
        assert failure.value.status_code == 503


async def test_keys_are_asked_for() -> None:
    params = GatewayParams((ServedModel("a"),), keys=(KeyEntry("k", key_digest("right")),))
    async with house(params=params) as world:
        async with client(world) as sdk:
            with pytest.raises(ollama.ResponseError) as refused:
                await sdk.list()
            assert refused.value.status_code == 401
        async with client(world, headers={"authorization": "Bearer right"}) as sdk:
            assert (await sdk.list()).models
            assert (await sdk.generate("a", "x", options={"num_predict": 1})).response == " w0"


async def test_a_superseded_completion_ends_empty_and_well() -> None:
    launcher = Gated(FakeLoad())
    params = replace(PARAMS, wait_comment_after_ns=0)
    async with house({"a": launcher}, params=params) as world:
        url, headers = f"{world.url}/api/generate", {"x-slalom-session": "s"}
        body = {"model": "a", "prompt": "def f(", "suffix": ")", "options": {"num_predict": 2}}
        newer = {**body, "prompt": "def f(x"}
        async with (
            world.http.post(url, json=body, headers=headers) as old,
            world.http.post(url, json=newer, headers=headers) as new,
        ):
            empty = generate_stream(await old.read())
            launcher.gate.set()
            said = generate_stream(await new.read())
        assert said.text == " w0 w1"
        assert (empty.text, empty.finish) == ("", "stop")
        await world.until(lambda: len(world.ended) == 2)
        assert Outcome.SUPERSEDED in {end.outcome for end in world.ended}
