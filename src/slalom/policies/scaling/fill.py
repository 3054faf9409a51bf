"""`fill`: memory that nobody uses holds further replicas, of those models where they serve most.

Owns the sharing out of free memory among the models of a fleet, and the moving of a replica from
one model to another. Worth is what `replay` says of the requests of lately, as in `forecast`; but
memory that is there costs nothing, so that nothing leaves for being idle. It keeps no tally of
missed targets (docs/adr/0020-scaling.md).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slalom.core.request import ModelSpec
from slalom.core.sizing import Size, SizeView
from slalom.policies.scaling.by_count import size_of
from slalom.policies.scaling.replay import Call, calls_of, cost_of, mean_ns, worth_with
from slalom.units import SECOND, seconds_to_ns

_HOUR_NS = 3_600 * SECOND
#: Requests that one replay looks at, the last ones: more of them see a rise too late. And as many
#: as a move is to be judged by.
_REPLAYED = 96
_JUDGED_FROM = 16
#: So long after its first request a model is known.
_KNOWN_AFTER_NS = 10 * SECOND
#: A shorter span says nothing of a rate, and sees no queue: so much is replayed, if remembered.
_SPAN_MIN_NS = 10 * SECOND
#: What it is worth that one request less shares a replica with others, good answers.
_APART = 0.01
#: A move in one look is of one replica, or of one in so many where there are more.
_STRIDE = 8
#: Changes in one look, over all models.
_CHANGES_MAX = 64


@dataclass(frozen=True, slots=True)
class Fill:
    """`fill`: as many replicas as free memory holds, of the models where each serves most.

    Decides for models with a choice of devices; any other has replicas on demand. A replica goes
    where none of its model is, unless requests wait for a place. Where no memory is free, one moves
    from the model that loses least to the model that gains most, if that pays. No replica leaves
    because it is idle: others' needs drive it out, or its model's own limits of idling.
    """

    #: Good answers a minute that a move of one replica must gain, if not by its share.
    worth_per_minute: float = field(default=10.0, metadata={"gt": 0})
    #: The same as a share of what a replica answers at most; the smaller of the two holds.
    worth_share: float = field(default=0.25, metadata={"gt": 0})
    #: Requests that count as lately, s.
    window_s: float = field(default=60.0, metadata={"gt": 0})
    #: Changes of one model's size by moves, in any hour, at most.
    changes_per_hour: int = field(default=20, metadata={"ge": 2})
    #: Time between two changes of one model's size by moves, s.
    rest_s: float = field(default=15.0, metadata={"ge": 0})
    #: Between two looks, s.
    every_s: float = field(default=1.0, metadata={"gt": 0})

    @property
    def every_ns(self) -> int:
        """As the protocol says."""
        return seconds_to_ns(self.every_s)

    def concerns(self, spec: ModelSpec) -> bool:
        """Models that may have several replicas, on several devices."""
        return spec.replicas > 1 and len(spec.homes) > 1

    def size(self, model: SizeView, now_ns: int) -> Size:
        """As it is: only all models together say more."""
        return Size(size_of(model, 0))

    def sizes(self, models: Sequence[SizeView], now_ns: int) -> Mapping[str, Size]:
        """Share out what is free; else move one replica, if that pays."""
        since_ns = now_ns - seconds_to_ns(self.window_s)
        known = [
            _Known(model, since_ns, now_ns)
            for model in models
            if self.concerns(model.spec)
            and (model.up_count() > 1 or not model.sizing.is_quiet(since_ns))
        ]
        if not known:
            return {}
        self._share_evenly(known, models, since_ns)
        room = _Room(known)
        for _ in range(_CHANGES_MAX):
            best = max(known, key=lambda one: (room.has_for(one), one.gain, one.name))
            if not (room.has_for(best) and best.gain > 0.0):
                break
            room.take(best)
            best.size += 1
        self._move(known, now_ns)
        return {one.name: Size(one.size) for one in known}

    def _share_evenly(
        self, known: Sequence["_Known"], models: Sequence[SizeView], since_ns: int
    ) -> None:
        """Bound those that little is known of yet by what each model would have of equal parts.

        So that who is asked for first does not take what the others will need in a second. While
        all are new that bounds everybody: the parts of the others are kept.
        """
        own = [model for model in models if self.concerns(model.spec)]
        users = Counter(name for model in own for name in model.spec.homes)
        all_new = not any(one.model.sizing.is_older_than(since_ns) for one in known)
        settled = {one.name for one in known if one.is_known}
        awaited = {
            name
            for model in own
            if all_new and model.spec.id not in settled
            for name in model.spec.homes
        }
        for one in known:
            homes = one.model.spec.homes
            if not (one.is_known and awaited.isdisjoint(homes)):
                most = max(users[name] for name in homes)
                one.most = min(one.most, max(len(one.model.devices) // most, 1))

    def _move(self, known: Sequence["_Known"], now_ns: int) -> None:
        """Let replicas of some models make room for others."""
        able = [
            one for one in known
            if one.is_judged and one.size == one.was and self._is_rested(one, now_ns)
        ]  # fmt: skip
        for _ in range(_CHANGES_MAX):
            pairs = [
                (more.gain_per_minute - less.loss_per_minute, more.name, less.name, more, less)
                for more in able
                for less in able
                if more is not less
                and more.may_gain
                and less.may_give
                and more.could_take_from(less)
            ]
            if not pairs:
                return
            gained, _, _, more, less = max(pairs)
            if gained < min(self.worth_per_minute, self.worth_share * more.served_per_minute):
                return
            more.size += 1
            less.size -= 1

    def _is_rested(self, one: "_Known", now_ns: int) -> bool:
        sizing = one.model.sizing
        if sizing.changes_since(now_ns - seconds_to_ns(self.rest_s)):
            return False
        return sizing.changes_since(now_ns - _HOUR_NS) < self.changes_per_hour


class _Known:
    """A model in one look: its size as it is decided, and what a change is worth."""

    __slots__ = (
        "_calls",
        "_cost",
        "_span_ns",
        "_stride",
        "_worths",
        "is_judged",
        "is_known",
        "model",
        "most",
        "name",
        "size",
        "was",
    )

    def __init__(self, model: SizeView, since_ns: int, now_ns: int) -> None:
        self.model = model
        self.name = model.spec.id
        self.was = self.size = max(size_of(model, 0), 1)
        lately = [one for one in model.sizing.recent() if one.arrived_ns >= since_ns]
        newest = sum(one.arrived_ns >= now_ns - _SPAN_MIN_NS for one in lately)
        lately = lately[-max(_REPLAYED, newest) :]
        begin_ns = lately[0].arrived_ns if lately else now_ns
        self._span_ns = float(max(now_ns - begin_ns, _SPAN_MIN_NS))
        self._cost = cost = cost_of(model)
        self._calls: Sequence[Call] = (
            calls_of(lately, cost, 1.0, model.sizing) if cost is not None else ()
        )
        self._worths: dict[int, float] = {}
        #: By how many replicas it may grow or shrink at once.
        self._stride = max(self.was // _STRIDE, 1)
        #: Replicas that it may have at most.
        self.most = model.spec.replicas
        #: Whether it has been asked for long enough to share memory out by what was asked.
        self.is_known = not lately or model.sizing.is_older_than(now_ns - _KNOWN_AFTER_NS)
        whole = model.sizing.is_older_than(now_ns - 3 * _KNOWN_AFTER_NS)
        #: Whether enough is known of it to move anything.
        enough = len(self._calls) >= _JUDGED_FROM or model.sizing.is_older_than(since_ns)
        self.is_judged = not lately or (cost is not None and whole and enough)

    @property
    def gain(self) -> float:
        """What one replica more is worth; 0 where it may not have one.

        What the replay says, and a little for each that would not share a replica any more, so
        that what the replay thinks useless is not left lying where requests are side by side.
        """
        if self.size >= self.most:
            return 0.0
        lives = self.model.waiting_count + self.model.running_count()
        apart = _APART * max(lives / self.size - 1.0, 0.0)
        return self._worth(self.size + 1) - self._worth(self.size) + apart

    @property
    def gain_per_minute(self) -> float:
        """The same in good answers a minute."""
        return self.gain * 60 * SECOND / self._span_ns

    @property
    def loss_per_minute(self) -> float:
        """What one replica fewer would cost, good answers a minute."""
        lost = self._worth(self.size) - self._worth(self.size - 1)
        return lost * 60 * SECOND / self._span_ns

    @property
    def served_per_minute(self) -> float:
        """What one replica answers at most, all places taken; what it is asked says how long."""
        if not self._calls or self._cost is None:
            return float("inf")
        places = self.model.spec.places
        return 60 * SECOND / mean_ns(self._calls, self._cost, places) * places

    @property
    def may_gain(self) -> bool:
        """Whether it may grow by another one in this look, and gains by it."""
        return 0 <= self.size - self.was < self._stride and self.gain > 0.0

    @property
    def may_give(self) -> bool:
        """Whether it may lose another one in this look."""
        return 0 <= self.was - self.size < self._stride and self.size > 1

    @property
    def crowds(self) -> bool:
        """Whether requests wait and none of its replicas has a place."""
        model = self.model
        return model.waiting_count > 0 and not any(one.free_places > 0 for one in model.ready())

    def could_take_from(self, other: "_Known") -> bool:
        """Whether what a replica of the other one leaves is enough for one of this."""
        homes = {device.id: device.free_bytes for device in self.model.devices}
        spare = self.model.bytes_needed - other.model.bytes_needed
        return all(homes.get(name, -1) >= max(spare, 0) for name in other.model.standing_on())

    def _worth(self, size: int) -> float:
        spec = self.model.spec
        if not self._calls or self._cost is None:
            return 0.0
        found = self._worths.get(size)
        if found is None:
            found = worth_with(size, self._calls, self._cost, spec.places, self._span_ns)
            self._worths[size] = found
        return found


class _Room:
    """Free memory by device, as one look hands it out."""

    def __init__(self, known: Sequence[_Known]) -> None:
        self._free: dict[str, int] = {}
        self._standing = {one.name: dict(one.model.standing_on()) for one in known}
        for one in known:
            for device in one.model.devices:
                if device.free_bytes > 0 and not device.is_wanted:
                    self._free[device.id] = device.free_bytes
        for one in known:  # what was decided before and is not up yet
            for _ in range(one.size - one.model.up_count()):
                self.take(one)

    def has_for(self, one: _Known) -> bool:
        """Whether another replica of a model fits anywhere."""
        return one.size < one.most and bool(self._place(one))

    def take(self, one: _Known) -> None:
        """Book a replica of a model, if it fits."""
        place = self._place(one)
        if place:
            self._free[place] -= one.model.bytes_needed
            there = self._standing[one.name]
            there[place] = there.get(place, 0) + 1

    def _place(self, one: _Known) -> str:
        """The device with most free bytes that has no replica of the model; empty for none."""
        needed, there = one.model.bytes_needed, self._standing[one.name]
        crowds = one.crowds
        best, most = "", needed - 1
        for device in one.model.devices:
            free = self._free.get(device.id, -1)
            if free > most and (crowds or device.id not in there):
                best, most = device.id, free
        return best
