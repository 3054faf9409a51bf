"""What an engine of the twin is to the world around it, and what is said of a job to it.

Owns the seam between `processes`, which holds engines, and the engine models, which know how fast
their jobs come along. Owns no law.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from slalom.twin.engine_model import Milestone

#: The name of a job.
J = TypeVar("J", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of a prompt that it shares with others: a session, a system prompt."""

    #: Prompts that share it give the same name.
    name: str
    #: How many tokens they have in common.
    tokens: int


class TwinEngine(Protocol[J]):
    """The jobs of one engine. Times come in order; `take_due` comes before `start` or `stop`."""

    def __len__(self) -> int:
        """Jobs that have not ended."""
        ...

    def __contains__(self, job: object) -> bool:
        """Whether a job has not ended."""
        ...

    def start(
        self,
        job: J,
        prompt_tokens: int,
        output_tokens: int,
        now_ns: int,
        prefix: Prefix | None = None,
        priority: int = 0,
    ) -> None:
        """Take a job on; it may still have to wait inside.

        Args:
            job: Its name, unique among those that have not ended.
            prompt_tokens: Tokens to read.
            output_tokens: Tokens it will write, at least 1.
            now_ns: Now.
            prefix: What it shares, for engines that keep what they have read.
            priority: The smaller the more urgent, for engines that heed it.
        """
        ...

    def stop(self, job: J, now_ns: int, keep_as: str = "") -> int:
        """End a job early; the tokens it had written. 0 for a job that has ended.

        Args:
            job: Its name.
            now_ns: Now.
            keep_as: Name of the prefix under which a job that goes on later finds what this one
                has read and written, for engines that keep any of it.
        """
        ...

    def slow_down(self, factor: int, now_ns: int) -> None:
        """Take `factor` times as long for whatever begins from now on."""
        ...

    def next_ns(self) -> int | None:
        """When something happens in it if nothing else is said to it; never in its past."""
        ...

    def take_due(self, now_ns: int) -> list[tuple[int, Milestone[J]]]:
        """The milestones reached up to now with their times, in order; the finished are gone."""
        ...
