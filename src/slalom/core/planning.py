"""The seam of planners: policies that look at all that runs and waits for a model, not at one head.

Owns the view a planner gets, the plan it answers with, and what it is told so that it can learn.
Implementations live in `slalom.policies`; `dispatching` asks and applies, and leaves out what
has become impossible. A planner keeps what it learned, and nothing else: two that were told the
same give the same plans, which is what makes a journal replay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from slalom.core.actions import Reason
from slalom.core.chain import Later
from slalom.core.request import ModelSpec, Request, StepCost


class WaitingView(Protocol):
    """A waiting request."""

    @property
    def request(self) -> Request:
        """Its sizes, task and objectives."""
        ...

    @property
    def queued_ns(self) -> int:
        """When the scheduler first heard of it."""
        ...

    @property
    def demoted(self) -> bool:
        """Whether a plan has put it behind those that can still be on time."""
        ...

    @property
    def first_token_ns(self) -> int:
        """When the client got its first token; -1 before. Set for one that was paused."""
        ...

    @property
    def produced_tokens(self) -> int:
        """Tokens its client has got before it was paused; it goes on behind them."""
        ...

    @property
    def pauses(self) -> int:
        """How often it was paused."""
        ...

    @property
    def near(self) -> str:
        """Replica that answered an earlier call of its chain to the same model; empty for none."""
        ...

    @property
    def admitted(self) -> bool:
        """Whether an earlier call of its chain was let in: the chain is let in as a whole."""
        ...


class ActiveView(Protocol):
    """An attempt that holds a place."""

    @property
    def request(self) -> Request:
        """What it answers."""
        ...

    @property
    def replica_id(self) -> str:
        """Where it runs."""
        ...

    @property
    def number(self) -> int:
        """Its number among the request's attempts; with the request's id its name."""
        ...

    @property
    def started_ns(self) -> int:
        """When it was dispatched."""
        ...

    @property
    def first_ns(self) -> int:
        """When it produced its own first token; -1 before."""
        ...

    @property
    def resumed_tokens(self) -> int:
        """Tokens that earlier attempts had produced; it reads them as part of its prompt."""
        ...

    @property
    def output_tokens(self) -> int:
        """Tokens that it was last known to have produced itself."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Tokens of its prompt that its engine says it had read before; -1 where it does not."""
        ...

    @property
    def heard_ns(self) -> int:
        """When that was known."""
        ...

    @property
    def client_first_ns(self) -> int:
        """When the client got the first token of all; -1 before."""
        ...

    @property
    def leaving(self) -> bool:
        """Whether it was told to stop, or its request has ended: its place comes free."""
        ...

    @property
    def pauses(self) -> int:
        """How often its request was paused before."""
        ...

    @property
    def speed(self) -> float:
        """How many times as fast its device is as its model's step times say."""
        ...

    @property
    def beside(self) -> int:
        """Attempts that run on its device on other replicas."""
        ...


class RunningView(Protocol):
    """A ready replica with what runs on it."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def free_places(self) -> int:
        """Attempts it could take now."""
        ...

    @property
    def ready_ns(self) -> int:
        """Since when it has been ready; what it had read before that is gone."""
        ...

    @property
    def speed(self) -> float:
        """How many times as fast its device is as its model's step times say."""
        ...

    def active(self) -> Collection[ActiveView]:
        """What holds a place, in the order of the starts."""
        ...


class RouteView(RunningView, Protocol):
    """A ready replica that a request may go to."""

    @property
    def running_count(self) -> int:
        """Attempts it holds, also those being aborted."""
        ...

    @property
    def last_start(self) -> int:
        """Which of its model's starts its last one was, counted from 0; -1 before any."""
        ...


