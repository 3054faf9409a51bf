"""How Ollama's official client reads answers: every line is one of its own models."""

import json
from collections.abc import Iterator
from typing import Any

from ollama import ChatResponse, GenerateResponse

from tests.gateway.engine_corpus import BrokenOffError, Meaning

#: Fields of the last document that every client adds up.
COUNTS = ("prompt_eval_count", "eval_count")
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def lines(data: bytes) -> Iterator[dict[str, Any]]:
    """As the client reads a stream: a document a line, an error raises, none is empty."""
    assert not data or data.endswith(b"\n")
    over = False
    for text in data.splitlines():
        document = json.loads(text)
        assert not over
        if "error" in document:
            raise BrokenOffError(document["error"])
        over = document["done"]
        yield document
    assert over


def generate_stream(data: bytes) -> Meaning:
    """As the client adds up `/api/generate`."""
    parts = [GenerateResponse(**document) for document in lines(data)]
    texts = [(part.response or "", part.thinking or "") for part in parts]
    return _meaning(texts, (), parts[-1])


def generate_whole(data: bytes) -> Meaning:
    """As the client reads one that is not streamed."""
    answer = GenerateResponse(**json.loads(data))
    return _meaning([(answer.response or "", answer.thinking or "")], (), answer)


def chat_stream(data: bytes) -> Meaning:
    """As the client adds up `/api/chat`."""
    documents = list(lines(data))
    parts = [ChatResponse(**document) for document in documents]
    texts = [(part.message.content or "", part.message.thinking or "") for part in parts]
    return _meaning(texts, [call for one in documents for call in _calls(one)], parts[-1])


def chat_whole(data: bytes) -> Meaning:
    """As the client reads one that is not streamed."""
    document = json.loads(data)
    answer = ChatResponse(**document)
    texts = [(answer.message.content or "", answer.message.thinking or "")]
    return _meaning(texts, _calls(document), answer)


def _calls(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The calls of a document; its ids are not in the client's models yet."""
    found = []
    for call in document["message"].get("tool_calls", ()):
        function = call["function"]
        found += [(call["id"], function["name"], json.dumps(function["arguments"]))]
    read = ChatResponse(**document).message.tool_calls or ()
    assert [dict(call.function.arguments) for call in read] == [json.loads(one[2]) for one in found]
    return found


def _meaning(texts: list[tuple[str, str]], calls: Any, last: Any) -> Meaning:
    assert last.done
    assert all(getattr(last, name) >= 0 for name in (*COUNTS, *DURATIONS))
    return Meaning(
        text="".join(text for text, _ in texts),
        thought="".join(thought for _, thought in texts),
        tools=tuple(calls),
        finish=last.done_reason,
        prompt_tokens=last.prompt_eval_count,
        output_tokens=last.eval_count,
    )
