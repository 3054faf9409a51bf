"""Planners for tests: one whose every plan the test writes, and one that uses every lever.

Owns no judgement: what they do is meant to be seen, not to be good. Called by the tests of the
core, of the runtime and of the parity of live and twin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slalom.core.planning import (
    Expectation,
    Observation,
    Plan,
    Planner,
    PlanView,
    Start,
)
from slalom.core.request import ModelSpec, Request
from slalom.units import MS, SECOND

#: What a scripted planner does at a moment.
Rule = Callable[[PlanView, int], Plan]


@dataclass(frozen=True, slots=True)
class Scripted:
    """Planning by a function."""

    rule: Rule

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that asks the function."""
        return _ByRule(self.rule)


@dataclass(frozen=True, slots=True)
class EveryLever:
    """Planning that pauses, clamps, demotes and foretells, by rules simple enough to follow.

    First come, first served, but a request with a TTFT objective that finds no place pauses the
    attempt that began last and has none. Every third start is clamped, every start foretold, and
    who has waited for half a second is demoted.
    """

    clamp_tokens: int = 7
    pauses_max: int = 2

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that has started nothing yet."""
        return _Levers(self)


def start_all(view: PlanView) -> list[Start]:
    """Starts for as many waiting requests as there are places, in order."""
    places = [replica.id for replica in view.ready() for _ in range(replica.free_places)]
    room = min(len(places), view.room)
    heads = view.waiting(room)
    return [Start(head.request.id, place) for head, place in zip(heads, places, strict=False)]


def urgent_first(view: PlanView, _now_ns: int) -> Plan:
    """Completions take the place of whatever can be paused."""
    urgent = [w for w in view.waiting(9) if w.request.task == "completion"]
    if not urgent:
        return Plan(starts=start_all(view))
    (replica,) = view.ready()
    free = replica.free_places
    loose = [a.request.id for a in replica.active() if a.request.resumable and not a.leaving]
    starts = [Start(w.request.id, replica.id) for w in urgent[:free]]
    return Plan(starts=starts, pauses=loose[: len(urgent) - free])


class _ByRule:
    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn nothing."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        return self._rule(model, now_ns)


class _Levers:
    def __init__(self, options: EveryLever) -> None:
        self._options = options
        self._started = 0

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn nothing."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        starts = [self._start(start, now_ns) for start in start_all(model)]
        chosen = {start.request_id for start in starts}
        left = [w for w in model.waiting(len(starts) + 8) if w.request.id not in chosen]
        urgent = sum(w.request.sla.ttft_ns is not None and not w.pauses for w in left)
        late = [w for w in left if not w.demoted and w.queued_ns + SECOND // 2 <= now_ns]
        return Plan(
            starts=starts,
            demotions=[w.request.id for w in late],
            pauses=self._loosest(model)[:urgent],
            look_ns=now_ns + 100 * MS if left else -1,
        )

    def estimate(self, request: Request, model: PlanView, now_ns: int) -> Expectation | None:
        """A second for each that waits."""
        end_ns = now_ns + SECOND * (model.waiting_count + 1)
        where = model.ready()[0].id
        return Expectation(now_ns + MS * request.prompt_tokens, end_ns, 0.75, now_ns, where)

    def _start(self, start: Start, now_ns: int) -> Start:
        self._started += 1
        clamp = self._options.clamp_tokens if self._started % 3 == 0 else 0
        expected = Expectation(now_ns + 50 * MS, now_ns + SECOND, 0.5)
        return Start(start.request_id, start.replica_id, self._started, clamp, expected)

    def _loosest(self, model: PlanView) -> list[str]:
        """Attempts that may give way, the last to begin first."""
        active = [attempt for replica in model.ready() for attempt in replica.active()]
        active.sort(key=lambda a: (a.started_ns, a.request.id), reverse=True)
        return [
            attempt.request.id
            for attempt in active
            if attempt.request.resumable
            and attempt.request.sla.ttft_ns is None
            and not attempt.leaving
            and attempt.pauses < self._options.pauses_max
        ]
