"""Where the data plane writes an answer: the seam between runtime and gateway.

Owns the `Sink` protocol and what `Runtime.serve` tells about a served request. Implemented by the
gateway's ASGI writer and by the tests' recorder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slalom.core.actions import Dispatch, EndRequest
from slalom.core.chain import rough_rest_ns
from slalom.core.events import Verdict
from slalom.core.request import Request
from slalom.core.scheduler import Scheduler
from slalom.engines.protocol import Call, Engine
from slalom.errors import EngineError


@dataclass(frozen=True, slots=True)
class Assignment:
    """A dispatched attempt: which life of which replica serves it."""

    request_id: str
    attempt: int
    replica_id: str
    epoch: int
    engine: Engine
    #: Time from arrival to this dispatch, ns.
    queued_ns: int
    #: For engines that heed one: the smaller the more urgent.
    priority: int = 0
    #: Clamp of the whole answer's length, tokens; 0 where there is none.
    max_tokens: int = 0
    #: Tokens that the client has got of earlier attempts.
    resumed_tokens: int = 0
    #: Expected time from arrival to first token and to the end, ns; -1 where nobody said.
    predicted_first_ns: int = -1
    predicted_end_ns: int = -1
    #: Probability that every objective holds, 0 to 1; -1 where nobody said.
    chance: float = -1.0
    #: What the calls that follow in its chain are expected to take, ns; -1 for no chain.
    predicted_rest_ns: int = -1
    #: What is expected to be left of its chain's time at the chain's end, ns; None for no deadline.
    chain_slack_ns: int | None = None
    #: What was thought of the answer where it was held back, for people; of one that took over,
    #: why. Empty where nobody looked.
    judged: str = ""


def assignment_of(
    action: Dispatch, engine: Engine, request: Request, now_ns: int, judged: str = ""
) -> Assignment:
    """A dispatch in the data plane's words: times count from the request's arrival."""
    arrived_ns, first_ns, end_ns = (
        request.arrived_ns,
        action.expected_first_ns,
        action.expected_end_ns,
    )
    return Assignment(
        request_id=action.request_id,
        attempt=action.attempt,
        replica_id=action.replica_id,
        epoch=action.epoch,
        engine=engine,
        queued_ns=now_ns - arrived_ns,
        priority=action.priority,
        max_tokens=action.max_tokens if action.max_tokens < request.max_tokens else 0,
        resumed_tokens=action.resumed_tokens,
        predicted_first_ns=first_ns - arrived_ns if first_ns >= 0 else -1,
        predicted_end_ns=end_ns - arrived_ns if end_ns >= 0 else -1,
        chance=action.chance,
        predicted_rest_ns=action.expected_rest_ns,
        chain_slack_ns=_slack_ns(action, request, now_ns),
        judged=judged,
    )


def _slack_ns(action: Dispatch, request: Request, now_ns: int) -> int | None:
    link = request.link
    if link is None or not link.has_deadline:
        return None
    rest_ns = action.expected_rest_ns
    end_ns = max(action.expected_end_ns, now_ns)
    return link.deadline_ns - end_ns - (rest_ns if rest_ns >= 0 else rough_rest_ns(link.rest))


@dataclass(frozen=True, slots=True)
class Terms:
    """What the scheduler and earlier attempts change in a call."""

    #: Number of the attempt.
    attempt: int = 1
    #: For engines that heed one: the smaller the more urgent.
    priority: int = 0
    #: Clamp of the whole answer's length, tokens; 0 leaves what the client asked for.
    max_tokens: int = 0
    #: What the client has got: the call goes on behind it.
    resumed_text: str = ""
    resumed_tokens: int = 0
    #: The answer is looked at before its client gets it: the engine must say how sure it is.
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a waiting client may be told."""

    waited_ns: int
    #: `ModelState` of its model and, while loading, how far it is (0.0 to 1.0).
    model_state: str
    load_fraction: float
    #: Expected time until it can start, ns; -1 where nothing tells.
    starts_in_ns: int = -1
    #: The model that is to serve it.
    model: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """How `Runtime.serve` ended, if the client is still there.

    Exactly one holds: complete (`failure` and `end` None), failed after bytes were delivered
    (`failure` set), or ended by the scheduler (`end` set: refused, every attempt failed, or a
    newer request took its place; for the last, bytes may have been delivered).
    """

    assignment: Assignment | None
    failure: EngineError | None = None
    end: EndRequest | None = None


class Sink(Protocol):
    """Takes one answer. A slow `body` slows the engine's stream: that is the back-pressure."""

    async def waiting(self, waiting: Waiting) -> None:
        """Called now and then while the request waits; may write a keep-alive."""
        ...

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        """The engine's response head is there; called once, before any `body`."""
        ...

    async def body(self, data: bytes) -> None:
        """Bytes of the body, as the engine sent them."""
        ...


class Gate(Protocol):
    """Looks at one answer that is held back; made anew for each attempt."""

    def feed(self, data: bytes) -> Verdict | None:
        """Take whole events, or bytes of a body; what is thought of the answer, once it is clear.

        Is not fed again after a verdict.
        """
        ...

    def end(self) -> Verdict:
        """What is thought of the answer, now that all of it is there."""
        ...

    def clean(self, data: bytes) -> bytes:
        """Whole events, or a whole body, without what only the gate had asked for."""
        ...


MakeGate = Callable[[], Gate]
#: Builds the engine call once it is known which engine serves (FIM template, model name), and
#: on which terms.
MakeCall = Callable[[Engine, Terms], Call]


def waiting_of(request: Request, scheduler: Scheduler, now_ns: int) -> Waiting:
    """What a request that waits can be told."""
    model = scheduler.model_snapshot(request.model)
    starts_in_ns = model.ready_in_ns if model else -1
    if starts_in_ns > 0:
        starts_in_ns = max(starts_in_ns - (now_ns - scheduler.state.now_ns), 0)
    return Waiting(
        waited_ns=now_ns - request.arrived_ns,
        model_state=model.state if model else "",
        load_fraction=model.load_fraction if model else 0.0,
        starts_in_ns=starts_in_ns,
        model=request.model,
    )
