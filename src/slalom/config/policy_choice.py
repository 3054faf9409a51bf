"""Makes the options of the policies part of the schema, from the policies' own dataclasses.

Owns the translation: one section per row of `slalom.policies.registry`, told apart by `kind`. A
new policy therefore needs no line here. Bounds come from a field's metadata (`ge`, `le`).
"""

import dataclasses
import inspect
import re
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import Field, create_model, model_validator

from slalom.config.fields import Section
from slalom.policies.registry import POLICIES, SERVING_KINDS, Slot, build

_BOUNDS = ("ge", "gt", "le", "lt")


class PolicyChoice(Section):
    """One policy by its kind, with its options beside it."""

    kind: str

    def options(self) -> dict[str, Any]:
        """The policy's own options."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}


def choice(slot: Slot) -> Any:
    """The type of a slot in the schema: any of its policies."""
    kinds = [_section(slot, kind) for kind in POLICIES[slot]]
    if len(kinds) == 1:
        return kinds[0]
    return Annotated[reduce(or_, kinds), Field(discriminator="kind")]


def default_choice(slot: Slot) -> PolicyChoice:
    """The slot's default policy with default options."""
    kind = SERVING_KINDS[slot]
    return _section(slot, kind)(kind=kind)


_SECTIONS: dict[tuple[Slot, str], type[PolicyChoice]] = {}


def _section(slot: Slot, kind: str) -> type[PolicyChoice]:
    known = _SECTIONS.get((slot, kind))
    if known is not None:
        return known
    policy = POLICIES[slot][kind]
    hints = get_type_hints(policy)
    sentences = _sentences(policy)
    fields: dict[str, Any] = {
        option.name: (hints[option.name], _field(option, sentences.get(option.name, "")))
        for option in dataclasses.fields(policy)
    }

    class Choice(PolicyChoice):
        @model_validator(mode="after")
        def _builds(self) -> Self:
            build(slot, kind, self.options())
            return self

    fields["kind"] = (Literal[kind], Field(kind, description=_first_sentence(policy)))
    made = create_model(
        f"{slot.title()}{policy.__name__}",
        __base__=Choice,
        __doc__=inspect.getdoc(policy),
        **fields,
    )
    _SECTIONS[slot, kind] = made
    return made


def _field(option: dataclasses.Field[Any], sentence: str) -> Any:
    bounds = {name: option.metadata[name] for name in _BOUNDS if name in option.metadata}
    if option.default_factory is not dataclasses.MISSING:
        return Field(default_factory=option.default_factory, description=sentence, **bounds)
    default = ... if option.default is dataclasses.MISSING else option.default
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if is_number and not bounds:
        bounds = {"ge": 0}
    return Field(default, description=sentence, **bounds)


def _first_sentence(policy: type[Any]) -> str:
    paragraph = (inspect.getdoc(policy) or "").split("\n\n")[0].replace("\n", " ")
    return paragraph.replace("`", "").split(". ")[0].removesuffix(".") + "."


def _sentences(policy: type[Any]) -> dict[str, str]:
    """The ``#:`` comment above each field, which is where the house writes what a field means."""
    found: dict[str, str] = {}
    comment: list[str] = []
    try:
        source = inspect.getsource(policy)
    except OSError:
        return found
    for line in map(str.strip, source.splitlines()):
        named = re.match(r"(\w+):\s", line)
        if line.startswith("#:"):
            comment.append(line[2:].strip())
        elif named and comment:
            found[named[1]] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found
