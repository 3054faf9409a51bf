"""`forecast`: Slalom's own scaling, by the goodput that one replica more or fewer would change.

Owns the decision: the marginal worth of a replica in a replay of what was asked lately, at the rate
that is expected once it would be up, and the bound on changes. `replay` owns the replay, and
docs/adr/0020-scaling.md says why it looks at this and at no tally of missed targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from slalom.core.request import Request, StepCost
from slalom.core.sizing import Size, SizeView
from slalom.policies.scaling.by_count import after_delay, size_of
from slalom.policies.scaling.replay import Call, calls_of, cost_of, good_with
from slalom.units import SECOND, seconds_to_ns

_HOUR_NS = 3_600 * SECOND
#: Requests that one replay looks at, the last ones, and the least that say anything.
_REPLAYED_MAX = 128
_REPLAYED_MIN = 4
#: A shorter span says nothing of a rate, s.
_SPAN_MIN_NS = 10 * SECOND
#: The rate is thought to change no more than so many times until a load is over.
_TREND_MAX = 3.0
#: A replica leaves only if it is worth less than this share of what lets one come.
_LEAVES_AT = 0.5


@dataclass(frozen=True, slots=True)
class Forecast:
    """`forecast`: as many replicas as pay, by a replay of what was asked lately.

    Another replica comes if the replay has so many more good answers with it; one leaves if there
    are hardly fewer without it. The replayed rate is that of lately, carried on by its trend, and
    by the same time of earlier days, to when a load would be over.
    """

    #: Good answers a minute that a replica must add: its price.
    worth_per_minute: float = field(default=1.0, metadata={"gt": 0})
    #: Requests that count as lately, s.
    window_s: float = field(default=120.0, metadata={"gt": 0})
    #: How long a replica must be superfluous before it leaves, s.
    down_delay_s: float = field(default=120.0, metadata={"ge": 0})
    #: Nothing asked for so long: the last one leaves too, s; 0 for never.
    idle_s: float = field(default=600.0, metadata={"ge": 0})
    #: Changes of one model's size in any hour, at most. Half of them may be reductions.
    changes_per_hour: int = field(default=20, metadata={"ge": 2})
    #: Between two looks, s.
    every_s: float = field(default=5.0, metadata={"gt": 0})

    @property
    def every_ns(self) -> int:
        """As the protocol says."""
        return seconds_to_ns(self.every_s)

    def size(self, model: SizeView, now_ns: int) -> Size:
        """The number at which one more would not pay, if it may be changed."""
        now = size_of(model, 0)
        wanted = self._wanted(model, now, now_ns)
        if wanted == now:
            return Size(now)
        changes = model.sizing.changes_since(now_ns - _HOUR_NS)
        if wanted > now:
            # One stays in hand: a model at zero that is asked for comes up in any case.
            allowed = changes + 1 < self.changes_per_hour or now == 0
            return Size(wanted) if allowed else Size(now, 1)
        least = changes + (2 if wanted == 0 else 1)
        if 2 * least > self.changes_per_hour:
            return Size(now, -1)
        return after_delay(model, now, wanted, seconds_to_ns(self.down_delay_s), now_ns)

    def _wanted(self, model: SizeView, now: int, now_ns: int) -> int:
        """The number that pays."""
        lives = model.waiting_count + model.running_count()
        recent = model.sizing.recent()
        idle_ns = now_ns - recent[-1].arrived_ns if recent else now_ns
        if not lives and self.idle_s and idle_ns >= seconds_to_ns(self.idle_s):
            return 0
        least = 1 if recent or lives else now
        cost = cost_of(model)
        since_ns = now_ns - seconds_to_ns(self.window_s)
        lately = [one for one in recent if one.arrived_ns >= since_ns][-_REPLAYED_MAX:]
        if len(lately) < _REPLAYED_MIN:
            return min(max(least, min(now, 1)), model.spec.replicas)
        if cost is None:
            return min(max(ceil(lives / model.spec.places), least), model.spec.replicas)
        rate = self._rate(model, lately, now_ns)
        span_ns = max(now_ns - lately[0].arrived_ns, _SPAN_MIN_NS) / rate
        calls = calls_of(lately, cost, rate, model.sizing)
        return max(self._paying(model, now, cost, calls, span_ns), least)

    def _paying(
        self, model: SizeView, now: int, cost: StepCost, calls: Sequence[Call], span_ns: float
    ) -> int:
        """From the present number, as far up or down as each step pays."""
        places, most = model.spec.places, model.spec.replicas
        price = self.worth_per_minute * span_ns / (60 * SECOND)
        size, good = now, good_with(now, calls, cost, places, span_ns)
        highest = min(most, 2 * now + 2)
        while size < highest:
            # Two at a time where one alone only moves the queue.
            step = 1
            more = good_with(size + 1, calls, cost, places, span_ns)
            if more - good < price and size + 2 <= highest:
                step, more = 2, good_with(size + 2, calls, cost, places, span_ns)
            if more - good < price * step:
                break
            size, good = size + step, more
        if size > now:
            return size
        while size > 1:
            fewer = good_with(size - 1, calls, cost, places, span_ns)
            if good - fewer >= price * _LEAVES_AT:
                break
            size, good = size - 1, fewer
        return size

    def _rate(self, model: SizeView, lately: Sequence[Request], now_ns: int) -> float:
        """How many times as fast requests will come once a load begun now is over."""
        ahead_ns = model.load_ns
        span_ns = max(now_ns - lately[0].arrived_ns, _SPAN_MIN_NS)
        middle_ns = now_ns - span_ns // 2
        younger = sum(one.arrived_ns >= middle_ns for one in lately)
        older = len(lately) - younger
        trend = (younger + 1.0) / (older + 1.0)
        trend = pow(trend, min(ahead_ns / (span_ns / 2), 1.0))
        day = model.sizing.day_factor(now_ns, ahead_ns)
        return float(min(max(trend * day, 1.0 / _TREND_MAX), _TREND_MAX))
