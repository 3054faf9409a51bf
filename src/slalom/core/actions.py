"""Everything the scheduler can ask for, as frozen data: returned, never called back.

So that a decision can be asserted, journaled, replayed and explained. Every asynchronous
action carries a fence (attempt number or replica epoch) that its answering events repeat.
"""

from dataclasses import dataclass
from enum import StrEnum

from slalom.core.events import Ask


class Outcome(StrEnum):
    """How a request ended; exactly one per request."""

    DONE = "done"
    #: The client went away.
    CANCELLED = "cancelled"
    #: A newer request of the same client took its place.
    SUPERSEDED = "superseded"
    #: Refused before it ran: `reason` says why, `retry_after_ns` when to come again.
    REJECTED = "rejected"
    #: It ran, or its model was to load, and that failed.
    FAILED = "failed"


class Reason(StrEnum):
    """Machine-readable reason of a refusal; failures use `FailureKind`."""

    NONE = ""
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DRAINING = "draining"
    UNKNOWN_MODEL = "model_not_found"
    #: The model is larger than its device's budget, or than what pins leave of it.
    DOES_NOT_FIT = "model_does_not_fit"
    #: The model failed to load a moment ago and is not tried again yet.
    LOAD_BACKOFF = "model_load_backoff"
    #: Its SLA can no longer be met (admission).
    SLA_INFEASIBLE = "sla_infeasible"
    #: Others would have to give way to its model, which it does not allow.
    SWAP_NOT_ALLOWED = "swap_not_allowed"
    #: Of asks: the model is pinned; nothing of it is ready; it is in the middle of a change.
    PINNED = "model_pinned"
    NOT_READY = "model_not_ready"
    NOT_ASLEEP = "model_not_asleep"
    CANNOT_SLEEP = "model_cannot_sleep"
    MODEL_BUSY = "model_busy"
    #: Something else was asked of it before it came about.
    ASKED_OTHERWISE = "asked_otherwise"
    #: Its client gave the chain up that it belongs to.
    CHAIN_ABANDONED = "chain_abandoned"
    #: A reload took its model away, and it did not end in the time that was left.
    MODEL_REMOVED = "model_removed"


class UnloadCause(StrEnum):
    """Why a replica is unloaded."""

    EVICTED = "evicted"
    FAILED = "failed"
    #: It slept, and its memory was needed.
    DROPPED = "dropped"
    #: Nobody waits for the load any more.
    UNWANTED = "unwanted"
    #: An operator asked for it.
    ASKED = "asked"
    #: Nobody used it for as long as was allowed.
    IDLE = "idle"
    #: A model that it must be apart from comes up.
    APART = "apart"
    #: Its model is to have fewer replicas.
    SCALED = "scaled"
    #: A reload gave its model another engine, or took it away.
    REPLACED = "replaced"
    REMOVED = "removed"
    SHUTDOWN = "shutdown"


class Passed(StrEnum):
    """Why a model that may serve a request does not; refusals use `Reason`."""

    #: No replica of it is ready, and one of another is.
    NOT_READY = "not_ready"
    #: The request would wait longer for it than is allowed, or too many wait already.
    WAIT_TOO_LONG = "wait_too_long"
    #: The request's objectives are not expected to hold.
    LATE = "late"
    #: It had begun to answer, and the answer was doubted: as a `Verdict` says.
    UNSURE = "unsure"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class ModelChosen:
    """Which of a request's models serves it: a record, nothing is asked for by it.

    Told when it arrives, and again when another takes over: from one that failed to load, or
    from one whose answer is doubted.
    """

    request_id: str
    model: str
    #: Those before it in order that do not serve it, each with a `Passed` or a `Reason`.
    passed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerKept:
    """Hand a doubted answer to its client: no other could be had in time."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start this attempt on this life of the replica."""

    request_id: str
    attempt: int
    replica_id: str
    epoch: int
    #: For engines that heed one: the smaller the more urgent.
    priority: int = 0
    #: Clamp of the whole answer's length, tokens; 0 leaves what the client asked for.
    max_tokens: int = 0
    #: Tokens of the answer that the client has got: the attempt goes on behind them.
    resumed_tokens: int = 0
    #: What the planner expects: first token and end (ns, -1 unknown), probability of being good
    #: (-1 unknown).
    expected_first_ns: int = -1
    expected_end_ns: int = -1
    chance: float = -1.0
    #: What the calls that follow it in its chain are expected to take, ns; -1 for no chain.
    expected_rest_ns: int = -1


@dataclass(frozen=True, slots=True)
class AbortAttempt:
    """Close the attempt's stream; answered by `AttemptFailed` or `AttemptFinished`."""

    request_id: str
    attempt: int
    #: Only its place is wanted: the request goes on later, behind what it has produced. An
    #: attempt that cannot be continued, or is about to end, may run on to its end instead.
    pause: bool = False


