"""What was measured of models: the words for it, and the arithmetic of what is remembered.

Owns the quantities, the tiers a model comes from, under what a measurement is found again, and
how a new figure is folded into the remembered ones. Keeps nothing: `store` does. Called by the
recorder, `slalom models` and whoever wants a model's cost.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

#: So many figures make the running mean; older ones fade.
WINDOW = 32


class Quantity(StrEnum):
    """What is measured. Times are nanoseconds, memory is bytes."""

    #: Start of a load to the replica's being ready.
    LOAD = "load"
    #: Start of a wake to the replica's being ready.
    WAKE = "wake"
    #: Dispatch to first token of the first request after a load or a wake.
    FIRST_TOKEN = "first_token"  # noqa: S105 - no password
    #: Resident memory of a replica that has worked, all its processes.
    MEMORY = "memory"
    #: The same with pages that several processes share divided among them.
    PROPORTIONAL = "proportional"
    #: Memory with every place's context full: the most it can take.
    MEMORY_FULL = "memory_full"
    #: Of memory: the model's files, mapped and resident.
    WEIGHTS = "weights"
    #: Of memory: what belongs to the process alone: KV cache, work buffers, heap.
    PRIVATE = "private"
    #: Of memory: the mapped program and its libraries.
    PROGRAM = "program"

    @property
    def is_time(self) -> bool:
        """Whether it is nanoseconds, not bytes."""
        return self in {Quantity.LOAD, Quantity.WAKE, Quantity.FIRST_TOKEN}


class Tier(StrEnum):
    """Where the weights were before."""

    #: On disk: little of the file was in the page cache.
    DISK = "disk"
    #: The file was in the page cache.
    PAGE_CACHE = "page_cache"
    #: The file was partly in the page cache, or nothing could tell.
    MIXED = "mixed"
    #: A sleeping replica's weights, in host memory (level 1).
    HOST = "host"
    #: A sleeping replica without weights (level 2).
    DROPPED = "dropped"
    #: On the device. Memory is measured here.
    RESIDENT = "resident"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a measurement depends on; anything else is another subject."""

    #: Identity of the model's files; see `identity`.
    model: str
    #: Kind of engine and its version.
    engine: str
    #: The machine's processors, and the device in the configuration's words.
    device: str
    #: The engine's options, as JSON.
    options: str
    #: The model's name when it was last measured; for people, not part of the key.
    name: str = ""

    @property
    def digest(self) -> str:
        """Short name of the key."""
        key = {field: value for field, value in asdict(self).items() if field != "name"}
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure."""

    quantity: Quantity
    tier: Tier
    #: Nanoseconds or bytes.
    value: int
    #: Unix time, seconds.
    at_s: float


@dataclass(frozen=True, slots=True)
class Statistic:
    """What is remembered of one quantity: the newest figures weigh as if there were `WINDOW`."""

    count: int
    mean: float
    variance: float
    low: int
    high: int
    last: int
    #: Unix time of the last one, seconds.
    at_s: float

    @property
    def spread(self) -> float:
        """Standard deviation, in the quantity's unit."""
        return math.sqrt(self.variance)

    def with_figure(self, value: int, at_s: float) -> "Statistic":
        """The same with one more figure."""
        weight = 1.0 / min(self.count + 1, WINDOW)
        away = value - self.mean
        return Statistic(
            count=self.count + 1,
            mean=self.mean + weight * away,
            variance=(1.0 - weight) * (self.variance + weight * away * away),
            low=min(self.low, value),
            high=max(self.high, value),
            last=value,
            at_s=max(self.at_s, at_s),
        )


def first_figure(value: int, at_s: float) -> Statistic:
    """The statistic of one figure."""
    return Statistic(1, float(value), 0.0, value, value, value, at_s)


Known = Mapping[tuple[Quantity, Tier], Statistic]


def expected_ns(known: Known, quantity: Quantity, tiers: Iterable[Tier]) -> int:
    """The mean in the first of these tiers that was measured, ns; 0 where none was."""
    for tier in tiers:
        if (quantity, tier) in known:
            return max(round(known[quantity, tier].mean), 1)
    return 0


def memory_bytes(known: Known) -> int:
    """The most that a replica was seen to take, bytes; 0 where none was measured."""
    seen = (known.get((name, Tier.RESIDENT)) for name in (Quantity.MEMORY, Quantity.MEMORY_FULL))
    return max((figure.high for figure in seen if figure), default=0)


def booked_bytes(known: Known, *, estimated: int, work: int) -> int:
    """What the ledger is to book for a replica, bytes; 0 where nothing was measured.

    What a replica took while all its places were full is all it can take. One that was only seen
    at lighter work may still grow by the buffers it has not touched, though no further than was
    estimated.

    Args:
        known: What is remembered.
        estimated: Bytes of one replica at its fullest, from its file.
        work: Of that: buffers that grow with the context in use.
    """
    seen = memory_bytes(known)
    if not seen or (Quantity.MEMORY_FULL, Tier.RESIDENT) in known:
        return seen
    return max(seen, min(estimated, seen + work))


def last_measured_s(known: Known) -> float:
    """Unix time of the newest figure, seconds; 0 where there is none."""
    return max((statistic.at_s for statistic in known.values()), default=0.0)
