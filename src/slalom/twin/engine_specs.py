"""The engines a scenario can choose, each a frozen row of numbers that builds its model.

Owns the options and their bounds. A model of a scenario without one of these runs the simple law
of `engine_model`. Read by scenario files, by the world and by the bound.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from slalom.errors import ConfigError
from slalom.twin.engine_kv import KvBlocks
from slalom.twin.engine_llama_cpp import LlamaCppBatching
from slalom.twin.engine_model import EngineModel
from slalom.twin.engine_protocol import TwinEngine
from slalom.twin.engine_steps import StepEngine
from slalom.twin.engine_vllm import VllmBatching
from slalom.twin.step_time import StepProfile
from slalom.twin.usl import UslLaw


@dataclass(frozen=True, slots=True)
class VllmEngine:
    """vLLM V1: running sequences first, chunked prefill, KV blocks with reuse, recompute."""

    profile: StepProfile
    #: Tokens in one step over all sequences.
    budget_tokens: int = 8_192
    #: Sequences that run at a time; more wait inside.
    seqs_max: int = 256
    #: KV blocks in all; 0 for as many as it takes.
    kv_blocks: int = 0
    block_tokens: int = 16
    #: Most prompt tokens of one sequence in a step; 0 for the whole budget.
    long_prefill_tokens: int = 0
    #: Whether KV blocks of finished sequences serve later ones with the same prefix.
    prefix_caching: bool = True
    #: Whether waiting sequences are taken by their priority, and the least urgent give way.
    by_priority: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ConfigError: A number is out of its range.
        """
        _require("vllm", "budget_tokens", self.budget_tokens, 1)
        _require("vllm", "seqs_max", self.seqs_max, 1)
        _require("vllm", "block_tokens", self.block_tokens, 1)
        _require("vllm", "kv_blocks", self.kv_blocks, 0)
        _require("vllm", "long_prefill_tokens", self.long_prefill_tokens, 0)
        if self.budget_tokens < self.seqs_max:
            raise ConfigError(
                f"vllm engine: budget_tokens {self.budget_tokens} is less than seqs_max "
                f"{self.seqs_max}, so not every sequence could write in a step; raise the budget"
            )

    def build(self, report_every_ns: int) -> TwinEngine[Any]:
        """A fresh engine."""
        batching = VllmBatching(
            budget_tokens=self.budget_tokens,
            seqs_max=self.seqs_max,
            kv=KvBlocks(self.kv_blocks, self.block_tokens),
            long_prefill_tokens=self.long_prefill_tokens,
            prefix_caching=self.prefix_caching,
            by_priority=self.by_priority,
        )
        return StepEngine(self.profile, batching, report_every_ns=report_every_ns)

    def at_speed(self, speed: float) -> Self:
        """The same on a device so many times as fast."""
        return replace(self, profile=self.profile.at_speed(speed))

    def alone_ns(self, prompt_tokens: int, output_tokens: int) -> int:
        """Time of a job that has the engine to itself, by the law, in whole steps."""
        return _alone_ns(self.build(0), prompt_tokens, output_tokens)


@dataclass(frozen=True, slots=True)
class LlamaCppEngine:
    """llama.cpp's server: slots in front of one queue, prompts read in micro-batches."""

    profile: StepProfile
    slots: int = 4
    #: Tokens in one step over all slots (`n_batch`), and in one piece of it (`n_ubatch`).
    batch_tokens: int = 2_048
    micro_batch_tokens: int = 512
    #: Whether a slot keeps what it has read for the next prompt with the same prefix.
    prefix_caching: bool = True
    #: Longest prompt and answer of one slot, tokens; 0 for no bound.
    context_tokens: int = 0
    #: Whether all slots share one KV cache. A real engine's steps then look at what every other
    #: slot holds, idle or not, wherever it lies; that time is not in any profile.
    kv_unified: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ConfigError: A number is out of its range.
        """
        _require("llama-cpp", "slots", self.slots, 1)
        _require("llama-cpp", "context_tokens", self.context_tokens, 0)
        _require("llama-cpp", "batch_tokens", self.batch_tokens, self.slots)
        _require("llama-cpp", "micro_batch_tokens", self.micro_batch_tokens, 1)

    def build(self, report_every_ns: int) -> TwinEngine[Any]:
        """A fresh engine."""
        batching = LlamaCppBatching(
            slots=self.slots,
            batch_tokens=self.batch_tokens,
            prefix_caching=self.prefix_caching,
            context_tokens=self.context_tokens,
            kv_unified=self.kv_unified,
            micro_batch=self.micro_batch_tokens,
        )
        return StepEngine(
            self.profile,
            batching,
            report_every_ns=report_every_ns,
            micro_batch=self.micro_batch_tokens,
        )

    def at_speed(self, speed: float) -> Self:
        """The same on a device so many times as fast."""
        return replace(self, profile=self.profile.at_speed(speed))

    def alone_ns(self, prompt_tokens: int, output_tokens: int) -> int:
        """Time of a job that has the engine to itself, by the law, in whole steps."""
        return _alone_ns(self.build(0), prompt_tokens, output_tokens)


@dataclass(frozen=True, slots=True)
class UslEngine:
    """Every job's speed is one function of how many run: the universal scalability law."""

    law: UslLaw

    def build(self, report_every_ns: int) -> TwinEngine[Any]:
        """A fresh engine."""
        return EngineModel(self.law, report_every_ns=report_every_ns)

    def at_speed(self, speed: float) -> "UslEngine":
        """The same on a device so many times as fast."""
        return UslEngine(self.law.at_speed(speed))

    def alone_ns(self, prompt_tokens: int, output_tokens: int) -> int:
        """Time of a job that has the engine to itself."""
        return _alone_ns(self.build(0), prompt_tokens, output_tokens)


EngineSpec = VllmEngine | LlamaCppEngine | UslEngine


def _alone_ns(engine: TwinEngine[int], prompt_tokens: int, output_tokens: int) -> int:
    engine.start(0, prompt_tokens, output_tokens, 0)
    at_ns = 0
    while (next_ns := engine.next_ns()) is not None:
        at_ns = next_ns
        engine.take_due(at_ns)
    return at_ns


def _require(kind: str, name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{kind} engine: {name} is {value}; it must be at least {least}")
