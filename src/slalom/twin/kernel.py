"""Virtual time: a heap of what is to come, and the loop that tells the scheduler about it.

Owns the order of simultaneous things and the one call of `Scheduler.handle` for each instant.
Owns neither engines nor memory: what an action does, and what an occurrence leads to, is the
world's affair. Called by `run`.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slalom.core.actions import Action
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    AttemptFinished,
    ChainAbandoned,
    ChainOpened,
    ConfigChanged,
    DeviceSampled,
    DrainRequested,
    Event,
    FirstToken,
    LoadProgress,
    MemorySampled,
    ModelAsked,
    Progress,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaFound,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.journal import Entry
from slalom.core.scheduler import Scheduler
from slalom.errors import InvariantError
from slalom.twin.scenario import Arrival, TwinModel

#: More calls than this at one instant mean that scheduler and world chase each other.
_CALLS_AT_ONE_TIME_MAX = 10_000


@dataclass(frozen=True, slots=True)
class ClientArrives:
    """An arrival is due: the scenario's next one, or a later step of a session."""

    arrival: Arrival
    is_later_step: bool = False


@dataclass(frozen=True, slots=True)
class ClientLeaves:
    """A client's patience has run out."""

    request_id: str


@dataclass(frozen=True, slots=True)
class EngineWakes:
    """An engine reaches its next milestone, unless something changed since (`number`)."""

    replica_id: str
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class EngineStruck:
    """A fault befalls an engine; `attempt` is the one during which it does."""

    replica_id: str
    epoch: int
    strike: str
    attempt: tuple[str, int]


@dataclass(frozen=True, slots=True)
class LoadAdvances:
    """A load has come to the beginning of a part; the part after the last is its end."""

    replica_id: str
    epoch: int
    part: int


@dataclass(frozen=True, slots=True)
class NapOver:
    """A process has come to the end of falling asleep or of waking, its order number `turn`."""

    replica_id: str
    epoch: int
    turn: int


@dataclass(frozen=True, slots=True)
class TransferOver:
    """Bytes have come over a shared link, unless its shares changed since (`number`)."""

    number: int


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A timer's time has come, unless it was replaced since (`number`)."""

    number: int


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The process of a replica has ended and its memory is free."""

    replica_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class EnginesChange:
    """Loads of these models bring up other engines from now on."""

    models: tuple[TwinModel, ...]


#: What happens in the world; it may lead to events, and the scheduler never sees it.
Occurrence = (
    ClientArrives
    | ClientLeaves
    | EngineWakes
    | EngineStruck
    | LoadAdvances
    | NapOver
    | TransferOver
    | ProcessEnded
    | TimerDue
    | EnginesChange
)

#: What comes first among things of the same instant; each row with its reason. Occurrences are
#: lower than events: all that happens at an instant is known before the scheduler is told of it.
PRIORITY: dict[type, int] = {
    ClientArrives: 0,  # clients do not see what engines do at this instant
    ClientLeaves: 1,  # after arrivals: a client cannot leave before it came
    EngineWakes: 2,  # before strikes: what is done is done
    EngineStruck: 3,
    TransferOver: 4,  # before what a load does next, which it may begin
    LoadAdvances: 5,
    NapOver: 6,
    ProcessEnded: 7,  # after strikes: memory is free once nothing runs in it
    TimerDue: 8,
    EnginesChange: 9,  # after what the engines there are have done
    FirstToken: 10,  # an attempt's own events keep their natural order
    Progress: 11,
    AnswerJudged: 12,  # of an answer that has got somewhere
    AttemptFinished: 13,  # success before failure: what is done is done
    AttemptFailed: 14,
    LoadProgress: 20,
    ReplicaReady: 21,  # a replica is ready before it can fail
    MemorySampled: 22,  # measured once it is ready
    ReplicaAsleep: 23,
    ReplicaFailed: 24,
    ReplicaGone: 25,  # gone is the last word of a life
    ReplicaFound: 27,  # what was left behind is told before anybody asks for anything
    DeviceSampled: 26,  # after replicas: whose memory it was is known by then
    ChainOpened: 29,  # before arrivals: what is announced comes before it
    RequestArrived: 30,  # after engines: arrivals meet the places that just became free
    RequestCancelled: 31,  # after arrivals, for the same reason as above
    ChainAbandoned: 32,  # as above, for all of them at once
    ModelAsked: 35,  # what an operator wants, among all that is known of this instant
    ConfigChanged: 36,  # after asks: those are about the models that there were
    DrainRequested: 40,  # whatever came at the same instant still counts
    TimerFired: 50,  # last: time-outs look at a state that knows all the rest
}


class Agenda:
    """What is to come, by (time, priority, order of entry)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Event | Occurrence]] = []
        self._entered = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __repr__(self) -> str:
        return f"Agenda({len(self._heap)})"

    def at(self, time_ns: int, item: Event | Occurrence) -> None:
        """Let something happen, or let the scheduler hear of something, at a time."""
        self._entered += 1
        heapq.heappush(self._heap, (time_ns, PRIORITY[type(item)], self._entered, item))

    def next_ns(self) -> int | None:
        """The time of the first item, or None."""
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Event | Occurrence:
        """Take the first item out.

        Raises:
            IndexError: There is none.
        """
        return heapq.heappop(self._heap)[3]


class World(Protocol):
    """What surrounds the scheduler."""

    def occur(self, occurrence: Occurrence, now_ns: int) -> None:
        """Play out what happens; what follows from it goes on the agenda."""
        ...

    def perform(self, action: Action, now_ns: int) -> None:
        """Do what the scheduler asked for."""
        ...


class Kernel:
    """Runs a scheduler and a world against each other in virtual time.

    Args:
        scheduler: The very object that serves live.
        world: What surrounds it.
        agenda: Shared with the world.
        record: Told every call of `handle`, in order.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        world: World,
        agenda: Agenda,
        record: Callable[[Entry], None],
    ) -> None:
        self._scheduler = scheduler
        self._world = world
        self._agenda = agenda
        self._record = record

    def run(self, until_ns: int) -> int:
        """Run until nothing is left to happen, at most until a time; the time of the end.

        Raises:
            InvariantError: Scheduler and world answer each other for ever at one instant.
        """
        now_ns, calls = 0, 0
        self._tell([], now_ns)
        while (at_ns := self._agenda.next_ns()) is not None and at_ns <= until_ns:
            calls = calls + 1 if at_ns == now_ns else 0
            now_ns = at_ns
            if calls > _CALLS_AT_ONE_TIME_MAX:
                raise InvariantError(
                    f"time stands still at {now_ns} ns: scheduler and world answer each other; "
                    f"state {self._scheduler!r}"
                )
            events = self._happen(at_ns)
            if events:
                self._tell(events, now_ns)
        return now_ns

    def _happen(self, at_ns: int) -> list[Event]:
        """Play out all that occurs at a time; the events of that time, in order."""
        events: list[Event] = []
        while self._agenda.next_ns() == at_ns:
            item = self._agenda.pop()
            if isinstance(item, Occurrence):
                self._world.occur(item, at_ns)
            else:
                events.append(item)
        return events

    def _tell(self, events: list[Event], now_ns: int) -> None:
        actions = self._scheduler.handle(events, now_ns)
        if events or actions:
            self._record(Entry(now_ns, tuple(events), tuple(actions)))
        for action in actions:
            self._world.perform(action, now_ns)
