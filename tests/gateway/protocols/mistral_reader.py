"""How Mistral's official client reads answers: every document is one of its own models."""

import json
from typing import Any

import pydantic
from mistralai.client.models import CompletionEvent, FIMCompletionResponse

from tests.gateway.engine_corpus import BrokenOffError, Meaning


def fill_stream(data: bytes) -> Meaning:
    """As the client adds up a stream."""
    text, finish, usage = "", None, None
    blocks = [block for block in data.decode().split("\n\n") if block]
    over = False
    for block in blocks:
        kind, _, document = block.partition(": ")
        if not kind:
            continue  # a comment
        assert kind == "data"
        assert not over
        if document == "[DONE]":
            over = True
            continue
        try:
            event = CompletionEvent.model_validate({"data": json.loads(document)})
        except pydantic.ValidationError as problem:
            raise BrokenOffError(document) from problem
        choice = event.data.choices[0]
        assert finish is None
        text += str(choice.delta.content or "")
        finish, usage = choice.finish_reason, event.data.usage
    assert over
    return _meaning(text, finish, usage)


def fill_whole(data: bytes) -> Meaning:
    """As the client reads a document."""
    answer = FIMCompletionResponse.model_validate_json(data)
    (choice,) = answer.choices
    assert choice.message is not None
    return _meaning(str(choice.message.content), choice.finish_reason, answer.usage)


def _meaning(text: str, finish: Any, usage: Any) -> Meaning:
    assert usage is not None
    return Meaning(
        text=text,
        finish=finish,
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
    )
