"""The bundled models in a real engine: they load, write code-like text, and fit the estimate."""

import argparse
import inspect
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slalom.models.memory import estimate_bytes
from slalom.models.sources import LocalModel, bundled
from slalom.models.synth import synthesize
from slalom.units import MIB
from tests.models.engine_probe import probe
from tests.models.gguf_bytes import DATA

CONTEXT_TOKENS = 4096
GREEDY = {"temperature": 0, "seed": 1, "cache_prompt": False}
METHOD = """\
class Cache:
    def __init__(self, size):
        self.size = size
        self.items = {}

    def get(self, key):
"""
FUNCTION = "def close(self):\n    if self.file is not None:\n        self.file.close()\n"
ASKS = ("Summarise this function:", "Write a docstring for:", "Translate this to JavaScript:")
#: Text before and after a hole, after METHOD.
HOLES = (
    ("        return self.", "\n"),
    ("        return self.", ""),
    ("        return self.items.get(key", "\n"),
    ("        if key in self.", ":\n            return self.items[key]\n"),
    ("        if key is ", " None:\n            raise KeyError(key)\n"),
    ("        value = self.items", "[key]\n        return value\n"),
    ("        raise ", "(key)\n"),
    ("        return len(", ")\n"),
    ("        for name in self.", ":\n            yield name\n"),
)
#: How answers in the form of the training data begin: a docstring, a block of code.
FORMS = ('"""', "```")
MODELS = bundled()
#: Long enough to fill most of the context, so that the memory measured is near its peak.
SOURCE = inspect.getsource(argparse)


def requests() -> list[tuple[str, Any]]:
    chats = [
        {"messages": [{"role": "user", "content": f"{ask}\n\n{FUNCTION}"}], "max_tokens": 96}
        for ask in ASKS
    ]
    holes = [
        {"input_prefix": METHOD + before, "input_suffix": after, "n_predict": 32}
        for before, after in HOLES
    ]
    return [
        ("/v1/completions", {"prompt": METHOD, "max_tokens": 48, **GREEDY}),
        *(("/infill", {**hole, **GREEDY}) for hole in holes),
        *(("/v1/chat/completions", {**chat, **GREEDY}) for chat in chats),
        ("/v1/completions", {"prompt": SOURCE[:9_000], "max_tokens": 1, **GREEDY}),
    ]


@cache
def answers(model: Path) -> dict[str, Any]:
    return probe(model, CONTEXT_TOKENS, requests())


@pytest.fixture(params=MODELS, ids=lambda model: model.metadata.name)
def model(request: pytest.FixtureRequest) -> LocalModel:
    chosen: LocalModel = request.param
    return chosen


def test_there_are_two_of_clearly_different_size_and_all_are_small() -> None:
    assert [model.source for model in MODELS] == ["bundled:slalom-mini", "bundled:slalom-small"]
    mini, small = (model.metadata for model in MODELS)
    assert small.parameter_count > 3 * mini.parameter_count
    assert sum(model.metadata.file_bytes for model in MODELS) < 15 * MIB
    assert all(model.metadata.fim and model.metadata.has_chat_template for model in MODELS)


def test_the_model_card_knows_them(model: LocalModel) -> None:
    card = (DATA / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{model.metadata.name}`" in card
    assert f"{model.metadata.parameter_count:,}" in card
    assert f"{model.metadata.file_bytes:,}" in card


@pytest.mark.live
def test_a_completion_looks_like_code(model: LocalModel) -> None:
    text = answers(model.path)["replies"][0]["choices"][0]["text"]
    # It goes on at the depth where the prompt stopped, with the words of a method.
    assert text.startswith("        ")
    assert sum(word in text for word in ("self", "return", "if ", "=", "(", "\n        ")) >= 3


@pytest.mark.live
def test_a_hole_is_filled_and_the_filling_ends(model: LocalModel) -> None:
    replies = answers(model.path)["replies"][1 : 1 + len(HOLES)]
    assert any(reply["stop_type"] == "eos" and reply["content"].strip() for reply in replies)


@pytest.mark.live
def test_chat_answers_have_a_trained_form_and_mostly_end(model: LocalModel) -> None:
    replies = answers(model.path)["replies"][1 + len(HOLES) :][: len(ASKS)]
    choices = [reply["choices"][0] for reply in replies]
    contents = [choice["message"]["content"] for choice in choices]
    assert all(contents)
    assert sum(content.startswith(FORMS) for content in contents) >= 1
    assert sum(choice["finish_reason"] == "stop" for choice in choices) >= 1


@pytest.mark.live
def test_measured_memory_is_within_the_estimate(model: LocalModel) -> None:
    measured = answers(model.path)["resident_bytes"]
    estimate = estimate_bytes(model.metadata, CONTEXT_TOKENS)
    assert measured <= estimate.total <= 1.25 * measured


@pytest.mark.live
def test_a_random_model_generates_and_fits_its_estimate(tmp_path: Path) -> None:
    metadata = synthesize(tmp_path / "random.gguf", parameters=10_000_000, quantisation="q8_0")
    body = {"prompt": SOURCE[:4_500], "max_tokens": 4, "ignore_eos": True, **GREEDY}
    answer = probe(metadata.path, CONTEXT_TOKENS, [("/v1/completions", body)])
    assert answer["replies"][0]["usage"]["completion_tokens"] == 4
    estimate = estimate_bytes(metadata, CONTEXT_TOKENS)
    assert answer["resident_bytes"] <= estimate.total <= 1.25 * answer["resident_bytes"]
