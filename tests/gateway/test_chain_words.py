"""What the OpenAPI document says of `slalom_chain`, and what is taken, is the same."""

from typing import Any

import jsonschema_rs
import pytest

from slalom.errors import RequestError
from slalom.gateway.chain_words import DEADLINE_MS_MAX, FIELD, read_words
from slalom.gateway.openapi_chains import WORDS
from tests.gateway.house import house

_NUMBERS: list[Any] = [
    *(0, 1, 2.0, 2.5, 64, 65, -1, True, None, [], {}, 1e300),
    *("0", "1", "9", "10", "64", "65", "00000064", "000000064", "00000001", "000000001", "1.0", ""),
    *("review", "1st", "a" * 128, "a" * 129, "1" * 127 + "a", "sp ace", "\u0663"),
]
_TOLD: list[Any] = [
    *({"id": one} for one in ("c", "", "a b", "a" * 128, "a" * 129, "é")),
    *({"id": "c", "step": one} for one in _NUMBERS),
    *({"id": "c", "steps": one} for one in _NUMBERS),
    *({"id": "c", "deadline_ms": one} for one in (0, 0.5, 1, 2.5, -1, 1e300)),
    *({"id": "c", "deadline_ms": one} for one in (DEADLINE_MS_MAX, DEADLINE_MS_MAX + 1)),
    *({"id": "c", name: "5"} for name in ("template", "deadline_ms")),
    *({"id": "c", name: ""} for name in ("template", "deadline_ms")),
    *({"id": "c", name: None} for name in ("template", "deadline_ms")),
    *({"id": "c", name: True} for name in ("template", "deadline_ms")),
    *({"id": None}, {"id": 7}, {}, {"step": 1}, {"id": "c", "stp": 1}, [], "c", 7),
]


@pytest.mark.parametrize("told", _TOLD, ids=ascii)
def test_the_document_allows_what_is_taken_and_nothing_else(told: object) -> None:
    try:
        taken = read_words({}, told) is not None
    except RequestError:
        taken = False
    assert taken == jsonschema_rs.is_valid(WORDS, told)


def test_numbers_mean_the_same_however_they_are_written() -> None:
    header = {"x-slalom-chain": "c", "x-slalom-chain-step": " 3", "x-slalom-chain-steps": "03"}
    header["x-slalom-chain-deadline-ms"] = "5e3"
    told = {"id": "c", "step": 3.0, "steps": "3", "deadline_ms": 5000}
    assert read_words(header, None) == read_words({}, told)


async def test_every_call_to_a_model_may_say_its_chain_and_nothing_else_may() -> None:
    async with house() as world:
        document = (await world.get("/openapi.json"))[1]
    assert document["components"]["schemas"]["ChainWords"]["required"] == ["id"]
    told = {path for path in document["paths"] if FIELD in str(document["paths"][path])}
    plain = {path for path in told if not path.startswith("/v1/estimate")}
    assert {"/v1/chat/completions", "/v1/messages", "/api/chat", "/completion"} <= plain
    assert told == plain | {f"/v1/estimate{path}" for path in plain} | {"/v1/estimate"}
    assert not plain & {"/v1/models", "/v1/chains", "/v1/messages/count_tokens", "/tokenize"}
