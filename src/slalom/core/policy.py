"""The seams where policies decide: single-method protocols over read-only views.

Owns the views and the protocols; implementations live in `slalom.policies`. A policy is a pure
function of its view and `now_ns`: it never logs, mutates or keeps hidden state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from slalom.core.actions import Reason
from slalom.core.planning import Planning, RouteView
from slalom.core.request import ModelSpec, Request
from slalom.core.sizing import OnDemand, Scaling

if TYPE_CHECKING:
    from slalom.core.keeping import Keeping


class RequestView(Protocol):
    """A waiting request."""

    @property
    def request(self) -> Request:
        """Its sizes, task and objectives."""
        ...

    @property
    def queued_ns(self) -> int:
        """When the scheduler first heard of it."""
        ...

    @property
    def near(self) -> str:
        """Replica that answered an earlier call of its chain to the same model; empty for none."""
        ...

    @property
    def admitted(self) -> bool:
        """Whether an earlier call of its chain was let in: the chain is let in as a whole."""
        ...


class ReplicaView(Protocol):
    """A replica."""

    @property
    def id(self) -> str:
        """Its name, stable over its lives."""
        ...

    @property
    def model_id(self) -> str:
        """The model it holds."""
        ...

    @property
    def free_places(self) -> int:
        """Attempts it could take now."""
        ...

    @property
    def running_count(self) -> int:
        """Attempts it holds, also those being aborted."""
        ...

    @property
    def booked_bytes(self) -> int:
        """What its device's ledger pays for it."""
        ...

    @property
    def freed_bytes(self) -> int:
        """What comes free if it gives way: less than that where it sleeps instead of ending."""
        ...

    @property
    def last_used_ns(self) -> int:
        """Last dispatch to it or end on it; when it became ready if never used."""
        ...

    @property
    def ready_ns(self) -> int:
        """When its last load or wake ended."""
        ...

    @property
    def host_bytes(self) -> int:
        """What host memory's ledger pays for it: only while it sleeps there."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """What its model needs."""
        ...

    @property
    def waiting_count(self) -> int:
        """Requests that wait for its model."""
        ...

    @property
    def sleeps(self) -> bool:
        """Whether it would sleep, if it gave way now, instead of ending."""
        ...

    @property
    def load_ns(self) -> int:
        """What bringing it up again is expected to take if it ends, ns; 0 if nobody knows."""
        ...

    @property
    def wake_ns(self) -> int:
        """The same if it sleeps, or as it sleeps."""
        ...

    @property
    def deep_wake_ns(self) -> int:
        """The same if it sleeps at level 2 for want of host memory; 0 if it could not."""
        ...

    @property
    def announced(self) -> Sequence[int]:
        """When chains are expected to ask for its model, ns, earliest first; a bounded number."""
        ...


class Named(Protocol):
    """A replica as far as naming it goes."""

    @property
    def id(self) -> str:
        """Its name, stable over its lives."""
        ...


class ModelView(Protocol):
    """A model with its replicas and its queue."""

    @property
    def spec(self) -> ModelSpec:
        """What a replica needs and takes."""
        ...

    @property
    def waiting_count(self) -> int:
        """Requests that wait for it."""
        ...

    def most_free(self) -> ReplicaView | None:
        """The ready replica with most free places, longest in that state; None if all are full."""
        ...

    def least_free(self) -> ReplicaView | None:
        """The fullest ready replica that still has a free place; None if all are full."""
        ...

    def ready(self) -> Sequence[RouteView]:
        """Its ready replicas, by name, full ones too."""
        ...

    @property
    def start_count(self) -> int:
        """Attempts begun so far on all its replicas."""
        ...

    def reader(self, prefix: str) -> str:
        """The replica that was last given a prompt with this prefix; empty if nobody knows."""
        ...


class Verdict(StrEnum):
    """What admission says of the request at the head of its queue."""

    ADMIT = "admit"
    #: Not now; asked again when an attempt on the model or its device ends.
    HOLD = "hold"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """An admission verdict with its reason."""

    verdict: Verdict
    reason: Reason = Reason.NONE


class Admission(Protocol):
    """Decides whether the head of a queue runs now, waits, or is refused."""

    def decide(self, request: RequestView, model: ModelView, now_ns: int) -> Decision:
        """The verdict for `request`, given a ready replica with a free place."""
        ...


@runtime_checkable
class Ordering(Protocol):
    """Orders the queue of each model, and models that share a device.

    A planner that has this method too orders the queue by itself, whatever the slot holds.
    """

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """Smaller runs first; computed once, when the request is queued.

        Ties are broken by arrival and id. Must grow without bound with the arrival time, so
        that every request is overtaken by finitely many later ones (bounded waiting).
        """
        ...


class Residency(Protocol):
    """Chooses which replicas give way to a model that needs memory."""

    def victims(
        self, candidates: Iterable[ReplicaView], shortfall_bytes: int, now_ns: int
    ) -> Sequence[ReplicaView] | None:
        """Replicas whose bytes cover the shortfall, or None to wait.

        Args:
            candidates: Those the core allows to go, least recently used first; idle ones
                come before busy ones, and busy ones will be drained.
            shortfall_bytes: Bytes to free, > 0.
            now_ns: Now.
        """
        ...


class Routing(Protocol):
    """Chooses the replica of a model."""

    def pick(self, request: RequestView, model: ModelView, now_ns: int) -> Named | None:
        """A replica with a free place, or None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Policies:
    """One policy for each slot."""

    #: Heads one by one, or a planner for all that waits; a planner orders and routes by itself.
    admission: Admission | Planning
    ordering: Ordering
    #: Candidates alone, or a keeper that learns.
    residency: "Residency | Keeping"
    routing: Routing
    #: How many replicas models have.
    scaling: Scaling = field(default_factory=OnDemand)
