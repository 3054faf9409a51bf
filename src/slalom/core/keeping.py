"""The seam of keepers: residency policies that learn from traffic, weigh a need, and say why.

Owns what a keeper is told, the need it weighs its candidates against, and the selection it answers
with. Implementations live in `slalom.policies`; `residency` asks and books the bytes. A keeper
keeps what it learned and nothing else, so that a journal replays. A simple `Residency` policy
becomes one through `Plain`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from slalom.core.actions import Candidate
from slalom.core.planning import Observation
from slalom.core.policy import ReplicaView, Residency
from slalom.core.request import DeviceSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class Need:
    """What memory is wanted for."""

    #: The model to bring up; None where the budget is overrun and no model asks.
    spec: ModelSpec | None
    #: Bytes to free, > 0.
    shortfall_bytes: int
    #: When the need arose.
    since_ns: int = 0
    #: What bringing it up is expected to take, ns; 0 where nobody knows.
    takes_ns: int = 0
    #: Requests that wait for it.
    waiting_count: int = 0
    #: Its patience is over: busy replicas, and those of models that are waited for, are offered.
    urgent: bool = False
    #: It has waited for as long as any need may: who holds it back now is overruled.
    overdue: bool = False
    #: It is for a model that is to be up in any case.
    pinned: bool = False
    #: The model sleeps: it would be woken, not loaded.
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """A keeper's answer."""

    #: Those that give way; none if the need is to wait.
    victims: Sequence[ReplicaView] = ()
    #: What it thought of the candidates it looked at.
    scores: tuple[Candidate, ...] = ()
    #: Ask again then, if nothing has happened before; -1 for no need.
    look_ns: int = -1


@dataclass(frozen=True, slots=True)
class Bed:
    """How a victim rests where host memory is short."""

    #: 1 in host memory, 2 without its weights, 0 not at all: it ends.
    level: int
    #: Sleepers that end so that it has room at level 1.
    dropped: Sequence[ReplicaView] = ()


#: Nobody gives way.
NOBODY = Selection()


@dataclass(frozen=True, slots=True)
class Absent:
    """A model that is not up and that nobody waits for."""

    spec: ModelSpec
    #: What bringing it up books.
    needed_bytes: int
    #: What that is expected to take, ns; 0 where nobody knows.
    takes_ns: int = 0
    #: When chains are expected to ask for it, ns, earliest first.
    announced: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Ahead:
    """What comes up before it is asked for."""

    #: Empty for nothing.
    model_id: str = ""
    #: Idle replicas that are worth less and give way to it; none where it fits beside them.
    victims: Sequence[ReplicaView] = ()
    #: What was thought of those, in the same measure as what is gained.
    scores: tuple[Candidate, ...] = ()
    gain: float = 0.0
    #: Ask again then; -1 for no need.
    look_ns: int = -1


@runtime_checkable
class LooksAhead(Protocol):
    """A keeper that can tell what will be asked for."""

    #: Whether it is to be asked.
    looks_ahead: bool

    def ahead(
        self,
        absent: Sequence[Absent],
        idle: Sequence[ReplicaView],
        free_bytes: int,
        now_ns: int,
    ) -> Ahead:
        """The model that is worth most to have up before it is asked for.

        Args:
            absent: Those that were asked for last, the last one first.
            idle: Replicas that may give way, least recently used first.
            free_bytes: Of the device.
            now_ns: Now.
        """
        ...


class Keeper(Protocol):
    """Chooses what gives way, for one scheduler."""

    #: Whether it may hold a need back that could be met: younger needs are then looked at too.
    holds: bool
    #: Whether it says which sleepers are worth their host memory; else recency decides.
    weighs_sleepers: bool

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Learn from an arrival, a start, told tokens, or an attempt's end."""
        ...

    def select(self, candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
        """Replicas whose bytes cover the need.

        Args:
            candidates: Those the core allows to go, least recently used first; idle ones come
                before busy ones, and busy ones will be drained.
            need: What they give way to.
            now_ns: Now.
        """
        ...

    def drop(
        self,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView]:
        """Sleepers that end because a model needs so many bytes of host memory, > 0.

        Asked only where `weighs_sleepers`, and so is `bed`.
        """
        ...

    def bed(
        self,
        newcomer: ReplicaView,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Bed:
        """How a victim rests for which host memory is short by so many bytes, > 0.

        Args:
            newcomer: The victim.
            sleepers: Those that may be dropped.
            shortfall_bytes: Bytes of host memory to free, > 0.
            now_ns: Now.
        """
        ...


@runtime_checkable
class Keeping(Protocol):
    """A keeper's options: what stands in the `residency` slot."""

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper that has seen nothing yet."""
        ...


class Plain:
    """A policy that looks at its candidates and nothing else, as a keeper.

    Args:
        policy: The policy.
    """

    holds = False
    weighs_sleepers = False

    def __init__(self, policy: Residency) -> None:
        self._policy = policy

    def __repr__(self) -> str:
        return f"Plain({self._policy!r})"

    def observe(self, seen: Observation, now_ns: int) -> None:
        """Nothing to learn."""

    def select(self, candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
        """As the policy says."""
        victims = self._policy.victims(candidates, need.shortfall_bytes, now_ns)
        return Selection(victims) if victims else NOBODY

    def drop(
        self,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Sequence[ReplicaView]:
        """All of them: recency decides elsewhere, and this is never asked."""
        return sleepers

    def bed(
        self,
        newcomer: ReplicaView,
        sleepers: Sequence[ReplicaView],
        shortfall_bytes: int,
        now_ns: int,
    ) -> Bed:
        """Level 1, as `drop` says."""
        return Bed(1, self.drop(sleepers, shortfall_bytes, now_ns))


def first_that_suffice(
    candidates: Iterable[ReplicaView], shortfall_bytes: int
) -> Sequence[ReplicaView]:
    """The shortest run of candidates whose bytes cover a shortfall; empty if all do not."""
    chosen: list[ReplicaView] = []
    freed = 0
    for one in candidates:
        if one.freed_bytes:
            chosen.append(one)
            freed += one.freed_bytes
        if freed >= shortfall_bytes:
            return chosen
    return ()
