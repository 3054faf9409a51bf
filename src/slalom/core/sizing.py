"""How many replicas a model is to have, and what is remembered so that this can be judged.

Owns the seam of scaling policies (what they see, what they answer) and the data behind it: the
number decided, when it changed, which way the policy leans, and what was asked lately. Part of
`state`; `resizing` asks and acts. Implementations live in `slalom.policies`.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from slalom.core.planning import RouteView
from slalom.core.request import ModelSpec, Request
from slalom.units import SECOND

#: Requests that are remembered of a model, and changes of its size.
_RECENT_MAX = 256
_CHANGES_MAX = 64
#: A day, and the part of it whose arrivals are counted together.
_DAY_NS = 86_400 * SECOND
_PART_NS = 900 * SECOND
_PARTS = _DAY_NS // _PART_NS
#: The part of a day before is believed within these factors.
_FACTOR_MIN, _FACTOR_MAX = 0.25, 4.0
#: Arrivals of a part below which it says nothing.
_SAYS_MIN = 8.0
#: Tasks whose lengths are remembered, and what an answer counts after the next one.
_TASKS_MAX = 64
_KEPT = 0.97
#: Nobody decides: as many replicas as are asked for.
UNSIZED = -1


class Sizing:
    """What is decided and remembered of one model's size."""

    __slots__ = (
        "_changes",
        "_counts",
        "_first_ns",
        "_part",
        "_recent",
        "_tokens",
        "_told",
        "leaning",
        "leaning_since_ns",
        "size",
    )

    def __init__(self) -> None:
        #: Replicas that it is to have; `UNSIZED` where nobody decides.
        self.size = UNSIZED
        #: Whether the policy would have more (1), fewer (-1) or as many, and since when.
        self.leaning = 0
        self.leaning_since_ns = -1
        self._changes: deque[int] = deque(maxlen=_CHANGES_MAX)
        self._recent: deque[Request] = deque(maxlen=_RECENT_MAX)
        self._first_ns = -1
        #: Tokens of the last answers, by request; and by task what was predicted and what came.
        self._tokens: OrderedDict[str, int] = OrderedDict()
        self._told: dict[str, tuple[float, float]] = {}
        #: Arrivals by part of the day, and the part that is being counted, from time 0.
        self._counts = [0.0] * (_PARTS + 1)
        self._part = 0

    def __repr__(self) -> str:
        return f"Sizing(size={self.size}, leaning={self.leaning})"

    def resize(self, size: int, now_ns: int) -> None:
        """It is to have so many from now on."""
        if self.size != UNSIZED:
            self._changes.append(now_ns)
        self.size = size

    def lean(self, leaning: int, now_ns: int) -> None:
        """The policy leans that way now."""
        if leaning != self.leaning:
            self.leaning, self.leaning_since_ns = leaning, now_ns

    def arrived(self, request: Request, now_ns: int) -> None:
        """Remember a request."""
        self._recent.append(request)
        if self._first_ns < 0:
            self._first_ns = request.arrived_ns
        self._count_to(now_ns)
        self._counts[-1] += 1.0

    def answered(self, request: Request, tokens: int) -> None:
        """An answer is whole and has so many tokens: that is how long it was, whatever was said."""
        self._tokens[request.id] = tokens
        if len(self._tokens) > _RECENT_MAX:
            self._tokens.popitem(last=False)
        told = self._told.pop(request.task, (0.0, 0.0))
        if len(self._told) >= _TASKS_MAX:
            del self._told[next(iter(self._told))]
        predicted, written = (total * _KEPT for total in told)
        self._told[request.task] = (predicted + request.predicted_tokens, written + tokens)

    def tokens_of(self, request: Request) -> float:
        """How long an answer was; of one that is not there, what its task's mostly come to."""
        found = self._tokens.get(request.id)
        if found is not None:
            return float(found)
        predicted, written = self._told.get(request.task, (0.0, 0.0))
        return request.predicted_tokens * (written / predicted if predicted else 1.0)

    def changes_since(self, at_ns: int) -> int:
        """Changes of the size after a time; at most 64 are known."""
        return sum(one > at_ns for one in self._changes)

    def recent(self) -> Sequence[Request]:
        """The last requests, oldest first; at most 256."""
        return self._recent

    def is_quiet(self, since_ns: int) -> bool:
        """Whether nothing was asked since a time."""
        return not self._recent or self._recent[-1].arrived_ns < since_ns

    def is_older_than(self, at_ns: int) -> bool:
        """Whether something was asked before a time, ever."""
        return 0 <= self._first_ns < at_ns

    def day_factor(self, now_ns: int, ahead_ns: int) -> float:
        """How many times as many are to come that much later, as it was on days before; else 1."""
        now_part = now_ns // _PART_NS
        part = (now_ns + ahead_ns) // _PART_NS
        if part == now_part or now_ns < _DAY_NS:
            return 1.0
        before, then = self._counts[now_part % _PARTS], self._counts[part % _PARTS]
        if before < _SAYS_MIN:
            return 1.0
        return min(max(then / before, _FACTOR_MIN), _FACTOR_MAX)

    def _count_to(self, now_ns: int) -> None:
        """Close the parts of the day that are over; each is a mean over the days so far."""
        part = now_ns // _PART_NS
        steps = min(part - self._part, _PARTS)
        for number in range(part - steps, part):
            place = number % _PARTS
            counted = self._counts[-1] if number == self._part else 0.0
            before = self._counts[place] if number >= _PARTS else counted
            self._counts[place] = (before + counted) / 2.0
        if steps:
            self._counts[-1] = 0.0
        self._part = part


