"""What clients declare about a request's class and targets, in the words they already use.

Owns the names of headers and body fields of other systems, their units and polarity, and the
checks of their numbers. Does not decide which declaration wins (`resolution`). Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slalom.errors import RequestError

#: The class that a lowered priority means.
LOWEST_TASK = "batch"

TASK_HEADER = "x-slalom-task"
_TTFT_HEADERS = ("x-slo-ttft-ms", "x-llm-d-slo-ttft-ms", "x-sgl-ttft-slo-ms")
_TPOT_HEADERS = ("x-slo-tpot-ms", "x-llm-d-slo-tpot-ms")
_E2E_HEADERS = ("x-slo-e2e-ms",)
#: Tokens per second instead of ms per token.
_TPS_HEADER = "x-sgl-tps-slo"
#: Named classes of SGLang's gateway.
_CLASS_HEADER = "x-smg-priority"
_CLASSES = {"system": None, "interactive": None, "default": None, "bulk": LOWEST_TASK}
#: Signed integers, larger is more important, 0 is ordinary (Dynamo's polarity).
_NUMBER_HEADERS = ("x-request-priority", "x-dynamo-request-priority")

#: Every header read here.
HEADERS = frozenset(
    {TASK_HEADER, _TPS_HEADER, _CLASS_HEADER, *_NUMBER_HEADERS}.union(
        _TTFT_HEADERS, _TPOT_HEADERS, _E2E_HEADERS
    )
)

#: Numbers outside are typing errors, and in ns would not fit where they are kept.
_LEAST = 1e-6
_GREATEST = 1e12

#: `service_tier` values of the OpenAI API that give up urgency.
_SLOW_TIERS = frozenset(("flex", "batch"))


@dataclass(frozen=True, slots=True)
class Targets:
    """Explicit objectives, ms; None where nothing was said."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None

    def __bool__(self) -> bool:
        return not (self.ttft_ms is None and self.tpot_ms is None and self.e2e_ms is None)

    def over(self, other: "Targets") -> "Targets":
        """These targets, and the other's where these say nothing."""
        return Targets(
            other.ttft_ms if self.ttft_ms is None else self.ttft_ms,
            other.tpot_ms if self.tpot_ms is None else self.tpot_ms,
            other.e2e_ms if self.e2e_ms is None else self.e2e_ms,
        )


NO_TARGETS = Targets()


def declared_by_headers(headers: Mapping[str, str], notices: list[str]) -> str | None:
    """The task that headers declare.

    A priority can only lower the class: towards "more important" it changes nothing.

    Raises:
        RequestError: A priority that must be an integer is none.
    """
    task = headers.get(TASK_HEADER)
    if task is not None:
        return task.strip()
    named = headers.get(_CLASS_HEADER)
    if named is not None:
        name = named.strip().lower()
        if name not in _CLASSES:
            notices.append(f"unknown class {name[:64]!a} in {_CLASS_HEADER} ignored")
        elif _CLASSES[name] is not None:
            return _CLASSES[name]
    for header in _NUMBER_HEADERS:
        text = headers.get(header)
        if text is not None and _integer(text, header) < 0:
            return LOWEST_TASK
    return None


def header_targets(headers: Mapping[str, str]) -> Targets:
    """The targets that headers declare; of several names for one target the first counts.

    Raises:
        RequestError: A number is malformed or not positive; all of them are checked.
    """
    if headers.keys().isdisjoint(HEADERS):
        return NO_TARGETS
    ttft_ms = _first(headers, _TTFT_HEADERS)
    tpot_ms = _first(headers, _TPOT_HEADERS)
    e2e_ms = _first(headers, _E2E_HEADERS)
    rate = headers.get(_TPS_HEADER)
    if rate is not None:
        tokens_per_s = positive(rate, _TPS_HEADER)
        tpot_ms = 1000.0 / tokens_per_s if tpot_ms is None else tpot_ms
    return Targets(ttft_ms, tpot_ms, e2e_ms)


def declared_by_body(body: Mapping[str, Any], named_task: str | None) -> str | None:
    """The task that the body declares: metadata, the model's name, tier, priority.

    `priority` has vLLM's polarity: larger is later.
    """
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        task = metadata.get("task")
        if isinstance(task, str):
            return task
    if named_task is not None:
        return named_task
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier in _SLOW_TIERS:
        return LOWEST_TASK
    priority = body.get("priority")
    if isinstance(priority, int | float) and priority > 0:
        return LOWEST_TASK
    return None


def body_targets(body: Mapping[str, Any]) -> Targets:
    """The targets that the body declares.

    `metadata.slo_ttft_ms` and its like; else llama.cpp's limits: `t_max_prompt_ms` bounds the
    time to the first token, `t_max_predict_ms` the time after it. Values below 1 of the latter
    mean "no limit", as there.

    Raises:
        RequestError: A number is malformed.
    """
    targets = NO_TARGETS
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and metadata:
        targets = Targets(
            _optional(metadata, "slo_ttft_ms", "metadata."),
            _optional(metadata, "slo_tpot_ms", "metadata."),
            _optional(metadata, "slo_e2e_ms", "metadata."),
        )
    if "t_max_prompt_ms" in body or "t_max_predict_ms" in body:
        ttft_ms = _limit(body, "t_max_prompt_ms")
        rest_ms = _limit(body, "t_max_predict_ms")
        e2e_ms = None if ttft_ms is None or rest_ms is None else ttft_ms + rest_ms
        targets = targets.over(Targets(ttft_ms=ttft_ms, e2e_ms=e2e_ms))
    return targets


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    found: float | None = None
    for name in names:
        text = headers.get(name)
        if text is not None:
            value = positive(text, name)
            found = value if found is None else found
    return found


def _optional(fields: Mapping[str, Any], name: str, where: str) -> float | None:
    value = fields.get(name)
    return None if value is None else positive(value, where + name)


def _limit(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} must be a number of milliseconds.", param=name)
    return positive(value, name) if value >= 1 else None


def positive(value: object, name: str) -> float:
    """A number above 0, written as a number or as text.

    Raises:
        RequestError: It is none; `param` is the name.
    """
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not (_LEAST <= number <= _GREATEST):
        raise RequestError(
            f"{name} must be a number above 0 and not beyond reason, not {ascii(value)[:40]}.",
            code="invalid_number",
            param=name,
        )
    return number


def _integer(text: str, name: str) -> int:
    try:
        return int(text[:20])
    except ValueError:
        raise RequestError(
            f"{name} must be an integer, not {ascii(text)[:40]}.", code="invalid_number", param=name
        ) from None
