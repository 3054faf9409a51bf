"""Which order of starts a scheduler promised, as somebody outside knows it.

Owns the keys of the orderings that come with Slalom, written down a second time. Planners promise
none. Called by `checker`.
"""

from collections.abc import Callable

from slalom.core.params import SchedulerParams
from slalom.core.planning import Planning
from slalom.core.policy import Policies
from slalom.core.request import Request
from slalom.policies.ordering import Edf, Fcfs
from slalom.units import MS

#: Where a request stands; empty where no order is known.
OrderKey = tuple[int, int, str] | tuple[()]


def promised_order(policies: Policies, params: SchedulerParams) -> Callable[[Request], OrderKey]:
    """The key that waiting requests of one model start by."""
    ordering = policies.ordering
    if isinstance(policies.admission, Planning):
        return lambda _: ()
    if isinstance(ordering, Fcfs):
        return lambda request: (request.arrived_ns, request.arrived_ns, request.id)
    if not isinstance(ordering, Edf):
        return lambda _: ()

    def by_deadline(request: Request) -> OrderKey:
        sla = request.sla
        limits = [limit for limit in (sla.ttft_ns, sla.e2e_ns) if limit is not None]
        due_ns = min([*limits, ordering.ageing_ms * MS])
        if not limits:
            due_ns = min(due_ns, params.default_deadline_ns)
        link = request.link
        if link is not None and link.deadline_ns >= 0:
            due_ns = link.deadline_ns - request.arrived_ns
            for one in link.rest:  # a tenth of a ms to read a token, 25 ms to write one
                due_ns -= one.gap_ns + one.prompt_tokens * 100_000 + one.predicted_tokens * 25 * MS
            due_ns = min(due_ns, ordering.ageing_ms * MS)
        return (request.arrived_ns + due_ns, request.arrived_ns, request.id)

    return by_deadline
