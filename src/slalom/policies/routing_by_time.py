"""Routing policies that estimate: where a request would be on time, and whom it would harm.

Owns CATO's rule and Slalom's. Both know step times from a calibration; for a model without one
they count what runs. Read through the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slalom.core.planning import RouteView
from slalom.core.policy import ModelView, Named, RequestView
from slalom.policies.outlook import Outlook, outlook, paced
from slalom.policies.routing import LeastOngoing, open_replicas, reader_of

#: A replica with what is expected there, and the tokens of the prompt that it should have read.
_Option = tuple[RouteView, Outlook, float]
_BY_COUNT = LeastOngoing()


@dataclass(frozen=True, slots=True)
class Cato:
    """`cato`: where the estimate is least of what the task is judged by.

    That is the first token for a request with an objective for it (completion, generation), else
    the end (summarisation, translation). The estimate is queueing and execution; what follows in
    a chain is the same on every replica.

    Source: arXiv 2503.19876, latency as execution + queueing + routing, replicas by the target.
    """

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The replica with the least estimate."""
        is_urgent = request.request.sla.ttft_ns is not None

        def cost(option: _Option) -> tuple[float, int, str]:
            replica, expected, _ = option
            estimate_ns = expected.first_ns if is_urgent else expected.end_ns
            return (estimate_ns, replica.last_start, replica.id)

        return _best(request, model, now_ns, cost)


@dataclass(frozen=True, slots=True)
class ByPlan:
    """`plan`: runs the plan with the request inserted, and packs what is loose.

    A request with an objective for its first token goes to the best match of its prefix among the
    replicas where it is on time and makes nobody late; any other to the fullest of them, so that
    the emptier ones stay fit for what is urgent, or fall idle. Where none is such, to the replica
    where the fewest suffer, and it ends first.
    """

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """The feasible replica that suits it best."""
        is_urgent = request.request.sla.ttft_ns is not None

        def cost(option: _Option) -> tuple[float, float, float, float, str]:
            replica, expected, cached = option
            late = expected.harmed + (not expected.is_good)
            if late:
                return (late, expected.end_ns, 0.0, 0.0, replica.id)
            if is_urgent:
                return (0.0, -cached, expected.first_ns, replica.last_start, replica.id)
            return (0.0, -replica.running_count, -cached, expected.end_ns, replica.id)

        return _best(request, model, now_ns, cost)


def _best(
    request: RequestView,
    model: ModelView,
    now_ns: int,
    cost: Callable[[_Option], tuple[object, ...]],
) -> Named | None:
    step_cost = model.spec.step_cost
    found = open_replicas(model)
    if step_cost is None or len(found) < 2:
        return _BY_COUNT.pick(request, model, now_ns)
    reader = reader_of(request, model)
    shared = float(request.request.prefix_tokens)
    options = []
    for replica in found:
        cached = shared if replica.id == reader else 0.0
        cost_there = paced(step_cost, replica.speed)
        expected = outlook(request.request, replica, cost_there, now_ns, cached)
        options.append((replica, expected, cached))
    return min(options, key=cost)[0]
