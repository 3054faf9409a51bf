"""The scheduler's memory of chains: how far each is, where it ran, and which models it announces.

Owns the data, its bounds, and what falls due of it. `chaining` changes it when something happens
to a request of a chain. Part of `state`.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from slalom.core.chain import STEPS_MAX, Later, Link

if TYPE_CHECKING:
    from slalom.core.entities import RequestRecord

#: (key, name of the chain).
ChainName = tuple[str, str]
#: Expected calls that a model is told of.
_ANNOUNCED_MAX = 64
#: Stale deadlines below this number are never worth a rebuild.
_SLACK = 64


class Chain:
    """A chain that is not over."""

    __slots__ = (
        "admitted",
        "deadline_ns",
        "due_ns",
        "heard_ns",
        "live",
        "name",
        "over",
        "replicas",
        "rest",
        "step",
        "steps",
    )

    def __init__(self, name: ChainName, link: Link, now_ns: int) -> None:
        self.name = name
        self.deadline_ns = link.deadline_ns
        #: Highest call that has come, and calls in all (0 unknown).
        self.step = link.step
        self.steps = link.steps
        #: Whether a call of it has begun to run: none after it is refused for want of room.
        self.admitted = False
        #: model -> replica that answered the last call to it.
        self.replicas: dict[str, str] = {}
        #: What is expected to follow, and when the first of that should come, ns.
        self.rest: tuple[Later, ...] = link.rest[:STEPS_MAX]
        self.due_ns = now_ns
        #: Its requests that have not ended.
        self.live: dict[str, RequestRecord] = {}
        self.heard_ns = now_ns
        #: How it ended, if it did and some of its requests have not.
        self.over = ""

    def began(self, model: str, replica_id: str) -> None:
        """A call of it runs."""
        self.admitted = True
        self.replicas[model] = replica_id

    def expected(self) -> Iterator[tuple[str, int]]:
        """Models it is going to ask for, with the earliest time of each, ns."""
        seen: set[str] = set()
        at_ns = self.due_ns
        for place, later in enumerate(self.rest):
            at_ns += later.gap_ns if place else 0
            if later.model not in seen:
                seen.add(later.model)
                yield later.model, at_ns

    def __repr__(self) -> str:
        return f"Chain(step={self.step}/{self.steps}, live={len(self.live)})"


class ChainBook:
    """All chains that are not over, the one unheard of for longest first."""

    __slots__ = ("_announced", "_chains", "_deadlines")

    def __init__(self) -> None:
        self._chains: OrderedDict[ChainName, Chain] = OrderedDict()
        #: Heap of (deadline, name); those of chains that are over are dropped on sight.
        self._deadlines: list[tuple[int, ChainName]] = []
        #: model -> chain -> when it is expected to ask for it, ns.
        self._announced: dict[str, dict[ChainName, int]] = {}

    def __len__(self) -> int:
        return len(self._chains)

    def __repr__(self) -> str:
        return f"ChainBook(chains={len(self)})"

    def find(self, name: ChainName) -> Chain | None:
        """A chain that is not over."""
        return self._chains.get(name)

    def oldest(self) -> Chain | None:
        """The chain unheard of for longest."""
        return next(iter(self._chains.values()), None)

    def add(self, chain: Chain) -> None:
        """Remember a chain."""
        self._chains[chain.name] = chain
        if chain.deadline_ns >= 0:
            heapq.heappush(self._deadlines, (chain.deadline_ns, chain.name))
        if len(self._deadlines) > _SLACK + 2 * len(self._chains):
            self._deadlines = [
                (one.deadline_ns, name)
                for name, one in self._chains.items()
                if one.deadline_ns >= 0
            ]
            heapq.heapify(self._deadlines)

    def heard(self, chain: Chain, now_ns: int) -> None:
        """Something was heard of a chain."""
        chain.heard_ns = now_ns
        self._chains.move_to_end(chain.name)

    def remove(self, chain: Chain) -> list[str]:
        """Forget a chain; models whose announcements have changed."""
        del self._chains[chain.name]
        if not self._chains:
            self._deadlines.clear()
        return self.announce(chain, ())

    def announce(self, chain: Chain, rest: Sequence[Later]) -> list[str]:
        """A chain expects these calls from now on; models whose announcements have changed."""
        changed = {later.model: None for later in chain.rest}
        for model in changed:
            waits = self._announced.get(model)
            if waits is not None:
                waits.pop(chain.name, None)
                if not waits:
                    del self._announced[model]
        chain.rest = tuple(rest[:STEPS_MAX])
        for model, at_ns in chain.expected():
            changed[model] = None
            self._announced.setdefault(model, {})[chain.name] = at_ns
        return list(changed)

    def announced(self, model: str) -> tuple[int, ...]:
        """When chains are expected to ask for a model, ns, earliest first."""
        return tuple(sorted(self._announced.get(model, {}).values())[:_ANNOUNCED_MAX])

    def late(self, now_ns: int) -> Iterator[Chain]:
        """Chains whose deadline has passed; each is to be removed before the next is taken."""
        while self._deadlines and self._deadlines[0][0] < now_ns:
            at_ns, name = heapq.heappop(self._deadlines)
            chain = self._chains.get(name)
            if chain is not None and chain.deadline_ns == at_ns:
                yield chain

    def due_ns(self, idle_ns: int) -> int:
        """When the next chain falls due, by its deadline or by silence; call only if there is one.

        Args:
            idle_ns: Silence after which a chain is given up.
        """
        oldest = next(iter(self._chains.values()))
        due_ns = oldest.heard_ns + idle_ns
        return min(due_ns, self._deadlines[0][0] + 1) if self._deadlines else due_ns
