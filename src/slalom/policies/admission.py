"""Admission policies: does the head of a queue run now, wait, or get refused.

Owns `open` and `drop-late`. Asked by the core when a ready replica has a free place.
"""

from dataclasses import dataclass

from slalom.core.actions import Reason
from slalom.core.policy import Decision, ModelView, RequestView, Verdict
from slalom.policies.ordering import first_due_ns

_ADMIT = Decision(Verdict.ADMIT)
_LATE = Decision(Verdict.REFUSE, Reason.SLA_INFEASIBLE)


@dataclass(frozen=True, slots=True)
class OpenAdmission:
    """`open`: everything runs as soon as there is a place. What a plain proxy does."""

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Admit."""
        return _ADMIT


@dataclass(frozen=True, slots=True)
class DropLate:
    """`drop-late`: refuse what has already missed a deadline while it waited.

    Running it would take a place from requests that can still be on time. A request without
    TTFT and E2E objectives is never refused, nor is a call of a chain that was let in with an
    earlier one.
    """

    #: How far past its deadline a request may be and still run, ms.
    grace_ms: int = 0

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Refuse once the first deadline plus the grace has passed."""
        if request.admitted:
            return _ADMIT
        sla, link = request.request.sla, request.request.link
        chained = link is not None and link.has_deadline
        if sla.ttft_ns is None and sla.e2e_ns is None and not chained:
            return _ADMIT
        deadline_ns = first_due_ns(request.request, 0)
        return _LATE if now_ns > deadline_ns + self.grace_ms * 1_000_000 else _ADMIT