@dataclass(frozen=True, slots=True)
class EndRequest:
    """The one terminal outcome of a request, with its record.

    Times are ns of the scheduler's clock; -1 means that it never happened.
    """

    request_id: str
    outcome: Outcome
    #: A `Reason`, a `FailureKind`, or empty.
    reason: str
    model: str
    task: str
    key: str
    arrived_ns: int
    #: First dispatch, last dispatch, first token, end.
    first_dispatch_ns: int
    dispatch_ns: int
    first_token_ns: int
    ended_ns: int
    prompt_tokens: int
    output_tokens: int
    attempts: int
    replica_id: str
    #: Whether every objective of its SLA held.
    good: bool
    #: Advice to a refused client, ns; 0 where there is none.
    retry_after_ns: int = 0
    #: For people; empty where `reason` says it all.
    detail: str = ""
    #: How often it was paused for others.
    pauses: int = 0
    #: Clamp of its length, tokens; 0 if there was none.
    clamped_tokens: int = 0
    #: What was expected at its first dispatch, as in `Dispatch`.
    expected_first_ns: int = -1
    expected_end_ns: int = -1
    chance: float = -1.0
    #: When a plan put it behind those that could still be on time; -1 if none did.
    demoted_ns: int = -1
    #: Its chain, which call of it this was, and how many there are (0 unknown); empty for none.
    chain: str = ""
    step: int = 0
    steps: int = 0
    #: What was left of the chain's time at the end, ns, negative if it was over; 0 for no deadline.
    chain_left_ns: int = 0


@dataclass(frozen=True, slots=True)
class LoadReplica:
    """Bring up a replica; its bytes are already booked in the ledger."""

    replica_id: str
    epoch: int
    model: str
    #: Where; empty for the only device of a model that has no other.
    device: str = ""
    #: Nobody waits for it yet.
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class UnloadReplica:
    """End a replica's process (also one that loads); answered by `ReplicaGone`."""

    replica_id: str
    epoch: int
    cause: UnloadCause


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that could have given way, and what it was worth to stay."""

    replica_id: str
    score: float
    #: What the score is made of, by name.
    parts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EvictionDecided:
    """Why replicas give way: a record for people, nothing is asked for by it."""

    #: Counts the decisions of one scheduler.
    number: int
    device: str
    #: The model that room is made for; empty where the budget was overrun.
    model: str
    #: Requests that waited for it, and for how long the need had lasted, ns.
    waiting: int
    waited_ns: int
    shortfall_bytes: int
    victims: tuple[str, ...]
    #: What the policy looked at; empty if it scores nothing.
    candidates: tuple[Candidate, ...] = ()
    #: Nobody waits: the model is expected to be asked for, which is worth so much, as scores are.
    ahead: bool = False
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class SleepReplica:
    """Put a replica that runs nothing to sleep; answered by `ReplicaAsleep`.

    Its host memory is already booked; its device's memory stays booked until it sleeps.
    """

    replica_id: str
    epoch: int
    #: Counts the sleeps and wakes of one life, as a fence: the load was turn 0.
    turn: int
    #: 1 moves its weights to host memory, 2 drops them.
    level: int
    #: Why it leaves its device.
    cause: UnloadCause = UnloadCause.EVICTED


@dataclass(frozen=True, slots=True)
class WakeReplica:
    """Wake a replica that sleeps, its bytes being booked; answered by `ReplicaReady`."""

    replica_id: str
    epoch: int
    turn: int
    #: Nobody waits for it yet.
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class SizeDecided:
    """A model is to have so many replicas: a record for people, nothing is asked for by it."""

    model: str
    replicas: int
    was: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A replica that holds memory of a device."""

    replica_id: str
    held_bytes: int
    #: Its state.
    state: str


@dataclass(frozen=True, slots=True)
class AskRefused:
    """What an operator asked for will not be: a record, nothing is asked for by it."""

    ask_id: str
    model: str
    what: Ask
    #: A `Reason` or a `FailureKind`.
    reason: str
    #: For people.
    detail: str = ""
    #: What bringing the model up takes on its device, what is free there, and who holds the rest.
    needed_bytes: int = 0
    free_bytes: int = 0
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `TimerFired` at this time; replaces the timer before it."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class DrainComplete:
    """Everything asked for by `DrainRequested` is over: the process may exit."""

    unfinished: int


Action = (
    ModelChosen
    | AnswerKept
    | Dispatch
    | AbortAttempt
    | EndRequest
    | LoadReplica
    | EvictionDecided
    | UnloadReplica
    | SleepReplica
    | WakeReplica
    | AskRefused
    | SizeDecided
    | SetTimer
    | DrainComplete
)
