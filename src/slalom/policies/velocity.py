"""`velocity`: a queue scored by slack, early rejection, and a window by additive increase.

Owns the scheduler of VelocityLLM 0.4 (a proxy in front of vLLM; PyPI `velocityllm`,
kartikpagariya25/VelocityLLM) as far as it acts at a gateway: its scoring, its admission test and
its AIMD loop with its own numbers. Left out: GPU memory and telemetry, priorities given by clients.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import sqrt

from slalom.core.planning import (
    Moment,
    Observation,
    Plan,
    Planner,
    PlanView,
    Refuse,
    Start,
    WaitingView,
)
from slalom.core.request import ModelSpec, Request
from slalom.policies.due import end_due_ns, expected_tokens, first_due_ns
from slalom.policies.places import Places
from slalom.units import MS, SECOND

#: The program's own numbers. Time before the first token, s; share of the limit above which a
#: request is urgent; most that one answer may raise an estimate; how fast estimates follow.
_BASE_S = 0.05
_ONSET = 0.4
_GROWTH_MAX = 2.0
_FOLLOW = 0.1
#: Weights of the score: urgency, being lost, length of the prompt, waiting (per s).
_URGENCY, _DOOMED, _SHORT, _AGING = 1.5, 1.2, 0.6, 0.25
_SHORT_TOKENS = 1_024
#: Of the window: factor after a miss, pause between two changes, patience when idle.
_DECREASE = 0.75
_COOLDOWN_NS = 500 * MS
_IDLE_NS = 3 * SECOND


@dataclass(frozen=True, slots=True)
class Velocity:
    """`velocity`: slack-scored queue, early rejection, and a window found by AIMD.

    VelocityLLM 0.4. The queue's score is urgency (the share of the limit that waiting and the
    expected time use up; nothing for requests that are lost, which come after the others), the
    prompt's length and ageing. An arrival whose expected wait and time exceed its limit is refused
    unless the engine is idle; so is, at its turn, one that twice the usual speed could not save.
    The window grows by `step` while requests wait and it is full, and shrinks to three quarters
    when the last answer was late. Estimates are running means of finished answers.

    Ours: the limit of a request is the end that its objectives imply; one that promises a first
    token only is judged by that; one without objectives is never refused.
    """

    #: Window at the start, attempts on each replica.
    initial: int = 8
    #: Smallest window.
    least: int = 2
    #: Largest window.
    most: int = 32
    #: Added to the window at a time.
    step: int = 2
    #: By how much the prediction may exceed the limit, share.
    grace: float = 0.05
    #: Requests waiting above which arrivals are refused.
    queue_max: int = 100

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that has measured nothing."""
        return _VelocityPlanner(self, models)


@dataclass(slots=True)
class _Gauge:
    """What is measured of one model."""

    window: int
    token_s: float = 0.015
    service_s: float = 1.2
    changed_ns: int = 0
    was_late: bool = False


