"""Building blocks of the configuration's schema: the section base and the types of single fields.

Owns how sizes, counts and `auto` are read and written, and what every section has in common.
Owns no option. Used by the schema modules of this room only.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from slalom.units import GIB, KIB, MIB, parse_bytes

AUTO: Literal["auto"] = "auto"

_SIZE_TEXT = r"^\s*\d+(\.\d+)?\s*([kKmMgGtT]?([iI]?[bB])?)\s*$"
#: Key of a JSON schema that says in words what the schema's own words cannot.
WORDS = "x-slalom-words"

_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE_TEXT}],
    WORDS: "size such as 2GiB",
}
_AUTO_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"const": AUTO}, *_SIZE_SCHEMA["anyOf"]],
    WORDS: "auto or size such as 2GiB",
}
_AUTO_COUNT_SCHEMA: dict[str, Any] = {"anyOf": [{"const": AUTO}, {"type": "integer", "minimum": 0}]}


class Section(BaseModel):
    """A frozen part of the configuration that accepts no unknown key."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        # `model_name` is a word of ours, not of pydantic's.
        protected_namespaces=(),
    )


def read_size(value: object) -> int:
    """Bytes from ``2GiB``, ``512 MB`` or a plain number of bytes.

    Raises:
        ValueError: It is none of these, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a size such as 512MiB or 2GiB")  # noqa: TRY004 - pydantic's way
    count = value if isinstance(value, int) else parse_bytes(value)
    if count < 0:
        raise ValueError("a size cannot be negative")
    return count


def write_size(count: int | str) -> int | str:
    """A size as people write it, without loss: the largest unit that divides it."""
    if isinstance(count, str) or count == 0:
        return count
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit}{name}"
    return count


def _read_auto_size(value: object) -> int | str:
    return AUTO if value == AUTO else read_size(value)


def _read_auto_count(value: object) -> int | str:
    if value == AUTO:
        return AUTO
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("write auto or a whole number, 0 or more")
    return value


#: A name that clients may send: no blanks, not endless.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]
#: Bytes.
Size = Annotated[
    int, BeforeValidator(read_size), PlainSerializer(write_size), WithJsonSchema(_SIZE_SCHEMA)
]
#: Bytes, or `auto`.
AutoSize = Annotated[
    int | Literal["auto"],
    BeforeValidator(_read_auto_size),
    PlainSerializer(write_size),
    WithJsonSchema(_AUTO_SIZE_SCHEMA),
]
#: A whole number, or `auto`.
AutoCount = Annotated[
    int | Literal["auto"], BeforeValidator(_read_auto_count), WithJsonSchema(_AUTO_COUNT_SCHEMA)
]
