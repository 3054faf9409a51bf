"""What can be reached: plans with full knowledge, played in the twin's own world.

Owns the candidates and the choice among them. A candidate is a set of requests that are let in;
all others are turned away at the door. What it is worth is what the twin says of it, so
that the result is a schedule that exists, on any engine and with any memory. Called by `bound_api`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slalom.core.journal import Entry
from slalom.core.policy import Decision, ModelView, Policies, RequestView, Verdict
from slalom.core.request import Request
from slalom.policies.registry import policies
from slalom.twin.bound_jobs import ModelJobs
from slalom.twin.bound_plan import make_plan
from slalom.twin.clients import ClientEnd
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, Scenario
from slalom.units import SECOND

_ADMIT = Decision(Verdict.ADMIT)
_HOLD = Decision(Verdict.HOLD)

#: Shares of an engine's places that plans may fill.
_WINDOWS = (1.0, 0.6)
#: Requests turned away are let in again in so many groups, each kept if it gains.
_GROUPS = 6
#: Events of the forecast to spend on one plan: a thorough search of a few hundred requests.
_EFFORT = 200_000
#: Latest start of a request that may wait for ever, s.
_FAR_S = 1e9


@dataclass(frozen=True, slots=True)
class _Window:
    """Admission that fills no replica beyond a number of attempts."""

    running_max: Mapping[str, int]

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """Hold while even the emptiest replica is that full."""
        emptiest = model.most_free()
        most = self.running_max.get(request.request.model, model.spec.places)
        return _ADMIT if emptiest is None or emptiest.running_count < most else _HOLD


@dataclass(frozen=True, slots=True)
class _Planned:
    """Ordering by latest start, known from true lengths."""

    latest_start_ns: Mapping[str, int]

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The latest start; a request outside the plan comes after those within it."""
        return self.latest_start_ns.get(request.id, request.arrived_ns + 3600 * SECOND)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A way to serve a scenario: who is let in, and by which policies."""

    admitted: frozenset[str]
    policies: Policies


def best_schedule(
    scenario: Scenario, models: Sequence[ModelJobs], shares: Mapping[str, float]
) -> int:
    """Good requests of the best schedule found.

    Args:
        scenario: What to play; its own policies are one of the candidates.
        models: Its requests (`bound_jobs.jobs_of`).
        shares: From the relaxed optimum (`bound_upper.Upper`).
    """
    stage = _Stage(scenario)
    everyone = frozenset(stage.chains)
    candidates = [_Candidate(everyone, scenario.policies)]
    candidates += [
        _Candidate(everyone, policies(admission=admission, ordering=ordering))
        for admission in ("open", "drop-late")
        for ordering in ("fcfs", "edf")
    ]
    candidates += [_plan(stage, models, shares, filled) for filled in _WINDOWS]
    staying = _staying(scenario, models)
    if len(staying) < len(models):
        candidates.append(_plan(stage, staying, shares, 1.0))
    results = [(stage.play(candidate), candidate) for candidate in candidates]
    good, candidate = max(results, key=lambda result: len(result[0]))
    return _refine(stage, models, good, candidate)


class _Stage:
    """A scenario, and the playing of candidates on it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._arrivals = list(scenario.arrivals)
        #: The requests that come of each arrival: its own, and those that follow its answer.
        self.chains = {arrival.request.id: _chain(arrival) for arrival in self._arrivals}

    def play(self, candidate: _Candidate) -> frozenset[str]:
        """The good requests of a candidate."""
        arrivals = [one for one in self._arrivals if one.request.id in candidate.admitted]
        seen = _Good()
        scenario = replace(self.scenario, arrivals=arrivals, policies=candidate.policies)
        run(scenario, observer=seen, keep=False)
        return frozenset(seen.names)

    def roots_of(self, good: frozenset[str]) -> frozenset[str]:
        """The arrivals of which anything good came."""
        return frozenset(root for root, chain in self.chains.items() if not good.isdisjoint(chain))


class _Good:
    """The good requests of a run, by what their clients call them."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def watch_entry(self, entry: Entry) -> None:
        """Nothing is counted but ends."""

    def watch_end(self, told: ClientEnd) -> None:
        """Note a good one; an answer that a clamp cut short is not this answer."""
        if told.good and not told.cut:
            self.names.add(told.name)


def _chain(arrival: Arrival) -> list[str]:
    names = [arrival.request.id]
    while arrival.then is not None:
        arrival = arrival.then
        names.append(arrival.request.id)
    return names


def _plan(
    stage: _Stage, models: Sequence[ModelJobs], shares: Mapping[str, float], filled: float
) -> _Candidate:
    """A plan that knows all arrivals and lengths, with so large a share of the places filled."""
    order: dict[str, int] = {}
    windows: dict[str, int] = {}
    effort = _EFFORT // len(models)
    for model in models:
        spec = model.engine.model.spec
        windows[spec.id] = max(round(model.curve.places * filled), 1)
        plan = make_plan(model, shares, window=windows[spec.id], events_max=effort)
        order |= {name: _key_ns(latest_s) for name, latest_s in plan.order.items()}
    chosen = replace(stage.scenario.policies, admission=_Window(windows), ordering=_Planned(order))
    return _Candidate(stage.roots_of(frozenset(order)), chosen)


def _staying(scenario: Scenario, models: Sequence[ModelJobs]) -> list[ModelJobs]:
    """Models that fit together, most requests for a byte first: nothing is ever swapped."""
    free = {device.id: device.budget_bytes for device in scenario.devices}
    chosen = []
    for model in sorted(models, key=_requests_per_byte, reverse=True):
        spec = model.engine.model.spec
        roomiest = max(spec.homes, key=free.__getitem__)
        if spec.bytes_needed <= free[roomiest]:
            free[roomiest] -= spec.bytes_needed
            chosen.append(model)
    return chosen


def _requests_per_byte(model: ModelJobs) -> float:
    return len(model.jobs) / max(model.engine.model.spec.bytes_needed, 1)


def _key_ns(latest_s: float) -> int:
    return round(latest_s * SECOND) if latest_s < _FAR_S else round(_FAR_S * SECOND)


def _refine(
    stage: _Stage, models: Sequence[ModelJobs], good: frozenset[str], candidate: _Candidate
) -> int:
    """Turn away those that came to nothing; then let others in, group by group, while it gains."""
    lean = replace(candidate, admitted=stage.roots_of(good))
    again = stage.play(lean)
    if len(again) >= len(good):
        good, candidate = again, lean
    size = {job.id: job.alone_s(model.curve) for model in models for job in model.jobs}
    left = [root for root in stage.chains if root not in candidate.admitted and root in size]
    left.sort(key=lambda root: (size[root], root))
    step = max(-(-len(left) // _GROUPS), 1)
    for begin in range(0, len(left), step):
        more = replace(candidate, admitted=candidate.admitted | set(left[begin : begin + step]))
        again = stage.play(more)
        if len(again) > len(good):
            good, candidate = again, replace(more, admitted=stage.roots_of(again))
    return len(good)
