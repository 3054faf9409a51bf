"""What the gateway needs of the runtime, as a protocol.

Owns the shape only. `runtime.driver.Runtime` fits it; the gateway's own tests bring a small one
in memory, so that HTTP can be tested without a scheduler.
"""

from collections.abc import Callable
from typing import Protocol

from slalom.core.actions import AskRefused, EndRequest
from slalom.core.chain import Later
from slalom.core.dry_run import ResidencyPlan
from slalom.core.events import Event, ModelAsked
from slalom.core.journal import Entry
from slalom.core.request import Request
from slalom.core.snapshot import Snapshot
from slalom.engines.protocol import Capabilities, Engine
from slalom.runtime.forecast import Forecast
from slalom.runtime.sink import MakeCall, MakeGate, Served, Sink


class RuntimePort(Protocol):
    """Takes requests, serves them, tells about itself."""

    #: Told of every ended request.
    on_end: list[Callable[[EndRequest], None]]
    #: Told of every step.
    on_step: list[Callable[[Entry], None]]

    async def serve(
        self,
        request: Request,
        make_call: MakeCall,
        sink: Sink,
        *,
        stream: bool,
        strip_usage: bool,
        make_gate: MakeGate | None = None,
    ) -> Served:
        """Serve a request to its end; cancel the task to abort.

        Raises:
            OverloadedError: There is no room for it.
        """
        ...

    def estimate(self, request: Request) -> Forecast:
        """What is to be expected if a request came now."""
        ...

    def ask(self, event: ModelAsked) -> AskRefused | None:
        """Tell what an operator wants; what refuses it at once, if anything does."""
        ...

    def foretell(self, later: Later) -> int:
        """What a call that is yet to come would take, without the gap before it, ns."""
        ...

    def post(self, *events: Event) -> None:
        """Tell the scheduler that something happened, soon."""
        ...

    def plan(self, model_id: str) -> ResidencyPlan | None:
        """What bringing a model up would take now; None if there is no such model."""
        ...

    def snapshot(self) -> Snapshot:
        """The scheduler's present state."""
        ...

    def now_ns(self) -> int:
        """The scheduler's clock."""
        ...

    def capabilities(self, model_id: str) -> Capabilities:
        """What the engines of a model can do."""
        ...

    def engine_of(self, model_id: str) -> Engine | None:
        """A ready engine of a model, for questions that need no place; None where none runs."""
        ...
