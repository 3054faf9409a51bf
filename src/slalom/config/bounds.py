"""Says in words what an option accepts, from the schema: for the example and the reference.

Owns only the wording. Called by `example` and by the documentation's generator.
"""

from functools import cache
from typing import Any

from slalom.config.fields import WORDS, Section
from slalom.config.tree import field_shape

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "null": "null",
}


@cache
def _properties(section: type[Section]) -> dict[str, Any]:
    found: dict[str, Any] = section.model_json_schema()["properties"]
    return found


def bounds_text(section: type[Section], name: str) -> str:
    """What an option accepts, in brackets: ``[whole number, 1 to 4096]``.

    Empty where that goes without saying: a section, or a list of sections.
    """
    shape = field_shape(section, name)
    if (shape.sections and not shape.optional) or shape.item_is_section or name == "kind":
        return ""
    return f"[{_words(_properties(section)[name])}]"


def _words(schema: dict[str, Any]) -> str:
    if WORDS in schema:
        return str(schema[WORDS])
    if "$ref" in schema:
        return "section"
    if "anyOf" in schema:
        parts = dict.fromkeys(_words(part) for part in schema["anyOf"])
        return " or ".join(part for part in parts if part)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    word = _TYPES.get(schema.get("type", ""), "")
    limits = _limits(schema)
    return f"{word}, {limits}" if word and limits else word


def _limits(schema: dict[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    if above is not None:
        return f"more than {above}" + (f" and at most {high}" if high is not None else "")
    if low is not None:
        return f"{low} to {high}" if high is not None else f"{low} or more"
    return f"at most {high}" if high is not None else ""