class PlanView(Protocol):
    """A model with its queue, its ready replicas, and what its device leaves it."""

    @property
    def spec(self) -> ModelSpec:
        """What a replica needs and takes."""
        ...

    @property
    def waiting_count(self) -> int:
        """Requests that wait for it."""
        ...

    def waiting(self, limit: int) -> Sequence[WaitingView]:
        """Up to `limit` waiting requests, by the ordering's key; demoted ones come last."""
        ...

    def ready(self) -> Sequence[RunningView]:
        """Its ready replicas, by name."""
        ...

    def ready_count(self) -> int:
        """How many there are."""
        ...

    def some_ready(self, limit: int, named: Sequence[str] = ()) -> Sequence[RunningView]:
        """Those of the names that are ready, and of the others about `limit`, by name.

        Half of these have most free places, the others fewest, but one at least.
        """
        ...

    def reader(self, prefix: str) -> str:
        """The replica that was last given a prompt with this prefix; empty if nobody knows."""
        ...

    @property
    def room(self) -> int:
        """Attempts that the device's window still admits, for all its models together."""
        ...

    @property
    def beside(self) -> int:
        """Attempts of other models that run on its device; 0 for a model with a choice of them."""
        ...

    @property
    def wake_ns(self) -> int:
        """What bringing a replica up again takes once it gave way, ns; 0 where nobody knows."""
        ...

    def ready_at_ns(self, now_ns: int) -> int:
        """When a replica is ready, or would be if its load or wake began now, ns."""
        ...


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a planner expects of a request, for its client and for the planner's own report card."""

    #: First token and end, ns of the scheduler's clock.
    first_ns: int
    end_ns: int
    #: Probability that every objective holds, 0 to 1.
    chance: float
    #: When and where it would begin to run; -1 and empty where that is not told.
    start_ns: int = -1
    replica_id: str = ""
    #: What the calls that follow it in its chain are expected to take; -1 for no chain.
    rest_ns: int = -1


@dataclass(frozen=True, slots=True)
class Start:
    """Let a waiting request run."""

    request_id: str
    #: Where; empty leaves that to the routing policy.
    replica_id: str
    #: For engines that heed one: the smaller the more urgent.
    priority: int = 0
    #: Clamp of the answer's length, tokens; 0 leaves what the client asked for.
    max_tokens: int = 0
    expected: Expectation | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """End a waiting request, or one that runs and has produced nothing yet."""

    request_id: str
    reason: Reason = Reason.SLA_INFEASIBLE
    retry_after_ns: int = 0
    #: For people: why, and what would have had to be different.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now; whatever is not named stays as it is."""

    starts: Sequence[Start] = ()
    refusals: Sequence[Refuse] = ()
    #: Waiting requests that can be on time no more: behind all others, but still served.
    demotions: Sequence[str] = ()
    #: Running requests whose place others need: they wait and go on later.
    pauses: Sequence[str] = ()
    #: Ask again then, if nothing has happened before; -1 for no need.
    look_ns: int = -1
    #: Ask again as soon as one of its attempts has its first token: its prompt is read.
    look_when_read: bool = False


class Moment(StrEnum):
    """What a planner is told of."""

    ARRIVED = "arrived"
    STARTED = "started"
    #: An attempt has produced tokens: its first ones, or some more.
    TOLD = "told"
    #: An attempt has given its place back.
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened, after the books were changed."""

    moment: Moment
    request: Request
    #: The attempt; None for an arrival.
    attempt: ActiveView | None = None
    #: `OVER` with the whole answer.
    finished: bool = False


class Planner(Protocol):
    """Plans for one scheduler."""

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn from what happened."""
        ...

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """What to do for a model with waiting requests and a ready replica."""
        ...


@runtime_checkable
class Planning(Protocol):
    """A planner's options: what stands in the `admission` slot."""

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that has seen nothing yet."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A planner that also looks at models that are not loaded."""

    def foresee(self, model: PlanView, now_ns: int) -> Plan:
        """What to do for a model with waiting requests and no ready replica.

        There is nothing to start or to pause: only refusals, demotions and the look count.
        """
        ...

    def pays(self, model: PlanView, victims: Sequence[PlanView], now_ns: int) -> bool:
        """Whether these models should give way to one that is waited for.

        Asked again and again while the answer is no. Must become yes in bounded time.
        """
        ...


@runtime_checkable
class Estimator(Protocol):
    """A planner that can say what it would do."""

    def estimate(self, request: Request, model: PlanView, now_ns: int) -> Expectation | None:
        """What is to be expected if the request came now; None where nothing is known."""
        ...


@runtime_checkable
class Foretelling(Protocol):
    """A planner that can say what calls that are yet to come would take."""

    def foretell(self, later: Later) -> int:
        """Time of such a call at the present load, without the gap before it, ns."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What traffic has taught a planner of a model's engine."""

    model: str
    step_cost: StepCost
    #: Seconds of observed steps, about, that have gone into it.
    seen_s: float
    #: Mean relative error of step times, and of times to the first token; -1 before there was any.
    step_error: float
    first_error: float
    #: Share of attempts that took no longer than the margin on what was expected of them.
    coverage: float
    #: Whether it is good enough to begin the next run with.
    healthy: bool
    #: Times that the engine was found to have become slower or faster at once.
    changes: int


@runtime_checkable
class Learner(Protocol):
    """A planner that learns how long an engine's steps take."""

    def learned(self) -> Sequence[Learned]:
        """What it knows by now, of each model."""
        ...
