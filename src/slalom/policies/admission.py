"""Admission policies: does the head of a queue run now, wait, or get refused.

Owns `open` and `drop-late`. Asked by the core when a ready replica has a free place.
"""

from dataclasses import dataclass

from slalom.core.actions import Reason
from slalom.core.policy import Decision, ModelView, RequestView, Verdict
from slalom.core.request import Request
from slalom.units import MS

_ADMIT = Decision(Verdict.ADMIT)
_LATE = Decision(Verdict.REFUSE, Reason.SLA_INFEASIBLE)


@dataclass(frozen=True, slots=True)
class OpenAdmission:
    """`open`: everything runs as soon as there is a place. What a plain proxy does."""

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Admit."""
        return _ADMIT

    def latest_start_ns(self, request: Request) -> int | None:
        """Never."""
        return None


@dataclass(frozen=True, slots=True)
class DropLate:
    """`drop-late`: refuse what misses a deadline while it waits, as soon as it does.

    Running it would take a place from requests that can still be on time, and loading a model
    for it would take the memory. A request without TTFT and E2E objectives is never refused.
    """

    #: How far past its deadline a request may be and still run, ms.
    grace_ms: int = 0

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Refuse once the latest start has passed."""
        latest_ns = self.latest_start_ns(request.request)
        return _ADMIT if latest_ns is None or now_ns <= latest_ns else _LATE

    def latest_start_ns(self, request: Request) -> int | None:
        """The first deadline plus the grace."""
        sla = request.sla
        if sla.ttft_ns is None and sla.e2e_ns is None:
            return None
        return sla.first_deadline_ns(request.arrived_ns, default_ns=0) + self.grace_ms * MS
