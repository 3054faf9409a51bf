"""What people asked of a model beyond its requests: to be up, to stay, to go when nobody needs it.

Owns the data. `asking` takes wishes in, `lapsing` ends them and acts on idle models, `residency`
heeds them. Part of `state`.
"""

from dataclasses import dataclass

from slalom.core.events import Ask
from slalom.core.request import Request, Swap


@dataclass(frozen=True, slots=True)
class StandingAsk:
    """A load or a wake that was asked for and has not come about."""

    what: Ask
    #: Of the `ModelAsked` that it answers; empty for a preload.
    ask_id: str
    #: Told to have failed then.
    until_ns: int
    swap: Swap = Swap.NORMAL


class Wishes:
    """The wishes of one model."""

    __slots__ = ("ask", "due_ns", "kept_until_ns", "leaves_ns", "limited", "pinned")

    def __init__(self, *, pinned: bool) -> None:
        #: Never gives way.
        self.pinned = pinned
        #: It is to be up though no request waits for it.
        self.ask: StandingAsk | None = None
        #: Gives way only to a need that is overdue before then.
        self.kept_until_ns = -1
        #: Leaves then if idle, because its last request said so; -1 if it said nothing.
        self.leaves_ns = -1
        #: When to look again at what stands here, or -1.
        self.due_ns = -1
        #: Waiting requests that may not swap as they like, by id.
        self.limited: dict[str, Swap] = {}

    @property
    def stays(self) -> bool:
        """Whether it is to be up without any request."""
        return self.pinned or self.ask is not None

    def limit(self, request: Request, least: Swap) -> None:
        """A request joins its queue; `least` is what the model allows."""
        swap = strictest(request.allow_swap, least)
        if swap is not Swap.NORMAL:
            self.limited[request.id] = swap

    def swap(self, waiting_count: int) -> Swap:
        """The most that any of those who want it may do to others."""
        if self.pinned or waiting_count > len(self.limited):
            return Swap.NORMAL
        allowed = list(self.limited.values())
        if self.ask is not None:
            allowed.append(self.ask.swap)
        return min(allowed, key=_STRICTNESS.__getitem__, default=Swap.NORMAL)


_STRICTNESS = {Swap.NORMAL: 0, Swap.IDLE: 1, Swap.NEVER: 2}


def strictest(one: Swap, other: Swap) -> Swap:
    """The one that allows less."""
    return max(one, other, key=_STRICTNESS.__getitem__)