class RoomView(Protocol):
    """A device as a scaling policy sees it."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def free_bytes(self) -> int:
        """Bytes that nothing has booked."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether a model waits for its first replica to come up there."""
        ...


class SizeView(Protocol):
    """A model as a scaling policy sees it."""

    @property
    def devices(self) -> Sequence[RoomView]:
        """Those that may hold a replica, most preferred first."""
        ...

    @property
    def bytes_needed(self) -> int:
        """What a replica books."""
        ...

    def standing_on(self) -> Mapping[str, int]:
        """How many of its replicas are on each device that has any, leaving ones too."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """What a replica needs and takes; `replicas` is the most it may have."""
        ...

    @property
    def sizing(self) -> Sizing:
        """What was decided and is remembered; not to be changed by who looks."""
        ...

    @property
    def waiting_count(self) -> int:
        """Requests that wait for it."""
        ...

    @property
    def load_ns(self) -> int:
        """What bringing up a replica is expected to take, ns; 0 where nobody knows."""
        ...

    def running_count(self) -> int:
        """Attempts on all its replicas."""
        ...

    def up_count(self) -> int:
        """Replicas that serve, or come up."""
        ...

    def ready(self) -> Sequence[RouteView]:
        """Its ready replicas, by name."""
        ...

    def waiting_requests(self, limit: int) -> Sequence[Request]:
        """Up to `limit` waiting requests, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Size:
    """A scaling policy's answer."""

    #: Replicas to have from now on; clamped to what the model may have, and to one while any of
    #: its requests lives.
    replicas: int
    #: Whether it would have more (1) or fewer (-1) and only waits: it is then asked again, even
    #: when nothing happens.
    leaning: int = 0


class Scaling(Protocol):
    """Decides how many replicas each model has."""

    @property
    def every_ns(self) -> int:
        """Time between two questions; 0 for never: as many as are asked for."""
        ...

    def size(self, model: SizeView, now_ns: int) -> Size:
        """How many replicas a model is to have."""
        ...


@runtime_checkable
class Fleetwide(Protocol):
    """A scaling policy that looks at all models at once."""

    def sizes(self, models: Sequence[SizeView], now_ns: int) -> Mapping[str, Size]:
        """How many replicas these models are to have; those not named are left alone."""
        ...

    def concerns(self, spec: ModelSpec) -> bool:
        """Whether it would ever decide for such a model: where it does for none, nobody asks."""
        ...


@dataclass(frozen=True, slots=True)
class OnDemand:
    """`on-demand`: another replica while requests wait and none has a place; none leaves by itself.

    A replica leaves when others need its memory, or when its model's own limits of idling say so.
    """

    @property
    def every_ns(self) -> int:
        """It is never asked."""
        return 0

    def size(self, model: SizeView, now_ns: int) -> Size:
        """As it is."""
        return Size(model.up_count())
