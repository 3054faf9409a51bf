"""For each protocol a request of each kind, and how its official client reads the answers.

A new row of `registry.PROTOCOLS` needs rows here: test_protocol_frame tells. A reader takes the
bytes of a streamed or a whole answer, checks every document against the official SDK's models,
and says what the client understood.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pydantic
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent

from tests.gateway.engine_corpus import BrokenOffError, Meaning
from tests.gateway.protocols import llama_cpp_reader, mistral_reader, ollama_reader

MESSAGES = [{"role": "user", "content": "one two three"}]


@dataclass(frozen=True)
class Sample:
    """One inference route of a protocol that answers with a text."""

    #: A small valid body, without `stream`.
    body: dict[str, Any]
    #: What asks for a stream.
    streams: dict[str, Any]
    #: Reads a streamed answer; `BrokenOffError` for one that ends with an error.
    read_stream: Callable[[bytes], Meaning]
    read_whole: Callable[[bytes], Meaning]
    #: Whether the protocol can tell tools and reasoning; what it cannot tell is not compared.
    tools: bool = True
    thoughts: bool = True


def sse(data: bytes) -> Iterator[tuple[str, Any]]:
    """Event name and document of each event; comments are skipped."""
    for block in data.decode().split("\n\n"):
        name, documents = "", []
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                documents.append(value)
        if documents:
            yield name, json.loads("\n".join(documents))


_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)
_ERROR: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ErrorResponse)
_FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def anthropic_stream(data: bytes) -> Meaning:
    """As the SDK adds up the events of a message."""
    blocks: list[dict[str, Any]] = []
    open_block, finish, usage, over = -1, None, None, False
    for name, document in sse(data):
        assert name == document["type"]
        assert not over
        if name == "error":
            _ERROR.validate_python(document)
            raise BrokenOffError(document["error"]["message"])
        if name == "ping":
            continue
        event = _EVENT.validate_python(document)
        match event.type:
            case "content_block_start":
                assert open_block < 0
                assert event.index == len(blocks)
                open_block = event.index
                blocks.append({**event.content_block.model_dump(), "json": ""})
            case "content_block_delta":
                assert event.index == open_block
                _add(blocks[event.index], event.delta)
            case "content_block_stop":
                assert event.index == open_block
                open_block = -1
            case "message_delta":
                finish, usage = event.delta.stop_reason, event.usage
            case "message_stop":
                over = True
    assert over
    assert open_block < 0
    assert usage is not None
    return _meaning(blocks, finish, usage)


def _add(block: dict[str, Any], delta: Any) -> None:
    match delta.type:
        case "text_delta":
            block["text"] += delta.text
        case "thinking_delta":
            block["thinking"] += delta.thinking
        case "input_json_delta":
            block["json"] += delta.partial_json


def anthropic_whole(data: bytes) -> Meaning:
    """As the SDK reads a message."""
    message = Message.model_validate_json(data)
    blocks = [block.model_dump() for block in message.content]
    for block in blocks:
        block["json"] = json.dumps(block.get("input"))
    return _meaning(blocks, message.stop_reason, message.usage)


def _meaning(blocks: list[dict[str, Any]], finish: str | None, usage: Any) -> Meaning:
    return Meaning(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thought="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        tools=tuple(
            (block["id"], block["name"], block["json"])
            for block in blocks
            if block["type"] == "tool_use"
        ),
        finish=_FINISH[str(finish)],
        prompt_tokens=usage.input_tokens + usage.cache_read_input_tokens,
        output_tokens=usage.output_tokens,
    )


_RESPONSE_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)


def responses_stream(data: bytes) -> Meaning:
    """As the SDK adds up the events of a response, and as the last event has it."""
    items: dict[int, dict[str, Any]] = {}
    response: Response | None = None
    for number, (name, document) in enumerate(sse(data)):
        assert response is None
        assert name == document["type"]
        event = _RESPONSE_EVENT.validate_python(document)
        assert event.sequence_number == number
        match event.type:
            case "response.output_item.added":
                assert event.output_index == len(items)
                items[event.output_index] = {"id": event.item.id, "text": "", "done": False}
            case (
                "response.output_text.delta"
                | "response.reasoning_text.delta"
                | "response.function_call_arguments.delta"
            ):
                item = items[event.output_index]
                assert item["id"] == event.item_id
                assert not item["done"]
                item["text"] += event.delta
            case "response.output_text.done" | "response.reasoning_text.done":
                assert items[event.output_index]["text"] == event.text
            case "response.function_call_arguments.done":
                assert items[event.output_index]["text"] == event.arguments
            case "response.output_item.done":
                items[event.output_index]["done"] = event.item
            case "response.failed":
                raise BrokenOffError(event.response.error.message)
            case "response.completed" | "response.incomplete":
                response = event.response
    assert response is not None
    assert [item["done"] for item in items.values()] == response.output
    return _of_response(response)


def responses_whole(data: bytes) -> Meaning:
    """As the SDK reads a response."""
    return _of_response(Response.model_validate_json(data))


def _of_response(response: Response) -> Meaning:
    assert response.usage is not None
    thoughts, tools = [], []
    for item in response.output:
        if item.type == "reasoning":
            thoughts += [part.text for part in item.content or ()]
        elif item.type == "function_call":
            tools += [(item.call_id, item.name, item.arguments)]
    cut = response.incomplete_details is not None
    return Meaning(
        text=response.output_text,
        thought="".join(thoughts),
        tools=tuple(tools),
        finish="length" if cut else "stop",
        prompt_tokens=response.usage.input_tokens,
        output_tokens=response.usage.output_tokens,
    )


#: By inference path. Routes without text (embeddings) have no row.
SAMPLES: dict[str, Sample] = {
    "/v1/messages": Sample(
        {"model": "a", "max_tokens": 9, "messages": MESSAGES},
        {"stream": True},
        anthropic_stream,
        anthropic_whole,
    ),
    "/v1/responses": Sample(
        {"model": "a", "max_output_tokens": 9, "input": "one two three"},
        {"stream": True},
        responses_stream,
        responses_whole,
    ),
    "/v1/fim/completions": Sample(
        {"model": "a", "max_tokens": 9, "prompt": "one two three"},
        {"stream": True},
        mistral_reader.fill_stream,
        mistral_reader.fill_whole,
        tools=False,
        thoughts=False,
    ),
    "/api/generate": Sample(
        {"model": "a", "prompt": "one two three", "options": {"num_predict": 9}},
        {"stream": True},
        ollama_reader.generate_stream,
        ollama_reader.generate_whole,
        tools=False,
    ),
    "/api/chat": Sample(
        {"model": "a", "messages": MESSAGES, "options": {"num_predict": 9}},
        {"stream": True},
        ollama_reader.chat_stream,
        ollama_reader.chat_whole,
    ),
    **{
        path: Sample(
            {"model": "a", "n_predict": 9, **text},
            {"stream": True},
            llama_cpp_reader.read_stream,
            llama_cpp_reader.read_whole,
            tools=False,
            thoughts=False,
        )
        for path, text in {
            "/completion": {"prompt": "one two three"},
            "/completions": {"prompt": "one two three"},
            "/infill": {"input_prefix": "one two", "input_suffix": " three"},
        }.items()
    },
}

#: Paths that are told in no other words than OpenAI's, or have no text.
PLAIN = frozenset(
    (
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        *("/api/embed", "/api/embeddings"),
    )
)
