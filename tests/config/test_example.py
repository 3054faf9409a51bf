"""The example holds every option, loads to the defaults, and its switched-off parts work."""

import re
from pathlib import Path

from slalom.config import Config, load
from slalom.config.bounds import bounds_text
from slalom.config.example import example
from slalom.config.fields import Section
from slalom.config.tree import Shape, field_shape, known_paths


def sections() -> list[type[Section]]:
    found: list[type[Section]] = []
    stack = [Shape(sections=(Config,))]
    while stack:
        shape = stack.pop()
        stack += [below for below in (shape.item, shape.value) if below is not None]
        for section in shape.sections:
            if section not in found:
                found.append(section)
                stack += [field_shape(section, name) for name in section.model_fields]
    return found


def switched_on(text: str) -> str:
    return re.sub(r"(?m)^( *)#(?![ \n])", r"\1", text)


def test_it_loads_to_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "slalom.yaml"
    path.write_text(example(), encoding="utf-8")
    assert load(path, environ={})[0] == Config()


def test_it_holds_every_option_with_a_sentence_and_its_bounds() -> None:
    text = " ".join(line.strip().removeprefix("#").strip() for line in example().splitlines())
    assert len(sections()) > 15
    for section in sections():
        for name, field in section.model_fields.items():
            where = f"{section.__name__}.{name}"
            assert f"{name}:" in text or name == "kind", where
            assert field.description, where
            assert field.description in text, where
            assert bounds_text(section, name) in text, where


def test_what_is_switched_off_can_be_switched_on(tmp_path: Path) -> None:
    path = tmp_path / "slalom.yaml"
    path.write_text(switched_on(example()), encoding="utf-8")
    config, _ = load(path, environ={})
    kinds = {model.engine.kind for model in config.models}
    assert kinds == {"llama-cpp", "vllm", "command", "remote"}
    assert config.keys
    assert config.rules
    assert "completion" in config.tasks


def test_every_number_is_bounded_below() -> None:
    words = ("whole number", "number")
    for section in sections():
        for name in section.model_fields:
            text = bounds_text(section, name)
            assert text not in {f"[{word}]" for word in words}, f"{section.__name__}.{name}"


def test_no_line_is_longer_than_the_house_allows() -> None:
    assert max(map(len, example().splitlines())) <= 100


def test_paths_of_the_schema_are_known_by_their_spelling() -> None:
    paths = set(known_paths(Config))
    assert {"server.port", "models[].engine.places", "tasks.*.ttft_ms"} <= paths
