"""Attempts and models as observations show them, for tests that need no scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slalom.core.planning import RunningView, WaitingView
from slalom.core.request import ModelSpec, Request, Sla, StepCost


def request_of(
    name: str, *, task: str = "chat", prompt: int = 0, tokens: int = 100, model: str = "m"
) -> Request:
    """A request that is thought to get so many tokens."""
    return Request(name, model, task, Sla(e2e_ns=10**10), 0, prompt, max(tokens, 1) * 10, tokens)


@dataclass
class Try:
    """An attempt that tests move on by hand."""

    request: Request
    started_ns: int = 0
    replica_id: str = "m#0"
    number: int = 1
    first_ns: int = -1
    resumed_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = -1
    heard_ns: int = 0
    client_first_ns: int = -1
    leaving: bool = False
    pauses: int = 0
    beside: int = 0
    speed: float = 1.0

    def told(self, tokens: int, now_ns: int) -> "Try":
        """Let it have so many tokens."""
        if self.first_ns < 0:
            self.first_ns = now_ns
            if self.client_first_ns < 0:
                self.client_first_ns = now_ns
        self.output_tokens = tokens
        self.heard_ns = now_ns
        return self


@dataclass
class Place:
    """A model with nothing but its spec and what runs beside it."""

    step_cost: StepCost | None = None
    id: str = "m"
    places: int = 16
    beside: int = 0
    waiting_count: int = 0
    room: int = 1
    device: str = "gpu"
    wake_ns: int = 0
    spec: ModelSpec = field(init=False)

    def __post_init__(self) -> None:
        self.spec = ModelSpec(self.id, self.device, 1, self.places, step_cost=self.step_cost)

    def ready_at_ns(self, now_ns: int) -> int:
        """It is ready."""
        return now_ns

    def waiting(self, limit: int) -> Sequence[WaitingView]:
        """Nothing waits."""
        return ()

    def ready(self) -> Sequence[RunningView]:
        """Nobody asks."""
        return ()

    def ready_count(self) -> int:
        """Nobody asks."""
        return 0

    def some_ready(self, limit: int, named: Sequence[str] = ()) -> Sequence[RunningView]:
        """Nobody asks."""
        return ()

    def reader(self, prefix: str) -> str:
        """Nobody asks."""
        return ""
