"""Which fill-in-the-middle template a model gets: configured, of its files, of its name."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from slalom.assembly.fill_in import fim_of_command, fim_of_gguf, fim_of_remote
from slalom.assembly.launchers import launcher_for
from slalom.assembly.model_facts import facts_of
from slalom.config.engine_sections import CommandEngine, ModelSection, RemoteEngine
from slalom.config.fim_section import FimTokens
from slalom.models.fim import FimTemplate
from slalom.models.fim_families import BY_NAME
from slalom.models.sources import resolve
from tests.models.folders import make_folder

CMD = "vllm serve {} --port ${{PORT}}"


def command(**options: Any) -> CommandEngine:
    return CommandEngine(**{"cmd": CMD.format("some-model"), **options})


def remote(name: str, **options: Any) -> RemoteEngine:
    return RemoteEngine(base_url="http://127.0.0.1:1", model_name=name, **options)


def family(template: FimTemplate | None) -> str | None:
    return template.family if template is not None else None


def test_every_family_can_be_configured() -> None:
    known = get_args(FimTokens.model_fields["family"].annotation)
    assert set(known) == {"auto", "none", *BY_NAME}


def test_a_name_tells_where_no_file_is_here() -> None:
    assert family(fim_of_remote("m", remote("Qwen2.5-Coder-7B"))) == "qwen"
    assert fim_of_remote("m", remote("gpt-9")) is None
    assert family(fim_of_command("m", command(cmd=CMD.format("bigcode/starcoder2-3b")))) == (
        "starcoder2"
    )
    assert family(fim_of_command("codestral-22b", command())) == "codestral"
    assert fim_of_command("m", command()) is None


def test_a_folder_tells_more_than_its_name(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    marks = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"]
    added = {str(number): {"content": mark} for number, mark in enumerate(marks)}
    (path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    found = fim_of_command("m", command(cmd=CMD.format(path)))
    assert family(found) == "starcoder2"
    assert found is not None
    assert dict(found.engine_fields) == {"stop_token_ids": (3, 0, 1, 2)}


def test_what_is_configured_wins() -> None:
    none = FimTokens(family="none")
    assert fim_of_remote("m", remote("Qwen2.5-Coder-7B", fim=none)) is None
    assert family(fim_of_remote("m", remote("gpt-9", fim=FimTokens(family="deepseek")))) == (
        "deepseek"
    )
    own = FimTokens(prefix="[P]", suffix="[S]", suffix_first=True, stop=("[E]",))
    found = fim_of_remote("Qwen2.5-Coder", remote("Qwen2.5-Coder", fim=own))
    assert found is not None
    assert found.render("1", "2") == "[S]2[P]1"
    assert found.stops == ("[E]", "[P]", "[S]")
    more = fim_of_remote("m", remote("Qwen2.5-Coder-7B", fim=FimTokens(stop=("\n\n",))))
    assert more is not None
    assert more.stops == ("\n\n", *BY_NAME["qwen"].stops)


def test_a_configured_way_keeps_what_the_file_says_of_special_tokens() -> None:
    found = FimTemplate("<a>", "<b>", "<c>", special=("<odd>",))
    template = fim_of_gguf(FimTokens(family="qwen"), found)
    assert template is not None
    assert template.quiet("<odd>") == "< odd>"
    assert dict(template.engine_fields) == {"preserved_tokens": BY_NAME["qwen"].stops}
    assert fim_of_gguf(None, found) is found
    assert fim_of_gguf(FimTokens(family="none"), found) is None


@pytest.mark.parametrize("fim", [None, {"family": "none"}, {"family": "codestral"}])
def test_the_launcher_and_the_facts_say_the_same(fim: dict[str, Any] | None) -> None:
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-mini", "fim": fim}
    model = ModelSection.model_validate({"id": "m", "engine": engine})
    _, capabilities = launcher_for(model, tokens_max=9)
    named = fim["family"] if fim else None
    expected = "codestral" if named == "codestral" else None if named else "qwen"
    assert family(capabilities.fim) == expected
    assert facts_of(model, on_gpu=False).fills is (expected is not None)
    if fim is None:
        assert capabilities.fim == resolve("bundled:slalom-mini").metadata.fim


@pytest.mark.parametrize(
    ("engine", "most"),
    [
        ({"kind": "llama-cpp", "source": "bundled:slalom-mini"}, None),
        ({"kind": "command", "cmd": "any --port ${PORT}"}, 4),
        ({"kind": "remote", "base_url": "http://any.example"}, 4),
    ],
)
def test_who_takes_how_many_stop_texts(engine: dict[str, Any], most: int | None) -> None:
    """Engines that nobody knows may take as few as OpenAI's API, and vLLM refuses more."""
    model = ModelSection.model_validate({"id": "m", "engine": engine})
    assert launcher_for(model, tokens_max=9)[1].stops_max == most


@pytest.mark.parametrize(
    "options",
    [
        {"family": "gpt"},
        {"prefix": "x"},
        {"prefix": "x", "suffix": "y"},
        {"family": "qwen", "prefix": "x", "suffix": "y", "middle": "z"},
        {"suffix_first": True},
    ],
)
def test_half_a_way_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FimTokens(**options)
