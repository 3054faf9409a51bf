"""The configuration as plain data: for YAML and JSON, and as a flat list with origins.

Owns the masking of secrets: nothing that leaves here as text holds one. Called by the command
line and by the example's generator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import SecretStr

from slalom.config.fields import Section
from slalom.config.origins import DEFAULT, Origins
from slalom.config.tree import KeyPath, path_text

MASK = "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value with its place and where it came from."""

    path: str
    value: Any
    origin: str


def plain(section: Section) -> dict[str, Any]:
    """A section as nested dicts, lists and scalars, secrets masked."""
    found = _plain(section.model_dump(mode="python"))
    assert isinstance(found, dict)  # noqa: S101 - a section is a mapping
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(below) for below in value]
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, PurePath) else value


def settings(section: Section, origins: Origins) -> Iterator[Setting]:
    """Every value, in the order of the schema."""
    yield from _settings(plain(section), (), origins)


def _settings(value: Any, path: KeyPath, origins: Origins) -> Iterator[Setting]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _settings(below, (*path, key), origins)
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        for index, entry in enumerate(value):
            yield from _settings(entry, (*path, index), origins)
    else:
        yield Setting(path_text(path), value, _origin(path, origins))


def _origin(path: KeyPath, origins: Origins) -> str:
    """Exactly this value's origin; a value inside a list or a variable has the whole's."""
    exact = origins.exactly(path)
    if exact is not None:
        return exact
    whole = origins.of(path)
    return DEFAULT if origins.file is not None and whole.startswith(f"{origins.file}:") else whole


def to_yaml(data: Any) -> str:
    """YAML in the order given, one entry a line."""
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return text


def inline_yaml(value: Any) -> str:
    """A scalar or a short list as it stands behind a key."""
    text: str = yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, width=1 << 20, default_flow_style=True
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
