"""What planners are shown in tests of policies: plain values in the shape of the core's views.

Owns builders. Times are given in ms after an arrival of `AT_NS`, and tokens as tokens.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from slalom.core.request import ModelSpec, Request, Sla, StepCost
from slalom.units import MS, SECOND

AT_NS = 1_000 * SECOND


@dataclass(frozen=True)
class Waits:
    """A waiting request."""

    request: Request
    queued_ns: int = AT_NS
    demoted: bool = False
    first_token_ns: int = -1
    produced_tokens: int = 0
    pauses: int = 0
    near: str = ""
    admitted: bool = False


@dataclass(frozen=True)
class Runs:
    """An attempt."""

    request: Request
    replica_id: str = "a#0"
    number: int = 1
    started_ns: int = AT_NS
    first_ns: int = -1
    resumed_tokens: int = 0
    output_tokens: int = 0
    heard_ns: int = AT_NS
    client_first_ns: int = -1
    leaving: bool = False
    cached_tokens: int = -1
    pauses: int = 0
    beside: int = 0
    speed: float = 1.0


@dataclass(frozen=True)
class Ready:
    """A ready replica."""

    id: str = "a#0"
    places: int = 100
    attempts: Sequence[Runs] = ()
    ready_ns: int = 0
    speed: float = 1.0

    @property
    def free_places(self) -> int:
        return self.places - len(self.attempts)

    def active(self) -> Collection[Runs]:
        return self.attempts


@dataclass(frozen=True)
class View:
    """A model."""

    queue: Sequence[Waits] = ()
    replicas: Sequence[Ready] = (Ready(),)
    spec: ModelSpec = field(default_factory=lambda: ModelSpec("a", "gpu", 1, 100))
    room: int = 1 << 30
    beside: int = 0
    #: What a load or a wake takes, ns.
    wake_ns: int = 0

    def ready_at_ns(self, now_ns: int) -> int:
        return now_ns if self.replicas else now_ns + self.wake_ns

    @property
    def waiting_count(self) -> int:
        return len(self.queue)

    def waiting(self, limit: int) -> Sequence[Waits]:
        return self.queue[:limit]

    def ready(self) -> Sequence[Ready]:
        return self.replicas

    def ready_count(self) -> int:
        return len(self.replicas)

    def some_ready(self, limit: int, named: Sequence[str] = ()) -> Sequence[Ready]:
        raise AssertionError("a few replicas are all looked at")

    def reader(self, prefix: str) -> str:
        return ""


def asked(
    name: str = "r",
    *,
    tokens: int = 50,
    prompt: int = 100,
    ttft_ms: int | None = None,
    tpot_ms: int | None = None,
    e2e_ms: int | None = None,
    task: str = "task",
    after_ms: int = 0,
) -> Request:
    """A request that arrived `after_ms` after `AT_NS` and is expected to write all it may."""
    limits = [None if ms is None else ms * MS for ms in (ttft_ms, tpot_ms, e2e_ms)]
    at_ns = AT_NS + after_ms * MS
    return Request(name, "a", task, Sla(*limits), at_ns, prompt, tokens, tokens)


def calibrated(**cost_ms: float) -> ModelSpec:
    """A model whose engine's times are known, in ms."""
    cost = StepCost(**{f"{name}_ns": ms * MS for name, ms in cost_ms.items()})
    return ModelSpec("a", "gpu", 1, 100, step_cost=cost)
