"""The clairvoyant keeper: residency by what will be asked for, instead of what is expected.

Owns the forecast that looks a scenario's arrivals up, and the keeper made of it and of `penalty`'s
weighing. Only the twin can have it. It is no proven limit: it knows all arrivals, and weighs them
as `penalty` weighs what it expects. Called by the residency benchmark.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from slalom.core.keeping import Keeper, Need
from slalom.core.planning import Observation
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.policies.residency.penalty import Penalty, PenaltyKeeper
from slalom.twin.scenario import Scenario
from slalom.units import SECOND

#: Allowance of a request without objectives.
_PATIENT_NS = 60 * SECOND
#: Requests over which a rate is taken.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What will be asked of one model."""

    #: Arrivals, in order.
    times_ns: Sequence[int] = ()
    #: Means: how late an answer may begin, and how long one runs that has the engine to itself.
    slack_ns: float = float(_PATIENT_NS)
    running_ns: float = 0.0

    @property
    def arrivals(self) -> int:
        """Requests in all."""
        return len(self.times_ns)

    def chance_within(self, span_ns: float, now_ns: int) -> float:
        """1 if there is a request within the span, 0 if there is none."""
        return float(self.expected_within(span_ns, now_ns) > 0)

    def expected_within(self, span_ns: float, now_ns: int) -> float:
        """Requests within the span."""
        until = bisect_right(self.times_ns, now_ns + int(span_ns))
        return float(until - bisect_right(self.times_ns, now_ns))

    def next_ns(self, now_ns: int) -> int:
        """When the next request comes after now; -1 for never."""
        place = bisect_right(self.times_ns, now_ns)
        return self.times_ns[place] if place < len(self.times_ns) else -1

    def return_within(self, span_ns: float, now_ns: int) -> float:
        """As `chance_within`."""
        return self.chance_within(span_ns, now_ns)

    def rate_before(self, since_ns: int, now_ns: int) -> float:
        """As it will be, over the next few requests."""
        place = bisect_right(self.times_ns, now_ns)
        ahead = self.times_ns[place : place + _AHEAD]
        return len(ahead) / max(ahead[-1] - now_ns, 1) if ahead else 0.0


@dataclass(frozen=True, slots=True)
class Foreknowledge:
    """What will be asked of all models."""

    models: Mapping[str, Known]

    def observe(self, seen: Observation, now_ns: int) -> None:
        """There is nothing to learn."""

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        """What is known is known."""

    def of(self, model_id: str) -> Known:
        """Of one model."""
        return self.models.get(model_id, _NOTHING)


_NOTHING = Known()


class ClairvoyantKeeper(PenaltyKeeper):
    """Holds a need back only for requests that it knows to come and to share its swap.

    Args:
        options: The weights.
        known: The future.
        hold_ns: The longest that a need may be held back.
    """

    def __init__(self, options: Penalty, known: Foreknowledge, hold_ns: int) -> None:
        super().__init__(options, known)
        self._known = known
        self._hold_most_ns = hold_ns

    def has_company(self, need: Need, penalty: float, expected: float, now_ns: int) -> bool:
        """Left to `hold_ns`, which knows who will come."""
        return True

    def hold_ns(self, need: Need, penalty: float, now_ns: int) -> int:
        """Until the next request for the same model, if waiting for it costs less than a swap."""
        if need.spec is None or super().hold_ns(need, penalty, now_ns) == 0:
            return 0
        next_ns = self._known.of(need.spec.id).next_ns(now_ns)
        if next_ns < 0 or next_ns > need.since_ns + self._hold_most_ns:
            return 0
        waits = max(need.waiting_count, 1) * (next_ns - now_ns) / self.delay_ns
        return next_ns - now_ns if waits < penalty else 0


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """`penalty` that knows all arrivals: what stands in the residency slot."""

    known: Foreknowledge
    options: Penalty = field(default_factory=Penalty)
    #: The longest that a need may be held back; 0 to hold back as `penalty` does.
    hold_ns: int = 0

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper for one run."""
        if self.hold_ns:
            return ClairvoyantKeeper(self.options, self.known, self.hold_ns)
        return PenaltyKeeper(self.options, self.known)


def foreknowledge(scenario: Scenario) -> Foreknowledge:
    """What a scenario will ask for.

    Later steps of sessions are not in it: when they come depends on when answers do.
    """
    laws = {model.spec.id: model for model in scenario.models}
    times: defaultdict[str, list[int]] = defaultdict(list)
    slack: defaultdict[str, float] = defaultdict(float)
    service: defaultdict[str, float] = defaultdict(float)
    for arrival in scenario.arrivals:
        request = arrival.request
        name = request.model
        times[name].append(request.arrived_ns)
        slack[name] += request.sla.first_deadline_ns(0, default_ns=_PATIENT_NS)
        service[name] += laws[name].alone_ns(request.prompt_tokens, arrival.output_tokens)
    return Foreknowledge(
        {
            name: Known(tuple(sorted(when)), slack[name] / len(when), service[name] / len(when))
            for name, when in times.items()
        }
    )


def with_foresight(
    scenario: Scenario, options: Penalty | None = None, *, waits_for_company: bool = False
) -> Scenario:
    """The same scenario, decided by a keeper that knows its arrivals.

    Args:
        scenario: What will be played; its own residency policy is replaced.
        options: The weights.
        waits_for_company: Hold needs back only for requests that will come and share the swap.
    """
    hold_ns = scenario.params.swap_hold_ns if waits_for_company else 0
    keeping = Clairvoyant(foreknowledge(scenario), options or Penalty(), hold_ns)
    return replace(scenario, policies=replace(scenario.policies, residency=keeping))
