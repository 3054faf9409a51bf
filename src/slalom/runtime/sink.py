"""Where the data plane writes an answer: the seam between runtime and gateway.

Owns the `Sink` protocol and what `Runtime.serve` tells about a served request. Implemented by the
gateway's ASGI writer and by the tests' recorder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slalom.core.actions import EndRequest
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a waiting client may be told."""

    waited_ns: int
    #: `ModelState` of its model and, while loading, how far it is (0.0 to 1.0).
    model_state: str
    load_fraction: float
    #: Expected time until it can start, ns; -1 where nothing tells.
    starts_in_ns: int = -1


@dataclass(frozen=True, slots=True)
class Served:
    """How `Runtime.serve` ended, if the client is still there.

    Exactly one holds: complete (`failure` and `end` None), failed after bytes were delivered
    (`failure` set), or never started (`end` set: refused, or every attempt failed).
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


#: Builds the engine call once it is known which engine serves (FIM template, model name).
MakeCall = Callable[[Engine], Call]
