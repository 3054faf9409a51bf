"""Scaling by time targets, in the manner of CATO: the estimate of now against the target.

Owns that rule. It looks at estimates of what is waiting or came last, never at a tally of targets
that were missed (docs/adr/0020-scaling.md). For a model whose step times nobody knows it stays.
"""

from dataclasses import dataclass, field
from math import ceil

from slalom.core.request import StepCost
from slalom.core.sizing import Size, SizeView
from slalom.policies.outlook import outlook, paced
from slalom.policies.scaling.by_count import after_delay, size_of
from slalom.units import SECOND, seconds_to_ns

#: Requests that are looked at.
_LOOKED_AT = 16
#: What came before that says nothing of now.
_LATELY_NS = 15 * SECOND


@dataclass(frozen=True, slots=True)
class CatoScaling:
    """`cato`: more replicas while estimates exceed the targets, fewer while they are far off.

    The estimate is l = queueing + execution, of the first token for tasks with an objective for it,
    else of the end; of what waits, else of what came last. Its ratio to the target says how many
    times as many replicas there should be; they come one by one.

    Source: arXiv 2503.19876 for SLA-aware scaling by l against the target; the thresholds are ours.
    """

    #: More replicas where estimates are above this share of the target.
    high: float = field(default=1.0, metadata={"gt": 0})
    #: Fewer where they are below this share of it.
    low: float = field(default=0.4, metadata={"ge": 0})
    #: How long it must be below, s.
    down_delay_s: float = field(default=60.0, metadata={"ge": 0})
    #: Replicas that are added at a time; the next ones once these are up, because no estimate
    #: shows before what they will do.
    step: int = field(default=1, metadata={"gt": 0})
    #: Replicas that stay, whatever is asked.
    least: int = 1
    #: Between two looks, s.
    every_s: float = field(default=1.0, metadata={"gt": 0})

    @property
    def every_ns(self) -> int:
        """As the protocol says."""
        return seconds_to_ns(self.every_s)

    def size(self, model: SizeView, now_ns: int) -> Size:
        """What the worst estimates but a tenth call for."""
        now = size_of(model, self.least)
        cost = model.spec.step_cost
        if cost is None or now == 0 or not model.ready():
            busy = model.waiting_count + model.running_count() > 0
            return Size(max(now, 1 if busy else 0))
        shares = sorted(_shares(model, cost, now_ns))
        share = shares[(len(shares) * 9) // 10] if shares else 0.0
        wanted = now
        if share > self.high:
            if model.up_count() > len(model.ready()):
                return Size(now)
            wanted = min(ceil(now * share / self.high), now + self.step, model.spec.replicas)
            return after_delay(model, now, wanted, 0, now_ns)
        if share < self.low and now > self.least:
            wanted = now - 1
        return after_delay(model, now, wanted, seconds_to_ns(self.down_delay_s), now_ns)


def _shares(model: SizeView, cost: StepCost, now_ns: int) -> list[float]:
    """Estimates over their targets: of what waits, else of what came last."""
    ready = model.ready()
    waiting = model.waiting_requests(_LOOKED_AT)
    requests = waiting or [
        one
        for one in list(model.sizing.recent())[-_LOOKED_AT:]
        if now_ns - one.arrived_ns < _LATELY_NS
    ]
    places = max(model.spec.places * len(ready), 1)
    shares = []
    for place, request in enumerate(requests):
        target_ns = request.sla.ttft_ns or request.sla.e2e_ns
        if not target_ns:
            continue
        is_urgent = request.sla.ttft_ns is not None
        expected = [outlook(request, one, paced(cost, one.speed), now_ns) for one in ready]
        best_ns = min(one.first_ns if is_urgent else one.end_ns for one in expected)
        waited_ns = now_ns - request.arrived_ns if waiting else 0
        line_ns = best_ns * (place + 1 + model.waiting_count - len(requests)) / places
        shares.append((waited_ns + best_ns + (line_ns if waiting else 0.0)) / target_ns)
    return shares
