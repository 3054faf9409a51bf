"""What would have had to be different for a request to be served as it wished, in sentences.

Owns the wording and the arithmetic: what was missed by how much, set against what it waited for
and for whom. A figure of the past, not a simulation: `slalom twin` answers what another policy
would have done. Called by `explain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.core.actions import EndRequest, Outcome, Reason
from slalom.core.request import Request
from slalom.journal.steps import Waits
from slalom.units import format_duration


@dataclass(frozen=True, slots=True)
class Verdict:
    """One objective of the request's SLA."""

    objective: str
    limit_ns: int
    #: -1 where it was never reached.
    measured_ns: int

    @property
    def held(self) -> bool:
        """Whether it was met."""
        return 0 <= self.measured_ns <= self.limit_ns


@dataclass(slots=True)
class Crowd:
    """Others of its model that began to run while it waited."""

    #: All of them, and those that had come after it.
    begun: int = 0
    overtook: int = 0


def needed(
    request: Request, end: EndRequest | None, verdicts: list[Verdict], waits: Waits, crowd: Crowd
) -> list[str]:
    """Sentences on what would have had to be different; none where all went well."""
    if end is None or end.outcome in (Outcome.CANCELLED, Outcome.SUPERSEDED):
        return []
    if end.outcome is Outcome.REJECTED:
        return list(_refused(request, end, crowd))
    return [line for v in verdicts if not v.held for line in _missed(request, end, v, waits, crowd)]


def _refused(request: Request, end: EndRequest, crowd: Crowd) -> Iterator[str]:
    if end.detail:
        yield f"{end.detail[0].upper()}{end.detail[1:].rstrip('.')}."
    if end.reason == Reason.SLA_INFEASIBLE and not end.detail:
        yield "Its targets could not be met any more: fewer requests before it, or looser targets."
    if end.reason == Reason.QUEUE_TIMEOUT:
        yield f"A place for {request.model} within scheduler.queue_timeout_seconds."
        yield from _others(crowd)
    if end.reason == Reason.QUEUE_FULL:
        yield "Fewer waiting requests than scheduler.queue_max when it came."
    if end.retry_after_ns:
        yield f"It was advised to come again {format_duration(end.retry_after_ns)} later."


def _missed(
    request: Request, end: EndRequest, verdict: Verdict, waits: Waits, crowd: Crowd
) -> Iterator[str]:
    """For one missed objective: which wait was longer than what was missing."""
    if verdict.measured_ns < 0:
        return
    late_ns = verdict.measured_ns - verdict.limit_ns
    what, late = verdict.objective, format_duration(late_ns)
    if what == "tpot":
        yield (
            f"tpot: {late} less between two tokens: fewer answers beside it on {end.replica_id}, "
            "or a faster engine."
        )
        return
    paused_ns = 0 if what == "ttft" else waits.paused_ns
    waited_ns = waits.loading_ns + waits.places_ns + paused_ns
    longest_ns = max(waits.loading_ns, waits.places_ns, paused_ns)
    if late_ns > waited_ns:
        without = f" even without the {format_duration(waited_ns)} it waited" if waited_ns else ""
        yield (
            f"{what}: missed{without}: the engine itself took "
            f"{format_duration(verdict.measured_ns - waited_ns)}. A faster engine or model, a "
            "shorter prompt or answer, or a looser target."
        )
    elif late_ns > longest_ns:
        yield f"{what}: {late} less of all that it waited ({format_duration(waited_ns)})."
        yield from _others(crowd)
    elif longest_ns == waits.places_ns:
        yield f"{what}: a place {late} sooner."
        yield from _others(crowd)
    elif longest_ns == waits.loading_ns:
        loading = format_duration(waits.loading_ns)
        yield f"{what}: {request.model} ready {late} sooner; that took {loading} (pin it?)."
    else:
        yield f"{what}: {late} less of its pauses, which took {format_duration(paused_ns)}."


def _others(crowd: Crowd) -> Iterator[str]:
    if not crowd.begun:
        return
    requests = "request" if crowd.begun == 1 else "requests"
    text = f"{crowd.begun} other {requests} for its model began while it waited"
    if crowd.overtook:
        text += f", {crowd.overtook} of which had come after it"
    yield f"{text}."
