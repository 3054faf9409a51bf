"""Where a request stands in a chain of calls that share one deadline, and what is to follow it.

Owns the frozen data and the arithmetic that needs no predictor. Built by the gateway (live) and by
workloads (twin); part of `request.Request`. The scheduler's memory of chains is `chain_book`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from slalom.units import MS

#: Steps of one chain that anybody may name.
STEPS_MAX = 64
#: Rough figures for policies without a predictor: reading a prompt token, writing one.
_READ_NS = MS // 10
_WRITE_NS = 25 * MS


@dataclass(frozen=True, slots=True)
class Later:
    """A call that is expected after another one."""

    model: str
    task: str
    #: Of its prompt, as far as anybody can say before it is written.
    prompt_tokens: int
    #: Expected length of its answer, tokens.
    predicted_tokens: int
    #: Upper bound of its answer, tokens; 0 where nobody has said.
    max_tokens: int = 0
    #: Between the whole answer before it and its arrival: tools run, or a person reads, ns.
    gap_ns: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A request's place in its chain."""

    #: Name of the chain, opaque; one key's names are no other's.
    chain: str
    #: Which call it is, from 1 on.
    step: int = 1
    #: Calls in all; 0 where nobody knows.
    steps: int = 0
    #: When the last call must have its whole answer, ns of the scheduler's clock; -1 for no bound.
    deadline_ns: int = -1
    #: What follows if this call succeeds; of branches, the one that takes longest.
    rest: tuple[Later, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether nothing is to follow."""
        return 0 < self.steps <= self.step

    @property
    def has_deadline(self) -> bool:
        """Whether the chain has a deadline; its calls then have no objectives of their own."""
        return self.deadline_ns >= 0


def rough_rest_ns(rest: Iterable[Later]) -> int:
    """What calls that follow each other take, by rough figures, with the gaps before them."""
    return sum(
        one.gap_ns + one.prompt_tokens * _READ_NS + one.predicted_tokens * _WRITE_NS for one in rest
    )


def rough_latest_ns(link: Link) -> int:
    """When a call must have its whole answer so that the rest can follow, by rough figures."""
    return link.deadline_ns - rough_rest_ns(link.rest)
