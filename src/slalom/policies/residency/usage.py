"""What traffic says of each model: how often it is asked for, when next, by whom, for how long.

Owns the windows and the prediction of the next use. Fed by keepers with what they are told;
bounded for each model, and exact replays of a journal give the same figures.
"""

from collections import deque
from collections.abc import Sequence
from math import exp

from slalom.core.planning import Moment, Observation
from slalom.core.request import ModelSpec, Request
from slalom.units import MS, SECOND

#: Buckets of a sliding window.
_BUCKETS = 30
#: Gaps between uses are counted in classes that double, from this one on.
_GAP_LEAST_NS = 50 * MS
_GAP_CLASSES = 24
#: Older gaps count for less: by this factor for each newer one.
_GAP_DECAY = 0.97
#: A prediction from gaps needs about so many of them.
_GAPS_MIN = 3.0
#: So many of the last arrivals tell how often a model is asked for before a need arose; so many are
#: remembered, those that wait among them.
_LATEST, _LATEST_MAX = 4, 64
#: Weight of a newer answer in the running means.
_NEWER = 0.1
#: Allowance of a request without objectives.
_PATIENT_NS = 60 * SECOND


class Window:
    """Events in the last so many nanoseconds, in buckets.

    Args:
        span_ns: Its length.
    """

    __slots__ = ("_buckets", "_step_ns", "total")

    def __init__(self, span_ns: int) -> None:
        self._step_ns = max(span_ns // _BUCKETS, 1)
        self._buckets: deque[list[int]] = deque()
        self.total = 0

    def add(self, now_ns: int) -> None:
        """Count an event."""
        self.slide(now_ns)
        number = now_ns // self._step_ns
        if self._buckets and self._buckets[-1][0] == number:
            self._buckets[-1][1] += 1
        else:
            self._buckets.append([number, 1])
        self.total += 1

    def slide(self, now_ns: int) -> int:
        """Forget what is too old; the events that are left."""
        oldest = now_ns // self._step_ns - _BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            self.total -= self._buckets.popleft()[1]
        return self.total


class Usage:
    """What is known of one model's traffic.

    Args:
        window_ns: Length of the sliding window.
        memory_ns: Time after which an arrival counts for a third in the rate.
    """

    __slots__ = (
        "_gap_total",
        "_gaps",
        "_latest",
        "_memory_ns",
        "_rate",
        "_rate_ns",
        "arrivals",
        "first_ns",
        "last_ns",
        "output_tokens",
        "running_ns",
        "sensitivity",
        "slack_ns",
        "window",
    )

    def __init__(self, window_ns: int, memory_ns: int) -> None:
        self.window = Window(window_ns)
        self._memory_ns = memory_ns
        #: Arrivals ever, and when the first and the last came; -1 before.
        self.arrivals = 0
        self.first_ns = self.last_ns = -1
        #: Arrivals, each worth 1 at its time and less and less after it.
        self._rate, self._rate_ns = 0.0, 0
        self._latest: deque[int] = deque(maxlen=_LATEST_MAX)
        self._gaps = [0.0] * _GAP_CLASSES
        self._gap_total = 0.0
        #: How urgent its requests are: 1 for those due within 200 ms, less for later ones.
        self.sensitivity = 0.0
        #: Running means: first objective, output, and time on an engine.
        self.slack_ns = float(_PATIENT_NS)
        self.output_tokens = 0.0
        self.running_ns = 0.0

    def arrived(self, request: Request, now_ns: int) -> None:
        """A request for it came."""
        self.window.add(now_ns)
        if self.last_ns >= 0:
            self._note_gap(now_ns - self.last_ns)
        else:
            self.first_ns = now_ns
        self._rate = self._decayed(now_ns) + 1.0
        self._rate_ns = self.last_ns = now_ns
        self.arrivals += 1
        self._latest.append(now_ns)
        slack_ns = request.sla.first_deadline_ns(0, default_ns=_PATIENT_NS)
        share = 1.0 if self.arrivals == 1 else _NEWER
        self.slack_ns += share * (slack_ns - self.slack_ns)
        urgency = min(200 * MS / max(slack_ns, 1), 1.0)
        self.sensitivity += share * (urgency - self.sensitivity)
        if self.arrivals == 1:
            self.output_tokens = float(request.predicted_tokens)

    def ended(self, seen: Observation, now_ns: int) -> None:
        """An attempt on it is over."""
        attempt = seen.attempt
        if attempt is None or not seen.finished:
            return
        share = _NEWER if self.running_ns else 1.0
        self.running_ns += share * (now_ns - attempt.started_ns - self.running_ns)
        self.output_tokens += _NEWER * (attempt.output_tokens - self.output_tokens)

    def _note_gap(self, gap_ns: int) -> None:
        self._gap_total = self._gap_total * _GAP_DECAY + 1.0
        self._gaps = [count * _GAP_DECAY for count in self._gaps]
        self._gaps[_gap_class(gap_ns)] += 1.0

    def _decayed(self, now_ns: int) -> float:
        passed_ns = now_ns - self._rate_ns
        return self._rate * exp(-passed_ns / self._memory_ns) if self._rate else 0.0

    def rate_per_ns(self, now_ns: int) -> float:
        """Arrivals for each nanosecond, lately; not sure of itself in the beginning."""
        if self.first_ns < 0:
            return 0.0
        seen_ns = min(max(now_ns - self.first_ns, SECOND), self._memory_ns * 4)
        return self._decayed(now_ns) / (self._memory_ns * -_expm1(-seen_ns / self._memory_ns))

    def rate_before(self, since_ns: int, now_ns: int) -> float:
        """Arrivals for each nanosecond from the last few on that came before then; 0 without any.

        Those that came since say that there is a need, not that more will share it.
        """
        before = [at_ns for at_ns in self._latest if at_ns < since_ns][-_LATEST:]
        return len(before) / max(now_ns - before[0], 1) if before else 0.0

    def chance_within(self, span_ns: float, now_ns: int) -> float:
        """Probability of another request within a span, given how long none has come.

        A renewal estimate: of the gaps that lasted at least as long as the present one has, the
        share that ended within the span. Few gaps: from the rate alone.
        """
        if self.last_ns < 0:
            return 0.0
        smooth = 1.0 - exp(-self.rate_per_ns(now_ns) * span_ns)
        if self._gap_total < _GAPS_MIN:
            return smooth
        passed_ns = now_ns - self.last_ns
        longer = self._gaps_above(passed_ns)
        if longer < 0.5:
            return smooth
        return max(1.0 - self._gaps_above(passed_ns + span_ns) / longer, 0.0)

    def return_within(self, span_ns: float, now_ns: int) -> float:
        """Probability of another request within a long span, from all that ever came.

        What is asked for now and then is forgotten by the rate and by the gaps, not by this.
        """
        if self.first_ns < 0:
            return 0.0
        seen_ns = max(now_ns - self.first_ns, span_ns / 4)
        return 1.0 - exp(-self.arrivals * span_ns / seen_ns)

    def _gaps_above(self, gap_ns: float) -> float:
        """Gaps that were longer, those of the same class in proportion."""
        index = _gap_class(gap_ns)
        low = _GAP_LEAST_NS * (1 << index) if index else 0
        high = _GAP_LEAST_NS * (2 << index)
        part = min(max((high - gap_ns) / (high - low), 0.0), 1.0)
        return self._gaps[index] * part + sum(self._gaps[index + 1 :])

    def expected_within(self, span_ns: float, now_ns: int) -> float:
        """Requests expected within a span."""
        return max(self.chance_within(span_ns, now_ns), self.rate_per_ns(now_ns) * span_ns)


def _gap_class(gap_ns: float) -> int:
    ratio = int(gap_ns) // _GAP_LEAST_NS
    return min(max(ratio.bit_length() - 1, 0), _GAP_CLASSES - 1)


def _expm1(exponent: float) -> float:
    return exp(exponent) - 1.0


class Traffic:
    """What is known of all models' traffic.

    Args:
        window_ns: Length of the sliding window.
        memory_ns: As in `Usage`.
    """

    def __init__(self, window_ns: int, memory_ns: int) -> None:
        self._window_ns = window_ns
        self._memory_ns = memory_ns
        self._models: dict[str, Usage] = {}

    def __repr__(self) -> str:
        return f"Traffic(models={len(self._models)})"

    def of(self, model_id: str) -> Usage:
        """What is known of one model."""
        usage = self._models.get(model_id)
        if usage is None:
            usage = self._models[model_id] = Usage(self._window_ns, self._memory_ns)
        return usage

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        """Forget all but these; how a model is asked for outlives a change of its engine."""
        stay = {model.id for model in models}
        self._models = {name: usage for name, usage in self._models.items() if name in stay}

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Learn from arrivals and ends."""
        if seen.moment is Moment.ARRIVED:
            self.of(seen.request.model).arrived(seen.request, now_ns)
        elif seen.moment is Moment.OVER:
            self.of(seen.request.model).ended(seen, now_ns)
