"""Everything that can happen to the scheduler, as frozen data.

Events carry ids and sizes, never prompts or generated text. Fences: an attempt is named by
(request id, attempt number), a life of a replica by (replica id, epoch); an event whose fence
is stale is dropped and counted. Read this file first, then `actions`, then `scheduler`.
"""

from dataclasses import dataclass
from enum import StrEnum

from slalom.core.chain import Link
from slalom.core.request import ModelSpec, Request
from slalom.units import SECOND


class FailureKind(StrEnum):
    """Why an attempt or a replica failed; the wire value is the machine-readable reason."""

    #: Closed because the scheduler asked for it.
    ABORTED = "aborted"
    #: The engine's connection or process went away.
    CRASHED = "engine_crashed"
    #: The engine answered with an error of its own (5xx, error event, garbage).
    ENGINE_ERROR = "engine_error"
    #: The engine refused the request as wrong (4xx): another attempt cannot help.
    REFUSED = "engine_refused"
    #: No sign of life for longer than the watchdog allows.
    STALLED = "engine_stalled"
    #: The replica could not be brought up: its file is missing or not a model.
    MODEL_UNUSABLE = "model_unusable"
    #: The replica could not be brought up: memory.
    OUT_OF_MEMORY = "out_of_memory"
    #: The replica could not be brought up: the program did not start (port, command …).
    START_FAILED = "engine_start_failed"
    #: The replica was not ready in time.
    LOAD_TIMEOUT = "load_timeout"
    #: Its load had begun to move and then moved no more.
    LOAD_STALLED = "load_stalled"


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A request was accepted by the gateway and wants to be scheduled."""

    request: Request


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The client has gone away or took the request back."""

    request_id: str


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first non-empty token of an attempt left the engine."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Coarse progress of a streaming attempt."""

    request_id: str
    attempt: int
    #: Tokens produced so far by this attempt.
    output_tokens: int


class Verdict(StrEnum):
    """What is thought of an answer that is held back until it was looked at."""

    #: It is good enough: its client gets it.
    TRUSTED = "trusted"
    #: The model was not sure of its first tokens.
    UNSURE = "unsure"
    #: What it makes of the text around it is no program.
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class AnswerJudged:
    """An answer that was held back was looked at.

    One that is doubted is held back until `AbortAttempt` or `AnswerKept`.
    """

    request_id: str
    attempt: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """An attempt ended well; its place in the engine is free."""

    request_id: str
    attempt: int
    output_tokens: int
    #: Prompt tokens as the engine counted them; -1 where it does not say.
    prompt_tokens: int = -1
    #: Those among them that it had read before, where it says so; -1 where it does not.
    cached_tokens: int = -1
    #: Whether it ends by calling tools: its client is likely to come back soon.
    tool_calls: bool = False


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt ended badly, or was aborted as asked; its place in the engine is free."""

    request_id: str
    attempt: int
    kind: FailureKind
    #: Whether any byte of the answer reached the client: then it cannot be tried again.
    delivered: bool
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """A loading replica tells how far it is."""

    replica_id: str
    epoch: int
    #: 0.0 to 1.0.
    fraction: float


@dataclass(frozen=True, slots=True)
class ReplicaReady:
    """A replica can take requests: it was loaded, or woken."""

    replica_id: str
    epoch: int
    #: Measured memory; 0 where it cannot be measured.
    measured_bytes: int = 0
    #: That of the `WakeReplica` it answers; 0 for a load.
    turn: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaAsleep:
    """A replica sleeps: its device's memory is free, but for what it is known to keep."""

    replica_id: str
    epoch: int
    #: That of the `SleepReplica` it answers.
    turn: int
    #: Measured memory; 0 where it cannot be measured. For people: no ledger books it.
    measured_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaFailed:
    """A replica did not come up, sleep or wake, crashed or hangs; its memory is to be freed.

    Answered by an unload, so that a hung process is reaped too.
    """

    replica_id: str
    epoch: int
    kind: FailureKind
    #: For people: what the engine said. No prompts, no secrets.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaGone:
    """A replica's process has ended and its memory is free."""

    replica_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ReplicaFound:
    """An engine that no life here knows runs already, left behind by an earlier scheduler.

    Answered by a `LoadReplica` for which it can be taken, if its model may have it; else by
    nothing, and it is to be ended.
    """

    model: str
    #: Whose memory it takes; empty for its model's first one.
    device: str = ""


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """Measured memory of a replica, with the age of the figure."""

    replica_id: str
    epoch: int
    measured_bytes: int
    as_of_ns: int


class Ask(StrEnum):
    """What an operator may ask of a model."""

    LOAD = "load"
    SLEEP = "sleep"
    WAKE = "wake"
    UNLOAD = "unload"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """An operator wants something of a model: it is begun, or answered by `AskRefused`."""

    model: str
    what: Ask
    #: Names the ask in its refusal.
    ask_id: str = ""


@dataclass(frozen=True, slots=True)
class DeviceSampled:
    """What others hold of a device's memory was measured anew: its budget is the less for it.

    Told when it changes, for as long as it lasts: 0 ends it.
    """

    device: str
    #: Bytes that the budget counts on and are not there.
    foreign_bytes: int
    as_of_ns: int


@dataclass(frozen=True, slots=True)
class ChainOpened:
    """A client says beforehand which calls it is going to make."""

    #: Whose it is.
    key: str
    #: `step` is 0: nothing was asked yet, and all calls are `rest`.
    link: Link


@dataclass(frozen=True, slots=True)
class ChainAbandoned:
    """A client gives a chain up: what is held for it is free, what runs for it is stopped."""

    key: str
    chain: str


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """The configuration was read anew. Models that are not named are as they were.

    Whoever tells it has had it judged by `Scheduler.judge`.
    """

    #: Models that nobody knew.
    added: tuple[ModelSpec, ...] = ()
    #: Models with another engine: what runs ends on the old one, and loads from now on take this.
    replaced: tuple[ModelSpec, ...] = ()
    #: Models of which only what the scheduler does with them has changed.
    adjusted: tuple[ModelSpec, ...] = ()
    #: Models that take nothing new from now on.
    removed: tuple[str, ...] = ()
    #: How long what waits or runs for removed models, and what runs on replaced engines, has to
    #: end, ns.
    drain_ns: int = 30 * SECOND
    #: Names it in what it leads to.
    reload_id: str = ""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of the last `SetTimer` has come."""


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Shut down: take nothing new, finish what is here until the deadline."""

    deadline_ns: int


Event = (
    RequestArrived
    | RequestCancelled
    | FirstToken
    | Progress
    | AnswerJudged
    | AttemptFinished
    | AttemptFailed
    | LoadProgress
    | ReplicaReady
    | ReplicaAsleep
    | ReplicaFailed
    | ReplicaGone
    | ReplicaFound
    | MemorySampled
    | DeviceSampled
    | ModelAsked
    | ChainOpened
    | ChainAbandoned
    | ConfigChanged
    | TimerFired
    | DrainRequested
)
