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
            words[name] = (header, headers[header].strip())
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
        RequestError: It is over already, or beyond reason.
    """
    ms = value
    if isinstance(value, str):
        try:
            ms = float(value)
        except ValueError:
            ms = None
    if isinstance(ms, int | float) and not isinstance(ms, bool) and ms < DEADLINE_MS_MIN:
        raise _wrong(
            param, "lies in the past: give the ms that the chain has from now on, at least 1"
        )
    found = positive(value, param)
    if found > DEADLINE_MS_MAX:
        raise _wrong(param, f"must be at most {DEADLINE_MS_MAX} (a day)")
    return found


def _step(param: str, value: object) -> tuple[int, str]:
    """A call by its number, or by its name."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and text.isdecimal():
        return _count(param, text), ""
    return 0, checked_name(param, text)


def _count(param: str, value: object) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    number = int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= number <= STEPS_MAX:
        raise _wrong(param, f"must be an integer from 1 to {STEPS_MAX}")
    return number


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(f"{param} {what}.", code="invalid_chain", param=param)
