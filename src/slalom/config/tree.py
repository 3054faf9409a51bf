"""The schema as a tree that can be walked by key: for error messages, origins and the example.

Owns the reading of pydantic's annotations, so that no other module looks inside them. Reads
`Section` classes; knows no option by name.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import SecretStr

from slalom.config.fields import Section

#: Where a value stands: option names and list positions from the root.
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand at one place of the configuration."""

    #: Sections that may stand here; several form a union told apart by `kind`.
    sections: tuple[type[Section], ...] = ()
    #: Shape of the entries where a list may stand here.
    item: "Shape | None" = None
    #: Shape of the values where a mapping with free keys may stand here.
    value: "Shape | None" = None
    optional: bool = False
    secret: bool = False

    @property
    def item_is_section(self) -> bool:
        """Whether this is a list or a mapping of sections."""
        below = self.item or self.value
        return below is not None and bool(below.sections)

    def child(self, key: str | int) -> "Shape | None":
        """The shape below `key`, or None if nothing may stand there."""
        if self.item is not None and isinstance(key, int):
            return self.item
        if self.value is not None and isinstance(key, str):
            return self.value
        for section in self.sections:
            if key in section.model_fields:
                return field_shape(section, str(key))
        return None

    def names(self) -> list[str]:
        """Option names that may stand here, in the order of the schema."""
        return list(dict.fromkeys(name for s in self.sections for name in s.model_fields))

    def choose(self, kind: object) -> "Shape | None":
        """The one section of a union whose `kind` this is."""
        if len(self.sections) < 2:
            return None
        chosen = tuple(s for s in self.sections if s.model_fields["kind"].default == kind)
        return Shape(sections=chosen) if chosen else None


def field_shape(section: type[Section], name: str) -> Shape:
    """The shape of one option of a section."""
    return _shape(section.model_fields[name].annotation)


def _shape(annotation: Any) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0])
    if origin in {Union, types.UnionType}:
        return _union([_shape(a) for a in arguments if a is not type(None)], arguments)
    if origin is tuple and arguments[1:] == (...,):
        return Shape(item=_shape(arguments[0]))
    if origin in {dict, Mapping}:
        return Shape(value=_shape(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Shape(sections=(annotation,))
    return Shape(secret=annotation is SecretStr)


def _union(parts: list[Shape], arguments: tuple[Any, ...]) -> Shape:
    return Shape(
        sections=tuple(s for part in parts for s in part.sections),
        # A list that may also be a single value (a command line) is a value.
        item=parts[0].item if len(parts) == 1 else None,
        value=parts[0].value if len(parts) == 1 else None,
        optional=type(None) in arguments,
        secret=any(part.secret for part in parts),
    )


def known_paths(root: type[Section]) -> Iterator[str]:
    """Every option as text: ``server.port``, ``models[].engine.places``, ``tasks.*.ttft_ms``."""
    yield from _below(Shape(sections=(root,)), "")


def _below(shape: Shape, prefix: str) -> Iterator[str]:
    if shape.item is not None:
        yield from _below(shape.item, f"{prefix}[]")
    if shape.value is not None:
        yield from _below(shape.value, f"{prefix}.*")
    for name in shape.names():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        child = shape.child(name)
        if child is not None:
            yield from _below(child, path)


def path_text(path: KeyPath) -> str:
    """A path as people write it: ``models[0].engine.places``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{key}" if text else key
    return text
