"""How llama.cpp's own clients read answers: by the fields of its server's documents."""

import json
from typing import Any

from tests.gateway.engine_corpus import BrokenOffError, Meaning

#: What every last document has.
FINAL = {
    *("index", "content", "tokens", "id_slot", "stop", "model", "tokens_predicted"),
    *("tokens_evaluated", "generation_settings", "prompt", "has_new_line", "truncated"),
    *("stop_type", "stopping_word", "tokens_cached", "timings"),
}
TIMINGS = {
    *("cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second"),
    *("predicted_n", "predicted_ms", "predicted_per_token_ms", "predicted_per_second"),
}


def documents(data: bytes) -> list[dict[str, Any]]:
    """The documents of a stream; comments are skipped, an error raises."""
    found = []
    for block in data.decode().split("\n\n"):
        if block.startswith("data: "):
            document = json.loads(block[6:])
            if "error" in document:
                raise BrokenOffError(document["error"]["message"])
            found.append(document)
        else:
            assert not block or block.startswith(":")
    return found


def read_stream(data: bytes) -> Meaning:
    """As a client adds up the pieces."""
    *pieces, last = documents(data)
    assert all(piece["stop"] is False for piece in pieces)
    assert last["content"] == ""
    return _meaning("".join(piece["content"] for piece in pieces), last)


def read_whole(data: bytes) -> Meaning:
    """As a client reads one that is not streamed."""
    document = json.loads(data)
    return _meaning(document["content"], document)


def _meaning(text: str, last: dict[str, Any]) -> Meaning:
    assert last["stop"] is True
    assert last.keys() >= FINAL
    assert last["timings"].keys() >= TIMINGS
    assert last["has_new_line"] == ("\n" in text)
    return Meaning(
        text=text,
        finish="length" if last["stop_type"] == "limit" else "stop",
        prompt_tokens=last["tokens_evaluated"],
        output_tokens=last["tokens_predicted"],
    )
