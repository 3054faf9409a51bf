"""Which of several models serves a request: decided once, when it arrives, by what is known then.

Owns the three rules and the facts that they look at. Models that would refuse the request are left
out before. Called by `arriving`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from slalom.core.actions import Passed
from slalom.core.planning import Estimator
from slalom.core.request import Alternatives, Choice, Request
from slalom.core.state import Model
from slalom.core.step import Step


@dataclass(frozen=True, slots=True)
class Option:
    """A model that could serve the request."""

    model: str
    #: Whether a replica of it is ready, be it full.
    ready: bool
    #: Requests that wait for it.
    waiting: int
    #: Expected wait until the request begins to run, and its expected end, ns; -1 where nobody
    #: knows. Of a model that is not ready, what it takes to come up at least.
    wait_ns: int
    end_ns: int
    #: Whether every objective is expected to hold.
    holds: bool


def choose(step: Step, candidates: Sequence[Request], how: Alternatives) -> int:
    """The place of the chosen one among requests that differ in their model alone.

    Args:
        step: What is known.
        candidates: At least one, the best model first.
        how: The rule.
    """
    options = [option_of(step, request, step.state.models[request.model]) for request in candidates]
    return _RULES[how.choice](options, how)


def option_of(step: Step, request: Request, model: Model) -> Option:
    """What is to be expected of a model, by its planner where it has one, else by its costs."""
    planner: object = step.state.planner
    now_ns, ready = step.state.now_ns, model.has_ready()
    first_ns = end_ns = wait_ns = -1
    expected = None
    if ready and isinstance(planner, Estimator):
        expected = planner.estimate(request, model, now_ns)
    if expected is not None:
        begins_ns = expected.start_ns if expected.start_ns >= 0 else expected.first_ns
        wait_ns = max(begins_ns - now_ns, 0)
        first_ns, end_ns = expected.first_ns, expected.end_ns
    elif (begins_ns := _begins_ns(model, now_ns)) >= 0:
        wait_ns = begins_ns - now_ns
        first_ns, end_ns = _alone_ns(request, model, begins_ns)
    holds = end_ns >= 0 and request.was_good(first_ns, end_ns, max(request.predicted_tokens, 1))
    return Option(model.spec.id, ready, model.waiting_count, wait_ns, end_ns, holds)


def _begins_ns(model: Model, now_ns: int) -> int:
    """When a request could begin to run where no planner says it; -1 where nobody knows."""
    if model.has_ready():
        return now_ns if model.most_free() is not None and model.room > 0 else -1
    at_ns = model.ready_at_ns(now_ns)
    comes = model.is_resident() and model.load_ns > 0
    return at_ns if at_ns > now_ns or comes or not model.bytes_needed else -1


def _alone_ns(request: Request, model: Model, begins_ns: int) -> tuple[int, int]:
    """First token and end of a request that has its engine to itself, ns."""
    cost = model.spec.step_cost
    if cost is None:
        return begins_ns, begins_ns
    first_ns = (
        begins_ns + cost.request_ns + cost.reading_ns(request.prompt_tokens) + cost.of(1, 0, 0)
    )
    context = request.prompt_tokens + request.predicted_tokens / 2
    gaps = max(request.predicted_tokens - 1, 0)
    return round(first_ns), round(first_ns + gaps * cost.of(1, context, 0))


def _warm_first(options: Sequence[Option], how: Alternatives) -> int:  # noqa: ARG001 - as its like
    return next((place for place, option in enumerate(options) if option.ready), 0)


def _spillover(options: Sequence[Option], how: Alternatives) -> int:
    """The first that is not waited for too long; else the one that is waited for least."""
    for place, option in enumerate(options):
        few = how.waiting_max < 0 or option.waiting <= how.waiting_max
        soon = 0 <= option.wait_ns <= how.wait_ns
        counted = option.wait_ns < 0 and option.ready and how.waiting_max >= 0
        if few and (soon or counted):
            return place
    return _least([option.wait_ns for option in options])


def _deadline(options: Sequence[Option], how: Alternatives) -> int:  # noqa: ARG001 - as its like
    """The first that is expected to be on time; else the one that ends first."""
    for place, option in enumerate(options):
        if option.holds:
            return place
    return _least([option.end_ns for option in options])


def _least(times_ns: Sequence[int]) -> int:
    """The place of the least; what nobody knows comes last, the first of equals is taken."""
    known = [at_ns if at_ns >= 0 else math.inf for at_ns in times_ns]
    return known.index(min(known))


_RULES: Mapping[Choice, Callable[[Sequence[Option], Alternatives], int]] = MappingProxyType(
    {
        Choice.WARM_FIRST: _warm_first,
        Choice.SPILLOVER: _spillover,
        Choice.DEADLINE: _deadline,
        Choice.CONFIDENT: _warm_first,
    }
)
#: What is said of the models before the chosen one.
WHY: Mapping[Choice, Passed] = MappingProxyType(
    {
        Choice.WARM_FIRST: Passed.NOT_READY,
        Choice.SPILLOVER: Passed.WAIT_TOO_LONG,
        Choice.DEADLINE: Passed.LATE,
        Choice.CONFIDENT: Passed.NOT_READY,
    }
)
