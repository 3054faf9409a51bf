"""A job inside a stepping engine, and what a rule of batching answers when a step begins.

Owns the data that `engine_steps` (time) and the rules of `engine_vllm` and `engine_llama_cpp`
(who is in a step) share, and the protocol between them. Decides nothing.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from slalom.twin.engine_kv import Kept
from slalom.twin.engine_protocol import Prefix


class EngineJob:
    """One generation. Its context is its prompt and what it has written."""

    __slots__ = (
        "computed",
        "gone",
        "joined",
        "kept",
        "name",
        "output_tokens",
        "own_blocks",
        "prefix",
        "priority",
        "prompt_tokens",
        "ready_ticks",
        "report_ticks",
        "running",
        "shared_blocks",
        "slot",
        "told",
        "written",
    )

    def __init__(
        self,
        name: Hashable,
        prompt_tokens: int,
        output_tokens: int,
        prefix: Prefix | None = None,
        priority: int = 0,
    ) -> None:
        self.name = name
        self.prompt_tokens = max(prompt_tokens, 1)
        self.output_tokens = max(output_tokens, 1)
        self.prefix = prefix
        self.priority = priority
        #: Tokens written, and tokens of its context whose KV is there.
        self.written = 0
        self.computed = 0
        #: When the engine knows of it; whether a step has begun to read it.
        self.ready_ticks = 0
        self.joined = False
        #: Whether its first token was reported; when the next report of progress is due, or -1.
        self.told = False
        self.report_ticks = -1
        #: Whether it was stopped; whether it is in the running batch.
        self.gone = False
        self.running = False
        #: Blocks it holds alone, blocks it shares with what was kept, and that.
        self.own_blocks = 0
        self.shared_blocks = 0
        self.kept: Kept | None = None
        #: Its slot, for engines that have some.
        self.slot = -1

    @property
    def context(self) -> int:
        """Tokens of its prompt and its answer so far."""
        return self.prompt_tokens + self.written

    @property
    def missing(self) -> int:
        """Tokens of its context whose KV must be computed before it can write another."""
        return self.prompt_tokens + self.written - self.computed

    def __repr__(self) -> str:
        return f"EngineJob({self.name!r}, computed={self.computed}, written={self.written})"


@dataclass(slots=True)
class Batch:
    """What one step computes, or several equal ones in which everybody only writes."""

    #: Jobs that write one token.
    writing: list[EngineJob]
    #: Jobs that read, with the number of tokens they read; one that comes to the end of its
    #: context by that writes a token too.
    reading: list[tuple[EngineJob, int]]
    #: Steps that can follow one another before anything but lengths changes.
    steps: int = 1
    #: Sizes of the pieces in which the engine computes a step's tokens, where it has rules of
    #: its own for them.
    pieces: tuple[int, ...] = ()


class Batching(Protocol):
    """Who is in a step. All times are the engine's affair."""

    def add(self, job: EngineJob) -> None:
        """Take note of a job that has come; it waits."""
        ...

    def remove(self, job: EngineJob) -> None:
        """Drop a job that has finished or was stopped, running or waiting."""
        ...

    def plan(self) -> Batch | None:
        """What the step that begins now computes; None if there is nothing to do."""
        ...

    def grow(self, job: EngineJob, tokens: int) -> None:
        """Note that so many more tokens of a job's context are computed."""
        ...

    def is_full(self) -> bool:
        """Whether a job that comes now certainly has to wait until another one leaves."""
        ...

    def check(self, prompt_tokens: int, output_tokens: int) -> int:
        """The most a job may write here.

        Raises:
            ConfigError: Its prompt does not even fit.
        """
        ...
