"""`penalty`: what an eviction will cost those who come, against what waiting costs those who wait.

Owns Slalom's own residency policy: the expected penalty of a set of victims, the cheapest set that
frees enough, and whether the need is worth it yet. Called by the core through the registry.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import expm1
from typing import Protocol

from slalom.core.actions import Candidate
from slalom.core.keeping import NOBODY, Absent, Ahead, Bed, Keeper, Need, Selection
from slalom.core.planning import Observation
from slalom.core.policy import ReplicaView
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.policies.residency.ranking import cheapest, host_bytes, looked_at
from slalom.policies.residency.usage import Traffic
from slalom.units import GIB, MS, SECOND, seconds_to_ns

#: What a load is taken for where nobody knows.
_LOAD_NS = 10 * SECOND
#: A need that is held back is looked at again no sooner and no later than this.
_LOOK_LEAST_NS, _LOOK_MOST_NS = 100 * MS, 2 * SECOND
#: A busy victim is left alone for so many of its running times: who comes for it meanwhile needs
#: no swap of its own.
_RUNS = 2.0
#: What keeps a newcomer busy is foreseen for at most so many times what its coming up takes.
_STAY_MOST = 3.0
_EXPONENT_MOST = 9.0
#: What comes up ahead of its requests is worth so many times what gives way to it, and so much at
#: least: it may be for nothing.
_AHEAD_TIMES, _AHEAD_LEAST = 2.0, 0.1


class Demand(Protocol):
    """What is expected of one model's requests."""

    @property
    def slack_ns(self) -> float:
        """How late its answers may begin."""
        ...

    @property
    def running_ns(self) -> float:
        """How long one runs."""
        ...

    @property
    def arrivals(self) -> int:
        """Requests ever."""
        ...

    def chance_within(self, span_ns: float, now_ns: int) -> float:
        """Probability of a request within a span."""
        ...

    def expected_within(self, span_ns: float, now_ns: int) -> float:
        """Requests within a span."""
        ...

    def return_within(self, span_ns: float, now_ns: int) -> float:
        """Probability of a request within a long span, by how it was asked for ever since."""
        ...

    def rate_before(self, since_ns: int, now_ns: int) -> float:
        """Requests for each nanosecond, as it was before a need arose."""
        ...


