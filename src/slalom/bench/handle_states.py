"""Steady states of the scheduler for the benchmark of `handle`, and the world that keeps them.

Owns the building of a state (queue length, replicas, memory) and the answering of actions, so that
the state stays what it is while events are told. Called by `bench.handle`.
"""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from slalom.core.actions import (
    AbortAttempt,
    Action,
    Dispatch,
    EndRequest,
    LoadReplica,
    SetTimer,
    UnloadReplica,
)
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    Event,
    FailureKind,
    FirstToken,
    Progress,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.policies.registry import policies
from slalom.units import MS, SECOND

T = TypeVar("T")

#: Attempts each replica takes at a time.
_PLACES = 8
#: Objectives of the mixed load; the queue is ordered by them.
_SLAS = (
    Sla(ttft_ns=500 * MS),
    Sla(ttft_ns=2 * SECOND, tpot_ns=40 * MS),
    Sla(e2e_ns=8 * SECOND),
    Sla(e2e_ns=12 * SECOND),
)
#: Nothing may time out while it is measured.
PATIENT = SchedulerParams(
    queue_max=1 << 30,
    queue_timeout_ns=10**6 * SECOND,
    attempt_silence_ns=10**6 * SECOND,
    load_timeout_ns=10**6 * SECOND,
    unload_timeout_ns=10**6 * SECOND,
)


@dataclass
class SteadyState:
    """A scheduler whose queue is kept at one length.

    Args:
        scheduler: The core under measurement.
        queue: Requests to keep waiting.
        step_ns: Virtual time between two calls.
        slas: Objectives to draw from.
    """

    scheduler: Scheduler
    queue: int
    step_ns: int
    now_ns: int = 0
    #: Objectives to draw from.
    slas: Sequence[Sla] = _SLAS
    #: Kind of event -> ns of each call that told one.
    costs_ns: dict[str, list[int]] = field(default_factory=dict)
    _rng: random.Random = field(default_factory=lambda: random.Random(0))
    _arrived: int = 0
    _timer_ns: int = -1
    _waiting: set[str] = field(default_factory=set)
    #: Names from which to draw; those that no longer wait are skipped.
    _names: list[str] = field(default_factory=list)
    _running: list[tuple[str, int]] = field(default_factory=list)
    #: What the scheduler asked for and is told next.
    _owed: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Know the models."""
        self._models = list(self.scheduler.state.models)

    @property
    def waiting_count(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def running_count(self) -> int:
        """Attempts that run."""
        return len(self._running)

    def cycle(self, *, measure: bool = True) -> None:
        """One request ends, one is cancelled, and as many arrive as it takes to fill up."""
        if self._running:
            fence = self._pick_running()
            self.tell(FirstToken(*fence), measure=measure)
            self.tell(Progress(*fence, 40), measure=measure)
            self.tell(AttemptFinished(*fence, 100, 500), measure=measure)
        self.answer(measure=measure)
        if self.waiting_count >= self.queue:
            self.tell(RequestCancelled(self._pick_waiting()), measure=measure)
        while self.waiting_count < self.queue:
            self.tell(self._arrival(), measure=measure)
            self.answer(measure=measure)

    def fill(self, running: int) -> None:
        """Let requests arrive until so many run and the queue has its length."""
        while self.running_count < running or self.waiting_count < self.queue:
            self.tell(self._arrival(), measure=False)
            self.answer(measure=False)

    def flood(self) -> bool:
        """Let all that the queue lacks arrive at once; whether it has its length then."""
        events = [self._arrival() for _ in range(self.queue - self.waiting_count)]
        self._perform(self.scheduler.handle(events, self.now_ns))
        self.answer(measure=False)
        return self.waiting_count >= self.queue

    def answer(self, *, measure: bool) -> None:
        """Tell what is owed: replicas that came up or went, aborts, the timer."""
        while self._owed:
            self.tell(self._owed.pop(0), measure=measure)
        if 0 <= self._timer_ns <= self.now_ns:
            self._timer_ns = -1
            self.tell(TimerFired(), measure=measure)

    def tell(self, event: Event, *, measure: bool) -> None:
        """Tell one event in a call of its own, and note what that cost."""
        self.now_ns += self.step_ns
        start_ns = time.thread_time_ns()
        actions = self.scheduler.handle((event,), self.now_ns)
        cost_ns = time.thread_time_ns() - start_ns
        if measure:
            self.costs_ns.setdefault(type(event).__name__, []).append(cost_ns)
        self._perform(actions)

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Dispatch):
                self._waiting.discard(action.request_id)
                self._running.append((action.request_id, action.attempt))
            elif isinstance(action, EndRequest):
                self._waiting.discard(action.request_id)
            elif isinstance(action, LoadReplica):
                self._owed.append(ReplicaReady(action.replica_id, action.epoch))
            elif isinstance(action, UnloadReplica):
                self._owed.append(ReplicaGone(action.replica_id, action.epoch))
            elif isinstance(action, AbortAttempt):
                fence = (action.request_id, action.attempt)
                self._running.remove(fence)
                aborted = AttemptFailed(*fence, FailureKind.ABORTED, delivered=False)
                self._owed.append(aborted)
            elif isinstance(action, SetTimer):
                self._timer_ns = action.at_ns

    def _arrival(self) -> RequestArrived:
        self._arrived += 1
        name = f"r{self._arrived}"
        self._waiting.add(name)
        self._names.append(name)
        model, sla = self._rng.choice(self._models), self._rng.choice(self.slas)
        return RequestArrived(Request(name, model, "task", sla, self.now_ns, 500, 256, 100))

    def _pick_running(self) -> tuple[str, int]:
        return _take(self._running, self._rng.randrange(len(self._running)))

    def _pick_waiting(self) -> str:
        while True:
            name = _take(self._names, self._rng.randrange(len(self._names)))
            if name in self._waiting:
                return name


def _take(items: list[T], index: int) -> T:
    """Take an item out of a list whose order does not matter."""
    items[index], items[-1] = items[-1], items[index]
    return items.pop()


def busy(queue: int, replicas: int) -> SteadyState:
    """Every model is resident and every place taken; `queue` requests wait."""
    count = max(1, min(50, replicas // 10))
    models = [
        ModelSpec(f"m{index}", "gpu", 1, _PLACES, replicas=replicas // count)
        for index in range(count)
    ]
    scheduler = Scheduler(models, [DeviceSpec("gpu", replicas)], policies(), PATIENT)
    state = SteadyState(scheduler, queue, step_ns=100_000)
    state.fill(replicas * _PLACES)
    return state


def pressed(queue: int, replicas: int) -> SteadyState:
    """Twice as many models as fit, all of them asked for: replicas come and go all the time."""
    models = [ModelSpec(f"m{index}", "gpu", 1, _PLACES) for index in range(2 * replicas)]
    scheduler = Scheduler(models, [DeviceSpec("gpu", replicas)], policies(), PATIENT)
    state = SteadyState(scheduler, queue, step_ns=1 * MS)
    state.fill(0)
    return state
