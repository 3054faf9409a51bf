"""Scaling by counts: a fixed number, and Ray Serve's rule on what is ongoing.

Owns these two, and how long a wish must last before it is followed. Know nothing of time targets.
"""

from dataclasses import dataclass, field
from math import ceil

from slalom.core.sizing import UNSIZED, Size, SizeView
from slalom.units import seconds_to_ns


@dataclass(frozen=True, slots=True)
class Fixed:
    """`fixed`: so many replicas from the start, whatever is asked."""

    #: How many of each model; 0 for all that it may have.
    replicas: int = 0
    #: Between two looks, s.
    every_s: float = field(default=10.0, metadata={"gt": 0})

    @property
    def every_ns(self) -> int:
        """As the protocol says."""
        return seconds_to_ns(self.every_s)

    def size(self, model: SizeView, now_ns: int) -> Size:
        """That many, as far as it may."""
        return Size(min(self.replicas or model.spec.replicas, model.spec.replicas))


@dataclass(frozen=True, slots=True)
class RayQueue:
    """`ray-queue`: so many that each has `target_ongoing` requests, waiting ones included.

    Wanted are ceil(replicas x (1 + (ongoing / (target x replicas) - 1) x factor)); what is wanted
    is done once it has been wanted for as long as the delay of its direction.

    Source: the autoscaler of Ray Serve, with its defaults.
    """

    #: Requests that each replica is to have, waiting or running.
    target_ongoing: float = field(default=2.0, metadata={"gt": 0})
    #: How much of what is missing is added at a time.
    up_factor: float = field(default=1.0, metadata={"gt": 0})
    #: How much of what is too much is taken away at a time.
    down_factor: float = field(default=1.0, metadata={"gt": 0})
    #: How long more must be wanted, s.
    up_delay_s: float = field(default=30.0, metadata={"ge": 0})
    #: How long fewer must be wanted, s.
    down_delay_s: float = field(default=600.0, metadata={"ge": 0})
    #: Replicas that stay, whatever is asked.
    least: int = 1
    #: Between two looks, s.
    every_s: float = field(default=1.0, metadata={"gt": 0})

    @property
    def every_ns(self) -> int:
        """As the protocol says."""
        return seconds_to_ns(self.every_s)

    def size(self, model: SizeView, now_ns: int) -> Size:
        """What is wanted, once it has been wanted for long enough."""
        now = size_of(model, self.least)
        ongoing = model.waiting_count + model.running_count()
        if now == 0:
            wanted = 1 if ongoing else 0
        else:
            error = ongoing / (self.target_ongoing * now) - 1.0
            factor = self.up_factor if error > 0 else self.down_factor
            wanted = ceil(now * (1.0 + error * factor))
        wanted = min(max(wanted, self.least), model.spec.replicas)
        delay_s = self.up_delay_s if wanted > now else self.down_delay_s
        return after_delay(model, now, wanted, seconds_to_ns(delay_s), now_ns)


def size_of(model: SizeView, least: int) -> int:
    """The size as decided; before it was, what is up, and no less than may be."""
    size = model.sizing.size
    found = model.up_count() if size == UNSIZED else size
    return min(max(found, least), model.spec.replicas)


def after_delay(model: SizeView, now: int, wanted: int, delay_ns: int, now_ns: int) -> Size:
    """The wanted size if the wish for more, or fewer, is that old; else the present one.

    Args:
        model: Which.
        now: Its size.
        wanted: What is wanted.
        delay_ns: How old the wish must be.
        now_ns: The time.
    """
    leaning = (wanted > now) - (wanted < now)
    if not leaning:
        return Size(now)
    sizing = model.sizing
    since_ns = sizing.leaning_since_ns if sizing.leaning == leaning else now_ns
    if now_ns - since_ns >= delay_ns:
        return Size(wanted)
    return Size(now, leaning)
