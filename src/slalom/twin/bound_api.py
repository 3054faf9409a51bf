"""How much goodput a scenario allows: an upper bound over all policies, and a schedule near it.

Owns the result and the one call that makes it. With full knowledge of arrivals and lengths,
`good_schedule <= best possible <= good_upper`; what any policy achieves lies below. What is
proved is in docs/explanation/bound.md. Called by whoever reports how far a policy is from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from slalom.twin.bound_jobs import PAUSES_MAX, jobs_of, requests_of
from slalom.twin.bound_schedule import best_schedule
from slalom.twin.bound_upper import upper_bound
from slalom.twin.scenario import Scenario
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class Bound:
    """The bracket around the best that any policy could do."""

    #: Requests injected.
    requests: int
    #: Span of their arrivals, ns.
    duration_ns: int
    #: No policy has more good requests than this.
    good_upper: int
    #: A schedule that knows the future reaches this.
    good_schedule: int

    @property
    def upper_share(self) -> float:
        """Largest share of the injected requests that could be good; 1 if there are none."""
        return self.good_upper / self.requests if self.requests else 1.0

    @property
    def schedule_share(self) -> float:
        """Share of the injected requests that the schedule makes good; 1 if there are none."""
        return self.good_schedule / self.requests if self.requests else 1.0

    @property
    def upper_per_s(self) -> float:
        """Goodput that no policy exceeds, good requests per second of arrivals."""
        return self.good_upper * SECOND / self.duration_ns if self.duration_ns else 0.0

    @property
    def schedule_per_s(self) -> float:
        """Goodput of the schedule, good requests per second of arrivals."""
        return self.good_schedule * SECOND / self.duration_ns if self.duration_ns else 0.0

    def with_achieved(self, good: int) -> "Bound":
        """The same bracket after a run of the scenario had `good` good requests.

        A run of any policy is a schedule too, so that it may lift the lower end.
        """
        return replace(self, good_schedule=max(self.good_schedule, good))


def bound(
    scenario: Scenario, *, achieved: Iterable[int] = (), pauses_max: int = PAUSES_MAX
) -> Bound:
    """Bracket the number of good requests of a scenario over all policies.

    The same scenario gives the same bracket. Takes seconds for 2,000 requests.

    Args:
        scenario: What to bound; its arrivals must be re-iterable.
        achieved: Good requests of runs already made of this very scenario.
        pauses_max: The bound is of policies that pause no request more often than this.

    Raises:
        ConfigError: The scenario's models and devices do not go together.
    """
    arrivals = tuple(scenario.arrivals)
    scenario = replace(scenario, arrivals=arrivals)
    models = jobs_of(scenario, pauses_max)
    upper = upper_bound(scenario, models)
    schedule = best_schedule(scenario, models, upper.shares)
    return Bound(
        requests=sum(1 for _ in requests_of(arrivals)),
        duration_ns=max((arrival.request.arrived_ns for arrival in arrivals), default=0),
        good_upper=upper.good,
        good_schedule=max([schedule, *achieved]),
    )
