"""`saber`: admission by SLA feasibility, after the paper, and as the authors' program does it.

Owns the online half of arXiv 2506.19677 (the offline half: `saber_law`): two queues, a random draw
in a window, and a test of the speed that everybody needs. Ours, because the paper has one engine
and end-to-end deadlines only: several replicas, the other objectives, what counts as lost.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from slalom.core.planning import (
    ActiveView,
    Moment,
    Observation,
    Plan,
    Planner,
    PlanView,
    RunningView,
    Start,
    WaitingView,
)
from slalom.core.request import ModelSpec, Request
from slalom.policies.due import end_due_ns, expected_tokens, first_due_ns
from slalom.policies.places import Places, draw
from slalom.policies.saber_law import Law, LawName, program_law, speed_law
from slalom.units import MS, SECOND

_NEVER = float("inf")
#: Waiting requests looked at in one plan beyond the window.
_SEEN_BEYOND = 44


@dataclass(frozen=True, slots=True)
class Saber:
    """`saber`: starts a request if it and all that run can then keep the speed they need.

    SABER (arXiv 2506.19677). A request needs its tokens divided by the time to its deadline; one
    that needs more than a lone request gets is demoted, and demoted ones are served only when no
    other waits. Of the first `window` one is drawn at random; it starts iff the predicted speed
    v(load + 1) is enough for it and for every active one. Nothing is dropped.

    Choices where the paper is silent: an active request needs its *remaining* tokens over the
    remaining time, the tokens since its last report taken from v; one that no speed could save
    holds nobody back. An objective per token needs its pace from the first token on, one for the
    first token nothing but to begin before it. Each replica has its own load.
    """

    #: Speed law: `usl`, `logistic`, `linear`, or `fit` for what the engine's calibration says.
    law: LawName = "usl"
    #: Coefficients of the law; all 0 for the fit to the published means, which for `usl` is
    #: a = 102.55, s = 0.03, k = -0.0001.
    a: float = 0.0
    #: Coefficient of the load: contention; steepness; slope.
    s: float = 0.0
    #: Coefficient of the load's square; the logistic law's midpoint.
    k: float = field(default=0.0, metadata={"ge": -1_000.0})
    #: Requests among which the next is drawn, from the head of the queue.
    window: int = 20
    #: Whether an answer counts with its expected length instead of the longest allowed.
    expected_length: bool = False
    #: How long until those that did not fit are tried again, if nothing has happened before, ms.
    retry_ms: int = 100
    #: Behave as the authors' program: a draw each 0.1 s, demoted ones not counted in the load,
    #: needs of active requests frozen at their start, and a law that acts as a cap of 17.
    published_program: bool = False
    #: Of the draws.
    seed: int = 0

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner with the laws of these models."""
        return _Program(self) if self.published_program else _Paper(self, self.laws(models))

    def laws(self, models: Sequence[ModelSpec]) -> dict[str, Law]:
        """How fast these models are by the number of requests that run."""
        given = (self.a, self.s, self.k)
        coefficients = given if any(given) else None
        return {model.id: speed_law(self.law, coefficients, model.step_cost) for model in models}


class _Paper:
    """The algorithm of the paper."""

    def __init__(self, options: Saber, laws: dict[str, Law]) -> None:
        self._options = options
        self._laws = laws
        self._draws = 0

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on; the laws of those that stay are the same again."""
        self._laws = self._options.laws(models)

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The scheduled arrival; demoted requests stand behind."""
        return request.arrived_ns

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Nothing to learn."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Demote, draw and admit until nothing in the window fits."""
        options, law = self._options, self._laws[model.spec.id]
        places, fastest = Places(model), law(1)
        needs = {r.id: self._need_on(r, law, now_ns) for r in model.ready()}
        high: list[tuple[WaitingView, float]] = []
        low: list[WaitingView] = []
        demotions: list[str] = []
        seen = model.waiting(options.window + _SEEN_BEYOND)
        for one in seen:
            need = _NEVER if one.demoted else self._need(one, now_ns)
            if need <= fastest:
                high.append((one, need))
                continue
            low.append(one)
            if not one.demoted:
                demotions.append(one.request.id)
        starts: list[Start] = []
        fitted = self._drawn(high, places, law, needs)
        starts += (Start(one.request.id, place) for one, place in fitted)
        # Demoted ones stand last: where one is seen, no other is left unseen.
        unseen = model.waiting_count > len(seen) and not seen[-1].demoted
        if len(fitted) == len(high) and not unseen:
            starts += self._best_effort(low, places, law, needs)
        look_ns = -1
        if model.waiting_count > len(starts):
            look_ns = now_ns + (1 if unseen and not high else max(options.retry_ms * MS, 1))
        return Plan(starts=starts, demotions=demotions, look_ns=look_ns)

    def _drawn(
        self,
        high: list[tuple[WaitingView, float]],
        places: Places,
        law: Law,
        needs: dict[str, float],
    ) -> list[tuple[WaitingView, str]]:
        """Who of the high queue starts where. Speed only falls with each: no need to retry."""
        waiting, started = list(high), []
        # Those that did not fit stand first in the window, where they are not drawn again.
        unfit = 0
        while places.left and (drawable := min(self._options.window, len(waiting)) - unfit) > 0:
            self._draws += 1
            one, need = waiting.pop(unfit + draw(self._options.seed, self._draws, drawable))
            replica_id = places.emptiest()
            if law(places.running(replica_id) + 1) < max(need, needs[replica_id]):
                waiting.insert(0, (one, need))
                unfit += 1
                continue
            started.append((one, places.take()))
            needs[replica_id] = max(needs[replica_id], need)
        return started

    def _best_effort(
        self, low: list[WaitingView], places: Places, law: Law, needs: dict[str, float]
    ) -> list[Start]:
        """Who of the low queue starts: the first, as long as no active one is slowed too much."""
        starts: list[Start] = []
        for one in low:
            if not places.left:
                break
            replica_id = places.emptiest()
            if law(places.running(replica_id) + 1) < needs[replica_id]:
                break
            starts.append(Start(one.request.id, places.take()))
        return starts

    def _length(self, request: Request) -> int:
        if self._options.expected_length:
            return expected_tokens(request)
        return max(request.max_tokens, 1)

    def _need(self, one: WaitingView, now_ns: int) -> float:
        """Tokens per second that a waiting request needs."""
        due_ns = first_due_ns(one.request)
        if due_ns is not None and one.first_token_ns < 0 and now_ns > due_ns:
            return _NEVER
        length = self._length(one.request)
        return required_speed(
            one.request, length, length - one.produced_tokens, one.first_token_ns, now_ns
        )

    def _need_on(self, replica: RunningView, law: Law, now_ns: int) -> float:
        """Most tokens per second that an active request of a replica needs and could get."""
        active = replica.active()
        pace, fastest, most = law(len(active)), law(1), 0.0
        for attempt in active:
            if not attempt.leaving:
                need = self._need_active(attempt, pace, now_ns)
                if most < need <= fastest:
                    most = need
        return most

    def _need_active(self, attempt: ActiveView, pace: float, now_ns: int) -> float:
        since = pace * (now_ns - attempt.heard_ns) / SECOND
        produced = attempt.resumed_tokens + attempt.output_tokens + max(since, 0.0)
        length = self._length(attempt.request)
        return required_speed(
            attempt.request, length, length - produced, attempt.client_first_ns, now_ns
        )


