"""A YAML file as plain data, with the line on which each value stands.

Owns the reading of configuration files: size bound, duplicate keys, line numbers. Knows nothing
of the schema. Called by `load`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slalom.config.tree import KeyPath, path_text
from slalom.errors import ConfigError

#: A configuration is written by people; more than this is a mistake.
MAX_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MAX_DEPTH = 32
#: A text, and YAML's own key for taking another mapping's entries.
_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content."""

    path: Path
    data: dict[str, Any]
    #: Line (from 1) of each key and list entry.
    lines: dict[KeyPath, int]


def read_document(path: Path, *, absent: str | None = None) -> Document:
    """Read a YAML file whose top is a mapping; an empty file is an empty mapping.

    Args:
        path: The file.
        absent: What to do where there is no such file; None tells how a configuration begins.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or says one key twice.
    """
    hint = absent or f"'slalom config example > {path.name}' writes one to start from"
    text = _read_text(path, hint)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(path, {}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: the top of the file must be sections such as 'server:'")
        lines = dict(_lines(path, node))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deep to be a configuration") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    return Document(path, data, lines)


def _read_text(path: Path, hint: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB: not a configuration")
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {hint}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None


def _lines(path: Path, root: yaml.Node) -> Iterator[tuple[KeyPath, int]]:
    """Lines of all values; refuses duplicate keys, which YAML's loader would swallow."""
    stack: list[tuple[KeyPath, yaml.Node]] = [((), root)]
    count = 0
    while stack:
        at, node = stack.pop()
        count += 1
        if count > _MAX_VALUES or len(at) > _MAX_DEPTH:
            raise ConfigError(f"{path}: nested or repeated too often to be a configuration")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key_node, value_node in node.value:
                key, line = str(key_node.value), key_node.start_mark.line + 1
                below: KeyPath = (*at, key)
                if key_node.tag not in _KEY_TAGS:
                    raise ConfigError(f"{path}:{line}: the key {key} must be text: quote it")
                if key in seen:
                    raise ConfigError(f"{path}:{line}: {path_text(below)} is given twice")
                seen.add(key)
                yield below, line
                stack.append((below, value_node))
        elif isinstance(node, yaml.SequenceNode):
            for index, entry in enumerate(node.value):
                yield (*at, index), entry.start_mark.line + 1
                stack.append(((*at, index), entry))
