"""Reads the configuration: file, over it the environment, over that the command line's flags.

Owns the order of the layers, the names of environment variables and where files are looked for.
`load` is the one entry, used by the command line and by assembly.
"""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slalom.config.document import read_document
from slalom.config.origins import Origins
from slalom.config.places import anchor
from slalom.config.problems import config_error, locate
from slalom.config.schema import Config
from slalom.config.tree import KeyPath, Shape, path_text
from slalom.errors import ConfigError

#: Environment variables are this, then the path with ``__`` between its keys.
ENV_PREFIX = "SLALOM__"
FILE_NAME = "slalom.yaml"


def load(
    path: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Config, Origins]:
    """Read the configuration; without any file it is the built-in one.

    Args:
        path: The file; None looks for ``slalom.yaml`` here, then in the user's folder.
        flags: Values from the command line by dotted path (``server.port``,
            ``devices.0.budget``); None is not given.
        environ: Environment variables; None takes the process's.

    Raises:
        ConfigError: Something is wrong; the message has one line per problem.
    """
    env = os.environ if environ is None else environ
    file = path if path is not None else find_file(env)
    origins = Origins(file=file)
    data: dict[str, Any] = {}
    if file is not None:
        document = read_document(file)
        data = document.data
        for at, line in document.lines.items():
            origins.note_line(at, line)
    raw = _apply_environment(data, origins, env)
    for name, value in (flags or {}).items():
        if value is not None:
            at = tuple(int(key) if key.isdecimal() else key for key in name.split("."))
            flag = f"--{name.rpartition('.')[2].replace('_', '-')}"
            _set(flag, data, at, value)
            origins.note(at, flag)
    return anchor(_validate(data, origins, raw), origins), origins


def find_file(environ: Mapping[str, str]) -> Path | None:
    """``slalom.yaml`` of the current folder, else of the user's configuration folder."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    for candidate in (Path(FILE_NAME), Path(home) / "slalom" / FILE_NAME):
        if candidate.is_file():
            return candidate
    return None


def _apply_environment(
    data: dict[str, Any], origins: Origins, environ: Mapping[str, str]
) -> dict[KeyPath, str]:
    """Write the environment's values into `data`; returns their texts by path."""
    raw: dict[KeyPath, str] = {}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        at = _env_path(name)
        text = environ[name]
        _set(name, data, at, _read_value(text))
        origins.note(at, name)
        raw[at] = text
    return raw


def _read_value(text: str) -> object:
    """A variable's value as YAML; what is not YAML is a text."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _env_path(name: str) -> KeyPath:
    """``SLALOM__MODELS__0__PINNED`` -> ("models", 0, "pinned")."""
    path: KeyPath = ()
    shape: Shape | None = Shape(sections=(Config,))
    for part in name.removeprefix(ENV_PREFIX).split("__"):
        is_entry = shape is not None and shape.item is not None and part.isdecimal()
        # The names of an engine's own environment variables keep their case.
        keeps_case = shape is not None and shape.value is not None and shape.value.secret
        key: str | int = int(part) if is_entry else part if keeps_case else part.lower()
        path = (*path, key)
        shape = shape.child(key) if shape is not None else None
    return path


def _set(origin: str, data: dict[str, Any], path: KeyPath, value: object) -> None:
    try:
        _put(data, path, value)
    except (LookupError, TypeError, AttributeError):
        raise ConfigError(
            f"{origin}: cannot set {path_text(path)}: what stands above it is no section or list, "
            "or list positions do not go from 0 without gaps"
        ) from None


def _put(data: Any, path: KeyPath, value: object) -> None:
    """Set a value in nested data, making what is missing on the way."""
    for key, following in itertools.pairwise(path):
        if isinstance(key, int) and key == len(data):
            data.append({})
        elif not isinstance(key, int) and data.get(key) is None:
            data[key] = [] if isinstance(following, int) else {}
        data = data[key]
    last = path[-1]
    if isinstance(last, int) and last == len(data):
        data.append(value)
    else:
        data[last] = value


def _validate(data: dict[str, Any], origins: Origins, raw: dict[KeyPath, str]) -> Config:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        again = _as_text(error, data, raw)
        if not again:
            raise config_error(error, Config, origins) from None
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise config_error(error, Config, origins) from None


def _as_text(error: ValidationError, data: dict[str, Any], raw: dict[KeyPath, str]) -> bool:
    """Where text was wanted, take a variable's own text (a key ``0123`` is not a number)."""
    changed = False
    for problem in error.errors(include_url=False, include_input=False):
        path, _ = locate(Config, problem["loc"])
        if problem["type"] == "string_type" and path in raw:
            _put(data, path, raw[path])
            changed = True
    return changed
