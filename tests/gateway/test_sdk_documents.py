"""Documents beside inference, each held strictly against the official SDK's own model of it."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import ollama
import openai.types as of_openai
import pydantic
import pytest
from anthropic.types import MessageTokensCount, ModelInfo
from mistralai.client.models import ModelList
from openai.pagination import SyncCursorPage, SyncPage
from openai.types.responses import Response, ResponseItem
from openai.types.responses.input_token_count_response import InputTokenCountResponse

from tests.gateway.house import House, chat
from tests.gateway.whole_server import KEY, whole_server

BEARER = {"authorization": f"Bearer {KEY}"}
ANTHROPIC = {**BEARER, "anthropic-version": "2023-06-01"}
MISTRAL = {**BEARER, "user-agent": "mistral-client-python/3.7"}
TURN = [{"role": "user", "content": "one two"}]


class _Deleted(pydantic.BaseModel):
    id: str
    object: str
    deleted: bool


async def get(world: House, path: str, headers: dict[str, str] | None = None) -> Any:
    status, document, _ = await world.get(path, headers or BEARER)
    assert status == 200, document
    return document


async def post(world: House, path: str, body: dict[str, Any]) -> Any:
    status, document, _ = await world.post(path, {"model": "a", **body}, BEARER)
    assert status == 200, document
    return document


def valid(kind: Any, document: Any) -> Any:
    """Without the SDK's leniency: every field that it knows has the type that it says."""
    return pydantic.TypeAdapter(kind).validate_python(document)


async def test_models(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        await post(world, "/v1/chat/completions", chat())
        page = valid(SyncPage[of_openai.Model], await get(world, "/v1/models"))
        assert [model.id for model in page.data] == ["a"]
        valid(of_openai.Model, await get(world, "/v1/models/b"))
        cards = (await get(world, "/v1/models", ANTHROPIC))["data"]
        assert [valid(ModelInfo, card).id for card in cards] == ["a"]
        valid(ModelInfo, await get(world, "/v1/models/a", ANTHROPIC))
        assert ModelList.model_validate(await get(world, "/v1/models", MISTRAL)).data
        assert valid(ollama.ListResponse, await get(world, "/api/tags")).models
        assert valid(ollama.ProcessResponse, await get(world, "/api/ps")).models
        valid(ollama.ShowResponse, await post(world, "/api/show", {}))
        async with world.http.post(
            f"{world.url}/api/pull", json={"model": "a"}, headers=BEARER
        ) as reply:
            lines = (await reply.text()).splitlines()
        told = [valid(ollama.ProgressResponse, json.loads(line)) for line in lines]
        assert told[-1].status == "success"


async def test_counts_and_vectors(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        await post(world, "/v1/chat/completions", chat())
        asked = {"messages": TURN}
        valid(MessageTokensCount, await post(world, "/v1/messages/count_tokens", asked))
        found = await post(world, "/v1/responses/input_tokens", {"input": "one two"})
        valid(InputTokenCountResponse, found)
        vectors = await post(world, "/v1/embeddings", {"input": ["x", "y"]})
        assert len(valid(of_openai.CreateEmbeddingResponse, vectors).data) == 2
        assert valid(ollama.EmbedResponse, await post(world, "/api/embed", {"input": "x"}))
        assert valid(
            ollama.EmbeddingsResponse, await post(world, "/api/embeddings", {"prompt": "x"})
        )


async def test_kept_responses(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "two"},
            {"role": "user", "content": "three"},
        ]
        made = valid(Response, await post(world, "/v1/responses", {"input": items}))
        where = f"/v1/responses/{made.id}"
        assert valid(Response, await get(world, where)) == made
        listed = await get(world, f"{where}/input_items?order=asc")
        page = valid(SyncCursorPage[ResponseItem], listed)
        assert [item.type for item in page.data] == [
            *("message", "function_call", "function_call_output", "message")
        ]
        async with world.http.delete(world.url + where, headers=BEARER) as reply:
            valid(_Deleted, await reply.json())


async def test_files_and_batches(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat()}
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", json.dumps(line).encode(), filename="lines.jsonl")
        async with world.http.post(f"{world.url}/v1/files", data=form, headers=BEARER) as reply:
            file = valid(of_openai.FileObject, await reply.json())
        body = {
            "input_file_id": file.id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"a": "b"},
        }
        batch = valid(of_openai.Batch, await post(world, "/v1/batches", body))
        assert valid(of_openai.Batch, await get(world, f"/v1/batches/{batch.id}")).id == batch.id
        found = valid(SyncCursorPage[of_openai.Batch], await get(world, "/v1/batches"))
        assert [one.id for one in found.data] == [batch.id]
        files = valid(SyncCursorPage[of_openai.FileObject], await get(world, "/v1/files"))
        assert [one.id for one in files.data] == [file.id]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_openais_answers(path: str, tmp_path: Path) -> None:
    asked = chat() if path.endswith("chat/completions") else {"prompt": "one", "max_tokens": 2}
    chats = "messages" in asked
    async with whole_server(tmp_path) as world:
        kind = of_openai.chat.ChatCompletion if chats else of_openai.Completion
        valid(kind, await post(world, path, asked))
        body = {"model": "a", **asked, "stream": True}
        async with world.http.post(world.url + path, json=body, headers=BEARER) as reply:
            events = (await reply.text()).removesuffix("\n\n").split("\n\n")
        assert events.pop() == "data: [DONE]"
        for event in events:
            document = json.loads(event.removeprefix("data: "))
            if chats:
                valid(of_openai.chat.ChatCompletionChunk, document)
                continue
            for choice in document["choices"]:  # the SDK's model knows no answer that goes on
                choice["finish_reason"] = choice["finish_reason"] or "stop"
            valid(of_openai.Completion, document)
