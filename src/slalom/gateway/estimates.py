"""The answer to "what if I asked this now": a forecast in the client's words.

Owns the document of `/v1/estimate`. It decides nothing and starts nothing: the scheduler's planner
forecasts, this tells. Called by `inference`.
"""

from typing import Any

from slalom.core.request import Request
from slalom.errors import SlalomError
from slalom.gateway.resolution import CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH
from slalom.runtime.forecast import Forecast
from slalom.units import MS, format_duration

PATH = "/v1/estimate"


class NoPredictionError(SlalomError):
    """Nothing here predicts; the error table says 501."""

    code = "no_prediction"


def path_of(body: object) -> str:
    """The route that a body is meant for, by what is in it."""
    if isinstance(body, dict):
        if "input" in body:
            return EMBEDDINGS_PATH
        if "prompt" in body:
            return COMPLETIONS_PATH
    return CHAT_PATH


def document(request: Request, forecast: Forecast) -> dict[str, Any]:
    """What is to be expected if a request came now.

    Raises:
        NoPredictionError: The configured admission makes no predictions.
    """
    if not forecast.predicts:
        raise NoPredictionError(
            "The configured admission policy predicts nothing: set scheduler.admission.kind to a "
            "policy that plans, such as plan-and-trim."
        )
    asked, request = request.model, forecast.request or request
    model, expected, now_ns = forecast.model, forecast.expected, forecast.now_ns
    resident = model is not None and any(r.state == "ready" for r in model.replicas)
    sla = request.sla
    found: dict[str, Any] = {
        "object": "estimate",
        "model": request.model,
        "task": request.task,
        "resident": resident,
        "replica": None,
        "would_hold": None,
        "chance": None,
        "predicted_start_ms": None,
        "predicted_ttft_ms": None,
        "predicted_e2e_ms": None,
        "parts": {"queue_ms": None, "execution_ms": None, "remaining_ms": None},
        "targets": {
            "ttft_ms": _ms(sla.ttft_ns),
            "tpot_ms": _ms(sla.tpot_ns),
            "e2e_ms": _ms(sla.e2e_ns),
        },
    }
    if request.alternatives is not None:
        found["asked"] = asked
        found["passed"] = [{"model": name, "reason": why} for name, why in forecast.passed]
    if expected is None:
        ready_in_ns = model.ready_in_ns if model is not None else -1
        found["predicted_start_ms"] = _ms(ready_in_ns)
        return found | {"reason": _unknown(request, forecast, resident=resident)}
    start_ns = expected.start_ns - now_ns if expected.start_ns >= 0 else -1
    found |= {
        "replica": expected.replica_id or None,
        "chance": round(expected.chance, 3),
        "predicted_start_ms": _ms(start_ns),
        "predicted_ttft_ms": _ms(expected.first_ns - now_ns),
        "predicted_e2e_ms": _ms(expected.end_ns - now_ns),
        "parts": {
            "queue_ms": _ms(start_ns),
            "execution_ms": _ms(expected.end_ns - expected.start_ns) if start_ns >= 0 else None,
            "remaining_ms": _ms(expected.rest_ns),
        },
    }
    first_ns, end_ns = expected.first_ns - now_ns, expected.end_ns - now_ns
    broken = _broken(request, first_ns, end_ns, expected.rest_ns)
    reason = f"{'; '.join(broken)}." if broken else "Every target is expected to hold."
    return found | {"would_hold": not broken, "reason": reason}


def _broken(request: Request, first_ns: int, end_ns: int, rest_ns: int) -> list[str]:
    """The targets that are expected to break, in words."""
    sla, tokens, link = request.sla, max(request.predicted_tokens, 1), request.link
    if link is not None and link.has_deadline:
        late_ns = request.arrived_ns + end_ns + max(rest_ns, 0) - link.deadline_ns
        took = format_duration(max(late_ns, 0))
        return [f"The chain is expected to end {took} after its deadline"] if late_ns > 0 else []
    pace_ns = (end_ns - first_ns) // max(tokens - 1, 1)
    rows = (
        ("The first token", first_ns, sla.ttft_ns),
        ("Each further token", pace_ns if tokens > 1 else 0, sla.tpot_ns),
        ("The end", end_ns, sla.e2e_ns),
    )
    return [
        f"{what} is expected after {format_duration(measured_ns)}, "
        f"{format_duration(measured_ns - limit_ns)} later than its target"
        for what, measured_ns, limit_ns in rows
        if limit_ns is not None and measured_ns > limit_ns
    ]


def _unknown(request: Request, forecast: Forecast, *, resident: bool) -> str:
    if resident:
        return "The planner has not seen enough to tell."
    state = forecast.model.state if forecast.model is not None else "unknown"
    return (
        f"No replica of {request.model} is ready (it is {state}), so that the load comes before "
        "everything else."
    )


def _ms(duration_ns: int | None) -> float | None:
    return None if duration_ns is None or duration_ns < 0 else round(duration_ns / MS, 3)
