"""Tasks: the classes of coding requests, with the service levels they get by default.

Owns the default table and the arithmetic from a task to an `Sla`. Does not own how a request's
task is found (the gateway) nor what the configuration overrides (config). Pure and shared: the
gateway, the twin's workloads and the benchmarks read the same table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from slalom.core.request import Sla
from slalom.units import ms_to_ns


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One class of requests and what its users expect; `None` means no such objective."""

    name: str
    #: Time to first token, ms.
    ttft_ms: float | None = None
    #: Mean time per output token after the first, ms.
    tpot_ms: float | None = None
    #: End-to-end time, ms.
    e2e_ms: float | None = None
    #: Added to `e2e_ms` for every token of the prompt, ms.
    e2e_ms_per_prompt_token: float = 0.0
    #: Prior of the output length before anything was observed, tokens.
    predicted_tokens: int = 128
    #: Added to that for every token of the prompt.
    predicted_per_prompt_token: float = 0.0
    #: What becomes of a request that a planner finds to be late: what its policy says, an error at
    #: once, or an empty answer at once.
    when_late: Literal["policy", "refuse", "empty"] = "policy"
    #: What one of its requests on time is worth beside those of other tasks, where not all can be.
    weight: float = 1.0
    #: Share of each key's requests of it that should be on time; 0 for none.
    floor: float = 0.0

    def predicted_for(self, prompt_tokens: int) -> int:
        """What an answer to a prompt of that length is thought to have, before any was seen."""
        return round(self.predicted_tokens + self.predicted_per_prompt_token * prompt_tokens)

    @property
    def urgency_ms(self) -> float:
        """The tightest first objective, ms: the smaller, the more urgent the class.

        Per-token allowances do not count, so that the order of classes is the same for every
        prompt. A task without TTFT and E2E objectives is the least urgent.
        """
        limits = [limit for limit in (self.ttft_ms, self.e2e_ms) if limit is not None]
        return min(limits, default=float("inf"))


#: The task of a request that nothing else tells apart.
FALLBACK_TASK = "generation"

_TASKS = (
    TaskSpec("completion", ttft_ms=200, e2e_ms=500, predicted_tokens=16),
    TaskSpec("completion-multiline", ttft_ms=200, e2e_ms=1_000, predicted_tokens=48),
    TaskSpec(FALLBACK_TASK, ttft_ms=500, tpot_ms=50, predicted_tokens=256),
    TaskSpec("chat", ttft_ms=500, tpot_ms=50, predicted_tokens=256),
    TaskSpec("embedding", e2e_ms=1_000, predicted_tokens=0),
    TaskSpec("agent", ttft_ms=2_000, tpot_ms=50, predicted_tokens=220),
    TaskSpec("reasoning", ttft_ms=2_000, e2e_ms=60_000, predicted_tokens=1_024),
    TaskSpec("summarisation", e2e_ms=5_000, predicted_tokens=96),
    # What is translated is in the prompt: one length for all of them says next to nothing.
    TaskSpec(
        "translation",
        e2e_ms=10_000,
        e2e_ms_per_prompt_token=20,
        predicted_tokens=0,
        predicted_per_prompt_token=1.0,
    ),
    TaskSpec("batch", predicted_tokens=256),
)

#: The default table, most urgent first. The targets are Slalom's own choice.
DEFAULT_TASKS: Mapping[str, TaskSpec] = MappingProxyType({task.name: task for task in _TASKS})


def sla_for(task: TaskSpec, prompt_tokens: int) -> Sla:
    """The objectives of one request of this task.

    Args:
        task: The request's task.
        prompt_tokens: Estimated tokens of its prompt.
    """
    e2e_ms = task.e2e_ms
    if e2e_ms is not None:
        e2e_ms += task.e2e_ms_per_prompt_token * prompt_tokens
    return Sla(ttft_ns=_ns(task.ttft_ms), tpot_ns=_ns(task.tpot_ms), e2e_ns=_ns(e2e_ms))


def _ns(limit_ms: float | None) -> int | None:
    return None if limit_ms is None else ms_to_ns(limit_ms)
