"""Turns what pydantic found wrong into messages for people.

Owns the wording: which file and line (or variable, or flag), which key, what is wrong, what is
meant instead. Never quotes a secret. Called by `load` with the errors of one validation.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from slalom.config.fields import Section
from slalom.config.nearest import nearest
from slalom.config.origins import DEFAULT, Origins
from slalom.config.tree import KeyPath, Shape, known_paths, path_text
from slalom.errors import ConfigError

#: A path as people read it, such as ``models[0].device``, and its keys.
_PATH = re.compile(r"([a-z_]+(?:\.[\w-]+|\[\d+\])*): ")
_KEY = re.compile(r"([\w-]+)(?![\w\]-])|\[(\d+)\]")
_MAX_QUOTED = 60
_MAX_PROBLEMS = 20

_FIXED = {
    "missing": "is required here",
    "model_type": "must be a section with options of its own",
    "model_attributes_type": "must be a section with options of its own",
    "dict_type": "must be a section with options of its own",
    "tuple_type": "must be a list",
}


def config_error(error: ValidationError, root: type[Section], origins: Origins) -> ConfigError:
    """One `ConfigError` that lists every problem, one line each."""
    lines: dict[KeyPath, str] = {}
    for problem in error.errors(include_url=False):
        path, shape = locate(root, problem["loc"])
        wording = _wording(problem, path, shape, root)
        if not path:
            path, wording = _own_path(wording)
        lines.setdefault(path, _line(path, wording, origins))
    found = list(lines.values())[:_MAX_PROBLEMS]
    if len(found) == 1:
        return ConfigError(found[0])
    return ConfigError(f"{len(lines)} problems in the configuration:\n  " + "\n  ".join(found))


def _own_path(wording: str) -> tuple[KeyPath, str]:
    """The path that a check of the whole configuration begins its words with, and the rest."""
    found = _PATH.match(wording)
    if found is None:
        return (), wording
    keys = (int(place) if place else name for name, place in _KEY.findall(found[1]))
    return tuple(keys), wording[found.end() :]


def locate(root: type[Section], loc: Sequence[int | str]) -> tuple[KeyPath, Shape]:
    """The path people know for pydantic's location, and the shape that holds its last key."""
    shape, holder = Shape(sections=(root,)), Shape(sections=(root,))
    path: KeyPath = ()
    for part in loc:
        chosen = shape.choose(part)
        if chosen is not None:
            shape = holder = chosen
            continue
        below = shape.child(part)
        if below is None and not shape.sections:
            break  # Inside a union of plain values: pydantic's own words, not the user's.
        path, holder = (*path, part), shape
        if below is None:
            break
        shape = below
    return path, holder


def _line(path: KeyPath, wording: str, origins: Origins) -> str:
    where = origins.near(path)
    key = path_text(path)
    prefix = "" if where == DEFAULT else f"{where}: "
    return f"{prefix}{key}: {wording}" if key else f"{prefix}{wording}"


def _wording(problem: Any, path: KeyPath, holder: Shape, root: type[Section]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"no such option; {_meant(str(path[-1]), holder, root)}"
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == "union_tag_not_found":
        return f"needs a kind: {', '.join(_tags(path, root))}"
    if kind == "union_tag_invalid":
        tag = str(context.get("tag"))
        return f"there is no kind {tag!r}; {nearest(tag, _tags(path, root))}"
    if kind == "value_error":
        return str(context.get("error", problem["msg"]))
    if kind == "string_type":
        return f"must be text; put it in quotes{_quoted(problem, path, root)}"
    wording = re.sub(r"^\w+ should ", "must ", str(problem["msg"]))
    return f"{wording}{_quoted(problem, path, root)}"


def _meant(word: str, holder: Shape, root: type[Section]) -> str:
    known = holder.names()
    if not difflib.get_close_matches(word, known, n=1, cutoff=0.6):
        elsewhere = [p for p in known_paths(root) if p.rpartition(".")[2] == word]
        if elsewhere:
            return f"did you mean {elsewhere[0]}?"
    return nearest(word, known)


def _tags(path: KeyPath, root: type[Section]) -> list[str]:
    shape = Shape(sections=(root,))
    for part in path:
        shape = shape.child(part) or Shape()
    return [str(section.model_fields["kind"].default) for section in shape.sections]


def _quoted(problem: Any, path: KeyPath, root: type[Section]) -> str:
    """The value, where it is short and no secret."""
    shape: Shape | None = Shape(sections=(root,))
    for part in path:
        shape = shape.child(part) if shape is not None else None
    value = problem.get("input")
    if shape is None or shape.secret or not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f" (it is {text})" if len(text) <= _MAX_QUOTED else ""
