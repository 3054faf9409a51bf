"""Ordering policies: who runs first among those that wait.

Owns `fcfs` and `edf`. Keys are computed once, so that the core's queue stays logarithmic.
"""

from dataclasses import dataclass

from slalom.core.chain import rough_latest_ns
from slalom.core.request import Request
from slalom.units import MS


def first_due_ns(request: Request, default_ns: int) -> int:
    """When the first objective of a request breaks, or its chain can be on time no more.

    Args:
        request: The request.
        default_ns: Allowance for a request without TTFT and E2E objectives, ns.
    """
    if request.link is not None and request.link.has_deadline:
        return rough_latest_ns(request.link)
    return request.sla.first_deadline_ns(request.arrived_ns, default_ns=default_ns)


@dataclass(frozen=True, slots=True)
class Fcfs:
    """`fcfs`: first come, first served."""

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The scheduled arrival."""
        return request.arrived_ns


@dataclass(frozen=True, slots=True)
class Edf:
    """`edf`: earliest deadline first, the deadline being that of the task's SLA.

    A call of a chain is due when the chain's deadline, less what the rest takes by rough figures,
    says so.

    Ageing: no request is ordered as if due later than `ageing_ms` after its arrival, so
    one with a distant deadline is overtaken only by arrivals of that span.
    """

    #: Longest time by which a later arrival may overtake, ms.
    ageing_ms: int = 60_000

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The first instant at which an objective breaks, capped by ageing."""
        deadline_ns = first_due_ns(request, default_deadline_ns)
        return min(deadline_ns, request.arrived_ns + self.ageing_ms * MS)
