"""Turns journal entries into the steps of one request's story, and sums up what it waited for.

Owns the wording of the steps and the split of the wait by cause. Called by `explain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.core.actions import (
    AbortAttempt,
    Action,
    AnswerKept,
    Dispatch,
    EndRequest,
    LoadReplica,
    ModelChosen,
    Outcome,
    Passed,
    Reason,
    SleepReplica,
    UnloadCause,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    Event,
    FailureKind,
    FirstToken,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
)
from slalom.core.journal import Entry
from slalom.core.request import Request
from slalom.core.snapshot import ReplicaState
from slalom.journal.occupancy import Occupancy
from slalom.units import format_duration


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened."""

    #: Time since the scheduled arrival, ns.
    at_ns: int
    #: Machine-readable: arrived, load, evict, ready, dispatch, first-token, end, …
    kind: str
    #: For people.
    text: str


@dataclass(slots=True)
class Waits:
    """How long it waited, by what was missing; all in ns."""

    #: No replica of its model was ready.
    loading_ns: int = 0
    #: Its model was ready, but every place (or the device's window) was taken.
    places_ns: int = 0
    #: It had begun and was paused for others.
    paused_ns: int = 0
    #: Since when it waits, on the journal's clock; None while it runs.
    since_ns: int | None = None
    #: Whether its attempt was told to pause, and whether it has since not run again.
    pausing: bool = False
    paused: bool = False
    #: Whether a replica of its model was ready at that time.
    was_ready: bool = False

    def mark(self, now_ns: int, *, ready: bool, waits: bool) -> None:
        """Account for the time up to now, and note what holds from now on."""
        if self.since_ns is not None:
            spent_ns = now_ns - self.since_ns
            if self.paused:
                self.paused_ns += spent_ns
            elif self.was_ready:
                self.places_ns += spent_ns
            else:
                self.loading_ns += spent_ns
        self.since_ns = now_ns if waits else None
        self.was_ready = ready


def steps_of(request: Request, entry: Entry, occupancy: Occupancy, waits: Waits) -> Iterator[Step]:
    """The steps of one entry as they concern a request; updates `occupancy` and `waits`."""
    at_ns = entry.now_ns - request.arrived_ns
    for event in entry.events:
        if isinstance(event, RequestArrived) and event.request.id == request.id:
            yield Step(at_ns, "arrived", _arrival(request, occupancy))
            waits.since_ns = entry.now_ns
            waits.was_ready = bool(occupancy.ready(request.model))
        elif told := _paused(request, event, waits) or _event(request, event, occupancy):
            yield Step(at_ns, *told)
    was_waiting = waits.since_ns is not None
    occupancy.events(entry)
    # What stood still until now is what was missing until now.
    waits.mark(entry.now_ns, ready=bool(occupancy.ready(request.model)), waits=was_waiting)
    waiting = was_waiting
    for action in entry.actions:
        if isinstance(action, Dispatch | EndRequest) and action.request_id == request.id:
            waiting = waits.paused = waits.pausing = False
        if isinstance(action, AbortAttempt) and action.request_id == request.id:
            waits.pausing = action.pause
        if isinstance(action, ModelChosen) and action.request_id == request.id:
            yield Step(at_ns, "model", _choice(request, action))
        elif isinstance(action, AnswerKept) and action.request_id == request.id:
            yield Step(at_ns, "kept", f"attempt {action.attempt} is kept: no other is in time")
        elif told := _action(request, action, occupancy, at_ns=at_ns, waiting=waiting):
            yield Step(at_ns, *told)
    occupancy.actions(entry)
    waits.since_ns = entry.now_ns if waiting or _waits_again(request, entry) else None
    waits.was_ready = bool(occupancy.ready(request.model))


def _waits_again(request: Request, entry: Entry) -> bool:
    """Whether its attempt failed here and nothing else became of it yet."""
    failed = any(
        isinstance(event, AttemptFailed) and event.request_id == request.id
        for event in entry.events
    )
    return failed and not any(
        isinstance(action, Dispatch | EndRequest) and action.request_id == request.id
        for action in entry.actions
    )