class Forecast(Protocol):
    """What is expected of all models' requests."""

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Learn."""
        ...

    def of(self, model_id: str) -> Demand:
        """Of one model."""
        ...

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        """These are all models from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Penalty:
    """`penalty`: the cheapest set of victims, as soon as waiting costs more than their loss.

    The loss of a victim: of the requests that are expected while it is away - until the newcomer
    is up, has done its work, and the victim is back - each counts one if it would miss its
    objective by that, and each second of delay counts too. Whoever is not expected so soon, but
    later, pays for coming back. A need is held back where company is expected that is worth it,
    until what its own requests have lost by waiting has reached that sum, and never longer than
    `scheduler.swap_hold_ms`; whoever expects none, or disturbs no more than wait, goes at once. The
    formulas are ours.
    """

    #: Seconds of delay that weigh as much as one missed objective.
    delay_s: float = field(default=25.0, metadata={"gt": 0, "le": 86_400})
    #: How far ahead a next use still counts, s.
    horizon_s: float = field(default=300.0, metadata={"gt": 0, "le": 86_400})
    #: Time after which an arrival counts for a third in a model's rate, s.
    memory_s: float = field(default=120.0, metadata={"gt": 0, "le": 86_400})
    #: How far ahead the next use of what sleeps still counts, s.
    rest_s: float = field(default=3600.0, metadata={"gt": 0, "le": 604_800})
    #: Whether a need that costs more than it gains is held back.
    hold: bool = True
    #: Whether models come up before they are asked for, where nobody waits for memory.
    ahead: bool = False
    #: How far ahead a next use is looked for then, s.
    ahead_s: float = field(default=10.0, metadata={"gt": 0, "le": 3600})

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper that has seen nothing yet."""
        memory_ns = seconds_to_ns(self.memory_s)
        return PenaltyKeeper(self, Traffic(memory_ns, memory_ns))


class PenaltyKeeper:
    """Weighs victims against a need.

    Args:
        options: The weights.
        forecast: What is expected of each model.
    """

    weighs_sleepers = True

    def __init__(self, options: Penalty, forecast: Forecast) -> None:
        self._options = options
        self._forecast = forecast
        self.delay_ns = seconds_to_ns(options.delay_s)
        self._horizon_ns = seconds_to_ns(options.horizon_s)
        self._rest_ns = seconds_to_ns(options.rest_s)
        self.holds = options.hold
        self.looks_ahead = options.ahead
        self._ahead_ns = seconds_to_ns(options.ahead_s)

    def __repr__(self) -> str:
        return f"PenaltyKeeper({self._forecast!r})"

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on."""
        self._forecast.models_changed(models)

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Learn what is asked for."""
        self._forecast.observe(seen, now_ns)

    def select(self, candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
        """The cheapest set, if the need is worth it."""
        offered = looked_at(candidates, need.shortfall_bytes)
        if need.spec is not None and not need.takes_ns:
            need = replace(need, takes_ns=_guessed(need.spec, offered))
        away_ns = self._away_ns(need, now_ns)
        losses = {one.id: self._loss(one, away_ns, now_ns) for one in offered}
        costs = {name: score.score for name, (score, _) in losses.items()}
        victims = cheapest(offered, costs, need.shortfall_bytes)
        if not victims:
            return NOBODY
        busy_ns = self._busy_ns(victims, need, now_ns)
        if busy_ns > 0:
            return Selection(look_ns=now_ns + min(busy_ns, _LOOK_MOST_NS))
        penalty = sum(costs[one.id] for one in victims)
        expected = sum(losses[one.id][1] for one in victims)
        if self.has_company(need, penalty, expected, now_ns):
            held_ns = self.hold_ns(need, penalty, now_ns)
            if held_ns > 0:
                return Selection(look_ns=now_ns + held_ns)
        scores = [score for score, _ in losses.values()]
        ranked = sorted(scores, key=lambda one: (one.score, one.replica_id))
        return Selection(victims, tuple(ranked))

    def drop(
        self,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView]:
        """The cheapest set."""
        costs = {one.id: self._worth_of_sleep(one, now_ns) for one in sleepers}
        return cheapest(sleepers, costs, shortfall_bytes, host_bytes)

    def bed(
        self,
        newcomer: ReplicaView,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Bed:
        """What costs least: others' sleep, its own weights in host memory, or all of its sleep."""
        costs = {one.id: self._worth_of_sleep(one, now_ns) for one in sleepers}
        dropped = cheapest(sleepers, costs, shortfall_bytes, host_bytes)
        expected = self._expected(newcomer, now_ns)
        ways = [(_known(newcomer.load_ns) * expected, Bed(0))]
        if newcomer.deep_wake_ns:
            ways.append((newcomer.deep_wake_ns * expected, Bed(2)))
        if dropped:
            cost = newcomer.wake_ns * expected + sum(costs[one.id] for one in dropped)
            ways.append((cost, Bed(1, dropped)))
        return min(ways, key=lambda way: way[0])[1]

    def ahead(
        self,
        absent: Sequence[Absent],
        idle: Sequence[ReplicaView],
        free_bytes: int,
        now_ns: int,
    ) -> Ahead:
        """That for which most is expected, less what is expected of those that give way to it."""
        kept = {}
        for one in idle:
            back_ns = _known(one.wake_ns if one.sleeps else one.load_ns)
            kept[one.id] = self._use(one.model_id, back_ns, one.announced, now_ns)
        best, best_gain, look_ns = Ahead(), 0.0, -1
        for model in absent:
            takes_ns = _known(model.takes_ns)
            gain = self._use(model.spec.id, takes_ns, model.announced, now_ns)
            if gain < _AHEAD_LEAST:
                starts = [at_ns - takes_ns - self._ahead_ns for at_ns in model.announced[:1]]
                look_ns = min([at_ns for at_ns in (look_ns, *starts) if at_ns > now_ns], default=-1)
                continue
            shortfall = model.needed_bytes - free_bytes
            victims = cheapest(idle, kept, shortfall) if shortfall > 0 else []
            lost = _AHEAD_TIMES * sum(kept[victim.id] for victim in victims)
            if (shortfall <= 0 or victims) and gain - lost > best_gain:
                scores = tuple(Candidate(name, value) for name, value in kept.items())
                best, best_gain = Ahead(model.spec.id, victims, scores, gain), gain - lost
        return replace(best, look_ns=look_ns)

    def _use(self, model_id: str, back_ns: int, announced: Sequence[int], now_ns: int) -> float:
        """What the next request for a model is expected to lose if it has to come up for it."""
        demand = self._forecast.of(model_id)
        span_ns = self._ahead_ns + back_ns
        is_announced = any(now_ns <= at_ns <= now_ns + span_ns for at_ns in announced)
        chance = 1.0 if is_announced else demand.chance_within(span_ns, now_ns)
        return chance * (_missed(demand, back_ns) + back_ns / self.delay_ns)

    def _worth_of_sleep(self, one: ReplicaView, now_ns: int) -> float:
        """What a load would take longer than a wake, times the chance that it will be wanted."""
        saved_ns = max(_known(one.load_ns) - one.wake_ns, 0)
        return saved_ns * self._expected(one, now_ns)

    def _expected(self, one: ReplicaView, now_ns: int) -> float:
        """Chance that it is wanted, times its size: while it comes up, others lack those bytes."""
        demand = self._forecast.of(one.model_id)
        chance = max(demand.return_within(self._rest_ns, now_ns), float(one.waiting_count > 0))
        return chance * one.spec.bytes_needed / GIB

    def _busy_ns(self, victims: Sequence[ReplicaView], need: Need, now_ns: int) -> int:
        """How long busy victims are left to end their work before they are closed to newcomers."""
        if not self.holds or need.overdue or need.spec is None:
            return 0
        runs = [self._forecast.of(one.model_id).running_ns for one in victims if one.running_count]
        if not runs:
            return 0
        return need.since_ns + max(need.takes_ns, round(_RUNS * max(runs))) - now_ns

    def _away_ns(self, need: Need, now_ns: int) -> float:
        """How long the newcomer takes to come up and do its work, that which comes meanwhile too.

        At Poisson arrivals it is idle for long enough to give way again once a gap lasts for two
        wakes. What has to be loaded first is not expected to go as soon as that.
        """
        if need.spec is None:
            return 0.0
        demand, takes_ns = self._forecast.of(need.spec.id), _known(need.takes_ns)
        stays_ns, rate = 0.0, demand.expected_within(SECOND, now_ns) / SECOND
        if rate > 0 and need.asleep and self.holds:
            busy_ns = expm1(min(rate * 2 * takes_ns, _EXPONENT_MOST)) / rate
            stays_ns = min(busy_ns, _STAY_MOST * takes_ns)
        return takes_ns + demand.running_ns + stays_ns

    def _loss(self, one: ReplicaView, away_ns: float, now_ns: int) -> tuple[Candidate, float]:
        """What the requests for a victim lose, and how many surely come while it is away.

        The first request ever says that there is somebody, not that more will come.
        """
        demand = self._forecast.of(one.model_id)
        back_ns = _known(one.wake_ns if one.sleeps else one.load_ns)
        absent_ns = away_ns + back_ns
        soon = demand.expected_within(absent_ns, now_ns) + one.waiting_count
        later = max(demand.chance_within(self._horizon_ns, now_ns) - min(soon, 1.0), 0.0)
        missing = soon * _missed(demand, 0.5 * absent_ns) + later * _missed(demand, back_ns)
        delay_ns = soon * 0.5 * absent_ns + later * back_ns
        busy = float(one.running_count) * _missed(demand, demand.running_ns)
        parts = (("missed", missing), ("delay", delay_ns / self.delay_ns), ("busy", busy))
        sure = soon * (1.0 - 1.0 / max(demand.arrivals, 1))
        return Candidate(one.id, sum(value for _, value in parts), parts), sure

    def has_company(self, need: Need, penalty: float, expected: float, now_ns: int) -> bool:
        """Whether so many are to come that a need should wait to share its swap with them.

        At Poisson arrivals of rate r a swap that costs as much as C of waiting is best shared by n
        requests, where n (n + 1) / 2 first reaches r C. Who was never asked for before expects
        nobody, and who disturbs no more than those who wait need not wait for more.

        Args:
            need: What wants memory.
            penalty: What its victims lose.
            expected: Requests for them that come while they are away, as far as that is known.
            now_ns: Now.
        """
        if need.spec is None:
            return False
        waiting = max(need.waiting_count, 1)
        rate = self._forecast.of(need.spec.id).rate_before(need.since_ns, now_ns)
        enough = waiting * (waiting + 1) / 2 >= rate * penalty * self.delay_ns
        return expected > waiting and not enough

    def hold_ns(self, need: Need, penalty: float, now_ns: int) -> int:
        """How much longer a need waits, ns: until it has lost by that what its victims would."""
        if not self.holds or need.overdue or need.spec is None:
            return 0
        waiting = max(need.waiting_count, 1)
        demand = self._forecast.of(need.spec.id)
        waited_ns = now_ns - need.since_ns
        in_time = waited_ns + _known(need.takes_ns) < demand.slack_ns
        lost = waiting * (float(in_time) + 0.5 * waited_ns / self.delay_ns)
        if lost >= penalty:
            return 0
        more_per_ns = waiting / self.delay_ns + demand.expected_within(SECOND, now_ns) / SECOND
        wait_ns = (penalty - lost) / more_per_ns
        return int(min(max(wait_ns, _LOOK_LEAST_NS), _LOOK_MOST_NS))


def _missed(demand: Demand, delay_ns: float) -> float:
    """Share of its requests that so much delay makes late."""
    return min(delay_ns / max(demand.slack_ns, 1.0), 1.0)


def _guessed(spec: ModelSpec, others: Sequence[ReplicaView]) -> int:
    """What a load takes that nobody has seen: by its bytes, as the slowest of others; 0 without.

    A need that is thought to be late anyway is held back for long: too long a guess keeps somebody
    waiting for what would have been up at once.
    """
    known = [one.load_ns / one.booked_bytes for one in others if one.load_ns and one.booked_bytes]
    return round(max(known) * spec.bytes_needed) if known else 0


def _known(takes_ns: int) -> int:
    return takes_ns or _LOAD_NS