class _VelocityPlanner:
    def __init__(self, options: Velocity, models: Sequence[ModelSpec]) -> None:
        self._options = options
        self._gauges = {model.id: _Gauge(options.initial) for model in models}

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on; `fresh` ones are measured anew."""
        before = self._gauges
        self._gauges = {
            model.id: before[model.id]
            if model.id in before and model.id not in fresh
            else _Gauge(self._options.initial)
            for model in models
        }

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The scheduled arrival: the program's queue, which it scores."""
        return request.arrived_ns

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Measure a finished answer."""
        attempt, gauge = seen.attempt, self._gauges[model.spec.id]
        if seen.moment is not Moment.OVER or not seen.finished or attempt is None:
            return
        taken_s = (now_ns - attempt.started_ns) / SECOND
        gauge.service_s = _followed(gauge.service_s, taken_s)
        if attempt.output_tokens > 0:
            gauge.token_s = _followed(gauge.token_s, taken_s / attempt.output_tokens)
        limit_s, _ = _limit_s(seen.request)
        gauge.was_late = (now_ns - seen.request.arrived_ns) / SECOND > limit_s

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Tune the window, refuse arrivals, start the best scores."""
        gauge = self._gauges[model.spec.id]
        running = sum(len(replica.active()) for replica in model.ready())
        self._tune(gauge, model, running, now_ns)
        waiting = model.waiting(model.waiting_count)
        refusals = self._refused_at_arrival(gauge, model, waiting, running, now_ns)
        gone = {refusal.request_id for refusal in refusals}
        places = Places(model, gauge.window)
        scored = sorted(
            (self._score(gauge, one.request, one.queued_ns, now_ns), index)
            for index, one in enumerate(waiting[: self._options.queue_max])
            if one.request.id not in gone
        )
        starts: list[Start] = []
        for _, index in scored:
            request = waiting[index].request
            if not places.left:
                break
            if waiting[index].first_token_ns < 0 and self._is_lost(gauge, request, now_ns):
                refusals.append(Refuse(request.id, detail="lost even at twice the usual speed"))
                continue
            starts.append(Start(request.id, places.take()))
        return Plan(starts, refusals=refusals, look_ns=now_ns + _COOLDOWN_NS)

    def _tune(self, gauge: _Gauge, model: PlanView, running: int, now_ns: int) -> None:
        options, before = self._options, gauge.window
        quiet_ns = now_ns - gauge.changed_ns
        if quiet_ns < _COOLDOWN_NS:
            return
        capacity = before * max(len(model.ready()), 1)
        if gauge.was_late:
            gauge.window = max(options.least, int(before * _DECREASE))
        elif model.waiting_count and running >= capacity:
            gauge.window = min(options.most, before + options.step)
        elif not running and before > options.initial and quiet_ns > _IDLE_NS:
            gauge.window = max(options.initial, before - 1)
        if gauge.window != before:
            gauge.changed_ns = now_ns

    def _refused_at_arrival(
        self,
        gauge: _Gauge,
        model: PlanView,
        waiting: Sequence[WaitingView],
        running: int,
        now_ns: int,
    ) -> list[Refuse]:
        """Those that arrived at this instant and are predicted to be late."""
        options, refusals = self._options, list[Refuse]()
        slots = gauge.window * sqrt(max(options.most / gauge.window, 1.0))
        slots *= max(len(model.ready()), 1)
        fresh = [one.request for one in waiting if one.queued_ns == now_ns]
        before = len(waiting) - len(fresh)
        for request in fresh:
            limit_s, execution_s = _limit_s(request, gauge.token_s)
            wait_s = before * gauge.service_s / slots
            full = before >= options.queue_max
            late = wait_s + execution_s > limit_s * (1 + options.grace)
            if full or (late and (before or running)):
                why = (
                    "the queue is full"
                    if full
                    else f"expected to take {wait_s + execution_s:.1f} s"
                )
                retry_ns = max(round(wait_s * SECOND), 200 * MS)
                refusals.append(Refuse(request.id, retry_after_ns=retry_ns, detail=why))
            else:
                before += 1
        return refusals

    def _score(self, gauge: _Gauge, request: Request, queued_ns: int, now_ns: int) -> float:
        """Less is sooner."""
        limit_s, execution_s = _limit_s(request, gauge.token_s)
        passed_s = (now_ns - request.arrived_ns) / SECOND
        used = (passed_s + execution_s) / max(limit_s, _BASE_S)
        urgent = -_URGENCY * 2 * max((used - _ONSET) / (1 - _ONSET), 0.0)
        short = _SHORT * min(request.prompt_tokens / _SHORT_TOKENS, 1.0)
        aged = _AGING * (now_ns - queued_ns) / SECOND
        return (_DOOMED if used > 1 else urgent) + short - aged

    def _is_lost(self, gauge: _Gauge, request: Request, now_ns: int) -> bool:
        limit_s, execution_s = _limit_s(request, gauge.token_s)
        passed_s = (now_ns - request.arrived_ns) / SECOND
        return passed_s + execution_s / 2 > limit_s * (1 + self._options.grace)


def _limit_s(request: Request, token_s: float = 0.0) -> tuple[float, float]:
    """Time that a request may take, and what it is expected to take once it runs, s."""
    tokens = expected_tokens(request)
    end_ns, first_ns = end_due_ns(request, tokens), first_due_ns(request)
    if end_ns is not None:
        return (end_ns - request.arrived_ns) / SECOND, _BASE_S + tokens * token_s
    if first_ns is not None:
        return (first_ns - request.arrived_ns) / SECOND, _BASE_S
    return float("inf"), _BASE_S + tokens * token_s


def _followed(mean: float, sample: float) -> float:
    """A running mean that one sample can at most double."""
    return (1 - _FOLLOW) * mean + _FOLLOW * min(sample, mean * _GROWTH_MAX)