def _action(
    request: Request,
    action: Action,
    occupancy: Occupancy,
    *,
    at_ns: int,
    waiting: bool,
) -> tuple[str, str] | None:
    """(kind, text) of an action that concerns the request."""
    match action:
        case Dispatch(request_id) if request_id == request.id:
            return "dispatch", _dispatch(request, action, at_ns)
        case EndRequest(request_id=request_id) if request_id == request.id:
            return "end", _ending(action)
        case AbortAttempt(request_id, attempt) if request_id == request.id:
            if action.pause:
                return "pause", f"attempt {attempt} is to give its place to others for a while"
            return "abort", f"attempt {attempt} is aborted"
        case LoadReplica(replica_id, _, model) if model == request.model:
            return "load", f"{replica_id} begins to load"
        case WakeReplica(replica_id) if occupancy.model_of(replica_id) == request.model:
            return "wake", f"{replica_id} begins to wake"
        case SleepReplica() | UnloadReplica() if waiting:
            return _gives_way(request, action, occupancy)
        case _:
            return None


#: Why a model was passed over, for people.
_PASSED: dict[str, str] = {
    Passed.NOT_READY: "was not ready",
    Passed.WAIT_TOO_LONG: "would have been waited for too long",
    Passed.LATE: "was not expected to be on time",
    Passed.UNSURE: "was not sure of its answer",
    Passed.BROKEN: "gave an answer that makes no program of the text around it",
    Reason.LOAD_BACKOFF: "rests after a failed load",
}


def _choice(request: Request, action: ModelChosen) -> str:
    """Which of its models serves it, and why not those before."""
    rule = request.alternatives.choice.value if request.alternatives else ""
    passed = [
        f"{name} {_PASSED.get(why) or f'would refuse it ({why})'}" for name, why in action.passed
    ]
    return "; ".join([f"{action.model} is to serve it ({rule})", *passed])


def _dispatch(request: Request, action: Dispatch, at_ns: int) -> str:
    """Where it began to run, on which terms, and what was expected."""
    parts = [f"dispatched to {action.replica_id} as attempt {action.attempt}"]
    if action.resumed_tokens:
        parts.append(f"goes on behind {action.resumed_tokens} tokens")
    if 0 < action.max_tokens < request.max_tokens:
        parts.append(f"cut to {action.max_tokens} tokens of {request.max_tokens}")
    if action.priority:
        parts.append(f"with priority {action.priority} in the engine")
    if action.expected_end_ns >= 0:
        end_ns = action.expected_end_ns - request.arrived_ns
        end = f"{format_duration(end_ns)} ({_estimate(action, end_ns, at_ns)})"
        parts.append(f"expected to end after {end}")
        if action.expected_first_ns >= 0 and not action.resumed_tokens:
            first = format_duration(max(action.expected_first_ns - request.arrived_ns, 0))
            parts[-1] = f"first token expected after {first}, the end after {end}"
    if action.chance >= 0:
        parts.append(f"chance of holding its targets {action.chance:.0%}")
    return "; ".join(parts)


def _estimate(action: Dispatch, end_ns: int, at_ns: int) -> str:
    """What the expected time is made of."""
    parts = [f"queue {format_duration(at_ns)}", f"execution {format_duration(end_ns - at_ns)}"]
    if action.expected_rest_ns >= 0:
        parts.append(f"rest of its chain {format_duration(action.expected_rest_ns)}")
    return " + ".join(parts)


def _paused(request: Request, event: Event, waits: Waits) -> tuple[str, str] | None:
    """(kind, text) of an attempt that has given its place to others; notes it."""
    if not isinstance(event, AttemptFailed) or event.request_id != request.id:
        return None
    if not waits.pausing or event.kind is not FailureKind.ABORTED:
        return None
    waits.paused = True
    tokens = event.output_tokens
    return "paused", f"attempt {event.attempt} is paused after {tokens} tokens"


