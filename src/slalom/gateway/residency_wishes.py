"""What a request says of its model's residency: how long it is kept, who may give way, a pin.

Owns the names of these fields and headers and their checks. Engines do not see them. Pure. Called
by `preparation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slalom.core.request import Swap
from slalom.errors import RequestError
from slalom.gateway.auth import AccessError
from slalom.gateway.params import KeyEntry
from slalom.gateway.protocols.ollama_request import keep_alive_s
from slalom.units import SECOND, seconds_to_ns

_KEEP_HEADER = "x-slalom-keep-alive"
_SWAP_HEADER = "x-slalom-allow-swap"
_PIN_HEADER = "x-slalom-pin"
#: Every header read here.
HEADERS = frozenset((_KEEP_HEADER, _SWAP_HEADER, _PIN_HEADER))
#: Every body field read here: `keep_alive` as Ollama writes it, `ttl` (seconds) as LM Studio does.
_FIELDS = ("keep_alive", "ttl", "allow_swap", "pin")
#: For ever, and the most that anybody may ask for, ns.
_KEEP_MAX_NS = 30 * 24 * 3600 * SECOND


@dataclass(slots=True)
class ResidencyWishes:
    """The wishes of one request."""

    #: ns; -1 says nothing.
    keep_ns: int = -1
    allow_swap: Swap = Swap.NORMAL
    pin: bool = False


#: Of nearly all requests; not to be written to.
_NONE = ResidencyWishes()


def read_wishes(
    headers: Mapping[str, str], body: Mapping[str, Any], key: KeyEntry | None
) -> ResidencyWishes:
    """The wishes of a request; a header wins over the body.

    Raises:
        RequestError: One is malformed; `param` names it.
        AccessError: Only admin keys may pin.
    """
    if HEADERS.isdisjoint(headers) and not any(name in body for name in _FIELDS):
        return _NONE
    wishes = ResidencyWishes(
        _keep_ns(headers, body),
        _swap(headers.get(_SWAP_HEADER, body.get("allow_swap"))),
        _flag(headers.get(_PIN_HEADER, body.get("pin"))),
    )
    if wishes.pin and (key is None or not key.admin):
        raise AccessError("Only admin keys may pin a model.", code="admin_key_needed")
    return wishes


def without_wishes(body: dict[str, Any]) -> dict[str, Any]:
    """The body as engines get it; the same object if it has no such field."""
    if not any(name in body for name in _FIELDS):
        return body
    return {name: value for name, value in body.items() if name not in _FIELDS}


def _keep_ns(headers: Mapping[str, str], body: Mapping[str, Any]) -> int:
    value = headers.get(_KEEP_HEADER, body.get("keep_alive"))
    if value is None:
        value = body.get("ttl")
    if isinstance(value, str) and value.strip().lstrip("-").replace(".", "", 1).isdecimal():
        value = float(value)
    seconds = keep_alive_s({"keep_alive": value})
    if seconds is None:
        return -1
    limit_s = _KEEP_MAX_NS / SECOND
    return _KEEP_MAX_NS if seconds < 0 else seconds_to_ns(min(seconds, limit_s))


def _swap(value: object) -> Swap:
    if value is None:
        return Swap.NORMAL
    try:
        return Swap(str(value).strip().lower())
    except ValueError:
        raise RequestError(
            "allow_swap must be never, idle or normal.", param="allow_swap"
        ) from None


def _flag(value: object) -> bool:
    if isinstance(value, str) and value.strip().lower() in {"true", "1", "false", "0"}:
        return value.strip().lower() in {"true", "1"}
    if not isinstance(value, bool | None):
        raise RequestError("pin must be true or false.", param="pin")
    return bool(value)