def required_speed(
    request: Request, length: int, remaining: float, first_ns: int, now_ns: int
) -> float:
    """Tokens per second that meet its objectives; infinite where none can.

    Args:
        request: The request.
        length: Tokens of the whole answer.
        remaining: Tokens still to come; at least one counts.
        first_ns: When its client got the first token; -1 before.
        now_ns: Now.
    """
    sla, pace = request.sla, 0.0
    if first_ns >= 0:
        due_ns = end_due_ns(request, length, first_ns)
    else:
        due_ns = None if sla.e2e_ns is None else request.arrived_ns + sla.e2e_ns
        pace = SECOND / sla.tpot_ns if sla.tpot_ns else 0.0
    if due_ns is None:
        return pace
    if due_ns <= now_ns:
        return _NEVER
    return max(max(remaining, 1.0) * SECOND / (due_ns - now_ns), pace)


@dataclass(slots=True)
class _Admitted:
    """What the program keeps of a request that it let through."""

    need: float
    counted: bool


class _Program:
    """What the authors' published program does."""

    def __init__(self, options: Saber) -> None:
        self._options = options
        self._draws = 0
        self._active: dict[str, _Admitted] = {}
        #: model -> when its next draw is due.
        self._next_ns: dict[str, int] = {}

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The scheduled arrival; demoted requests stand behind."""
        return request.arrived_ns

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Forget what has ended."""
        if seen.moment is Moment.OVER:
            self._active.pop(seen.request.id, None)

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """One draw, if it is time for one."""
        due_ns = self._next_ns.get(model.spec.id, now_ns)
        if now_ns < due_ns:
            return Plan(look_ns=due_ns)
        next_ns = self._next_ns[model.spec.id] = now_ns + max(self._options.retry_ms * MS, 1)
        places, fastest = Places(model), program_law(1)
        waiting = model.waiting(self._options.window)
        needs = {one.request.id: self._need(one.request, now_ns) for one in waiting}
        demotions = [
            one.request.id for one in waiting if not one.demoted and needs[one.request.id] > fastest
        ]
        high = [one for one in waiting if not one.demoted and needs[one.request.id] <= fastest]
        if not places.left or not waiting:
            return Plan(demotions=demotions, look_ns=next_ns)
        replica_id = places.emptiest()
        self._draws += 1
        chosen = (high or waiting)[
            draw(self._options.seed, self._draws, len(high)) if high else 0
        ].request
        if high and not self._fits(model, replica_id, needs[chosen.id]):
            return Plan(demotions=demotions, look_ns=next_ns)
        self._active[chosen.id] = _Admitted(needs[chosen.id], counted=bool(high))
        return Plan([Start(chosen.id, replica_id)], demotions=demotions, look_ns=next_ns)

    def _need(self, request: Request, now_ns: int) -> float:
        return required_speed(request, request.max_tokens, request.max_tokens, -1, now_ns)

    def _fits(self, model: PlanView, replica_id: str, need: float) -> bool:
        running = next(replica for replica in model.ready() if replica.id == replica_id).active()
        known = [self._active.get(attempt.request.id) for attempt in running]
        counted = [one.need for one in known if one is not None and one.counted]
        return program_law(len(counted) + 1) >= max(need, *counted, 0.0)