#: What an arrival finds its model doing.
_WAS = {
    ReplicaState.LOADING: "loading",
    ReplicaState.DRAINING: "giving way",
    ReplicaState.SLEEPING: "falling asleep",
    ReplicaState.ASLEEP: "asleep",
    ReplicaState.WAKING: "waking",
    ReplicaState.UNLOADING: "being unloaded",
}


def _arrival(request: Request, occupancy: Occupancy) -> str:
    model = request.model
    state = occupancy.state(model)
    if state is ReplicaState.READY:
        taken, places = occupancy.taken(model)
        found = f"{model} was ready with {taken} of {places} places taken"
    else:
        found = f"{model} was {_WAS[state] if state else 'not loaded'}"
    waiting = occupancy.waiting(model)
    if (link := request.link) is not None:
        whole = f" of {link.steps}" if link.steps else ""
        found = f"call {link.step}{whole} of chain {link.chain}; {found}"
    return f"arrived; {found}" + (f", {waiting} waiting before it" if waiting else "")


def _event(request: Request, event: Event, occupancy: Occupancy) -> tuple[str, str] | None:
    """(kind, text) of an event that concerns the request."""
    own = request.id
    match event:
        case FirstToken(request_id, attempt) if request_id == own:
            return "first-token", f"first token of attempt {attempt}"
        case AnswerJudged(request_id, attempt, verdict) if request_id == own:
            return "judged", f"the answer of attempt {attempt} is {verdict.value}"
        case AttemptFailed(request_id, attempt, kind) if request_id == own:
            return "attempt-failed", f"attempt {attempt} failed: {kind.value}"
        case RequestCancelled(request_id) if request_id == own:
            return "cancelled", "the client went away"
        case ReplicaReady(replica_id) if occupancy.model_of(replica_id) == request.model:
            return "ready", f"{replica_id} is ready"
        case ReplicaFailed(replica_id, _, kind, detail) if (
            occupancy.model_of(replica_id) == request.model
        ):
            return "load-failed", f"{replica_id} failed: {kind.value}" + _detail(detail)
        case ReplicaGone(replica_id):
            if occupancy.model_of(replica_id) == request.model:
                return "gone", f"{replica_id} has ended"
        case _:
            pass
    return None


def _gives_way(
    request: Request,
    action: SleepReplica | UnloadReplica,
    occupancy: Occupancy,
) -> tuple[str, str] | None:
    """A replica of its model that leaves its device, or another one that does so for it."""
    replica_id, model = action.replica_id, occupancy.model_of(action.replica_id)
    neighbour = bool(occupancy.homes(model) & occupancy.homes(request.model))
    if isinstance(action, SleepReplica):
        if model == request.model:
            return "sleep", f"{replica_id} is put to sleep"
        return ("evict", f"{replica_id} is put to sleep to make room") if neighbour else None
    if model == request.model:
        return "unload", f"{replica_id} is unloaded ({action.cause.value})"
    evicted = action.cause is UnloadCause.EVICTED
    return ("evict", f"{replica_id} is evicted to make room") if evicted and neighbour else None


def _ending(end: EndRequest) -> str:
    took = format_duration(end.ended_ns - end.arrived_ns)
    match end.outcome:
        case Outcome.DONE:
            return f"done after {took} with {end.output_tokens} tokens"
        case Outcome.CANCELLED:
            return f"cancelled by the client after {took}"
        case Outcome.SUPERSEDED:
            return f"replaced after {took} by a newer request of the same client"
        case Outcome.REJECTED:
            return f"refused: {end.reason}" + _detail(end.detail)
        case Outcome.FAILED:
            return f"failed: {end.reason}" + _detail(end.detail)


def _detail(detail: str) -> str:
    return f" ({detail})" if detail else ""
