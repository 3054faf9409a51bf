"""What the runtime tells of a request that has not come: the planner's view, and the model's state.

Owns the shape and how it is filled. Called by `driver`, read by the gateway.
"""

from dataclasses import dataclass

from slalom.core.planning import Estimator, Expectation
from slalom.core.request import Request
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import ModelSnapshot


@dataclass(frozen=True, slots=True)
class Forecast:
    """An answer to "what if it came now"."""

    #: Whether the configured admission makes predictions at all.
    predicts: bool
    #: The scheduler's time; what is expected counts on the same clock.
    now_ns: int
    #: None where nothing can be told: no replica is ready, or too little was seen.
    expected: Expectation | None
    #: None for an unknown model.
    model: ModelSnapshot | None
    #: The request for the model that would serve it; None for the one that was asked about.
    request: Request | None = None
    #: Those of its models that come before that one, and why they would not serve.
    passed: tuple[tuple[str, str], ...] = ()


def forecast_of(scheduler: Scheduler, request: Request) -> Forecast:
    """What is to be expected of a request that came now."""
    placing = scheduler.place(request)
    return Forecast(
        predicts=isinstance(scheduler.state.planner, Estimator),
        now_ns=scheduler.state.now_ns,
        expected=scheduler.estimate(placing.request),
        model=scheduler.model_snapshot(placing.request.model),
        request=placing.request,
        passed=placing.passed,
    )
