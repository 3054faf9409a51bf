"""The words of which the OpenAPI document's schemas are made: texts, counts, messages, tools.

Owns nothing that belongs to one route. Whatever is not said here or in a route's own schema passes
through to the engine, so objects may always have more. Used by the other `openapi_` files.
"""

from typing import Any

from slalom.gateway.request_body import TOKENS_MAX

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WORD: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
OBJECT: Schema = {"type": "object"}
NULL: Schema = {"type": "null"}
ANYTHING: Schema = {}
#: Defined once in the document, with the names of the models as they are served.
MODEL: Schema = {"$ref": "#/components/schemas/Model"}
COUNT: Schema = {"type": "integer", "minimum": 1, "exclusiveMaximum": TOKENS_MAX}
NO_TEXT: Schema = {"enum": [None, ""]}


def any_of(*schemas: Schema) -> Schema:
    """One of several."""
    return {"anyOf": list(schemas)}


def or_null(schema: Schema) -> Schema:
    """The same, or null, which means as much as leaving it out."""
    return any_of(*schema["anyOf"], NULL) if schema.keys() == {"anyOf"} else any_of(schema, NULL)


def optional(**fields: Schema) -> dict[str, Schema]:
    """Fields that may be null."""
    return {name: or_null(schema) for name, schema in fields.items()}


def objects(needed: dict[str, Schema], **more: Schema) -> Schema:
    """An object with some fields, and others that it may have."""
    found: Schema = {"type": "object", "properties": {**needed, **more}}
    return {**found, "required": list(needed)} if needed else found


def kind(*names: str, field: str = "type", needed: dict[str, Schema], **more: Schema) -> Schema:
    """An object that is told from others by a field."""
    name: Schema = {"const": names[0]} if len(names) == 1 else {"enum": list(names)}
    return objects({field: name, **needed}, **more)


def with_field(schema: Schema, name: str, field: Schema) -> Schema:
    """An object, or one of several, that may have one more field."""
    if "anyOf" in schema:
        return any_of(*(with_field(one, name, field) for one in schema["anyOf"]))
    return {**schema, "properties": {**schema.get("properties", {}), name: field}}


def listed(items: Schema, least: int = 1) -> Schema:
    """A list."""
    return {"type": "array", "items": items, "minItems": least}


def not_named(*names: str) -> Schema:
    """Any text but these."""
    return {"type": "string", "not": {"enum": list(names)}}


TEXTS = listed(TEXT, 0)
STOP = or_null(any_of(TEXT, TEXTS))
_FUNCTION = objects(
    {"name": WORD}, parameters=or_null(OBJECT), description=ANYTHING, strict=ANYTHING
)
#: A function; engines may know other kinds.
TOOL = any_of(
    objects({"function": _FUNCTION}, type={"const": "function"}),
    objects({"type": not_named("function")}),
)
MESSAGE = objects(
    {"role": TEXT},
    content=or_null(any_of(TEXT, listed(objects({"type": TEXT}), 0))),
    tool_calls=ANYTHING,
)
