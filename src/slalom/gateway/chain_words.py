"""What a call says of the chain it belongs to: headers and one body field, and their checks.

Owns these names. Engines do not see them. Pure. Called by `preparation`; what is said is joined
with what is known of the chain by `chains`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slalom.core.chain import STEPS_MAX
from slalom.errors import RequestError
from slalom.gateway.declared import positive

CHAIN_HEADER = "x-slalom-chain"
#: Field of the body -> header that says the same.
_WORDS = {
    "id": CHAIN_HEADER,
    "step": "x-slalom-chain-step",
    "steps": "x-slalom-chain-steps",
    "deadline_ms": "x-slalom-chain-deadline-ms",
    "template": "x-slalom-chain-template",
}
#: Every header read here.
HEADERS = frozenset(_WORDS.values())
#: The body field: an object with these words, for SDKs without headers of their own.
FIELD = "slalom_chain"
_NAME = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: Digits of a number that is written as a text, zeros in front of it among them.
_DIGITS_MAX = 8
#: Shortest and longest time that a chain may be given, ms.
DEADLINE_MS_MIN = 1
DEADLINE_MS_MAX = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class ChainWords:
    """What one call says."""

    id: str
    #: Number of the call, from 1 on; 0 where nobody says.
    step: int = 0
    #: The same by the name that a template or the opened chain has for it.
    step_name: str = ""
    #: Calls in all; 0 where nobody says.
    steps: int = 0
    #: From the first call on, ms; 0 where nobody says.
    deadline_ms: float = 0.0
    template: str = ""


def read_words(headers: Mapping[str, str], told: object) -> ChainWords | None:
    """What a call says of its chain; None if it says nothing. A header wins over the body.

    Args:
        headers: Lower-case names.
        told: The body's field, or None.

    Raises:
        RequestError: A word is malformed, or the chain has no name; `param` says which.
    """
    if told is None and HEADERS.isdisjoint(headers):
        return None
    if not isinstance(told, dict | None):
        raise _wrong(FIELD, f"must be an object with id and, as needed, {', '.join(_WORDS)}")
    unknown = next((name for name in told or () if name not in _WORDS), None)
    if unknown is not None:
        raise _wrong(f"{FIELD}.{unknown[:64]}", f"is not known; use {', '.join(_WORDS)}")
    words: dict[str, tuple[str, Any]] = {}
    for name, header in _WORDS.items():
        if header in headers:
            text = headers[header].strip()
            words[name] = (header, _number(text) if name == "deadline_ms" else text)
        elif told is not None and told.get(name) is not None:
            words[name] = (f"{FIELD}.{name}", told[name])
    if "id" not in words:
        raise _wrong(CHAIN_HEADER, "is needed where anything is said of a chain: it names it")
    step, step_name = _step(*words["step"]) if "step" in words else (0, "")
    return ChainWords(
        id=checked_name(*words["id"]),
        step=step,
        step_name=step_name,
        steps=_count(*words["steps"]) if "steps" in words else 0,
        deadline_ms=checked_deadline(*words["deadline_ms"]) if "deadline_ms" in words else 0.0,
        template=checked_name(*words["template"]) if "template" in words else "",
    )


def checked_name(param: str, value: object) -> str:
    """A name of a chain, a step or a template.

    Raises:
        RequestError: It has other characters, none, or too many.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _wrong(param, "must be 1 to 128 letters, digits or ._:/+=@-")
    return value


def checked_deadline(param: str, value: object) -> float:
    """The time a chain has, ms.

    Raises:
        RequestError: It is no number, over already, or beyond reason.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(param, "must be a number of milliseconds")
    if value < DEADLINE_MS_MIN:
        raise _wrong(
            param, "lies in the past: give the ms that the chain has from now on, at least 1"
        )
    found = positive(value, param)
    if found > DEADLINE_MS_MAX:
        raise _wrong(param, f"must be at most {DEADLINE_MS_MAX} (a day)")
    return found


def _number(text: str) -> float | str:
    """A header's number; the text itself where it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def _step(param: str, value: object) -> tuple[int, str]:
    """A call by its number, or by its name."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        return 0, checked_name(param, value)
    return _count(param, value), ""


def _count(param: str, value: object) -> int:
    number = 0
    if isinstance(value, str):
        is_number = value.isascii() and value.isdecimal() and len(value) <= _DIGITS_MAX
        number = int(value) if is_number else 0
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        number = int(value)  # JSON knows no difference between 2 and 2.0
    if not 1 <= number <= STEPS_MAX:
        raise _wrong(param, f"must be an integer from 1 to {STEPS_MAX}")
    return number


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(f"{param} {what}.", code="invalid_chain", param=param)
