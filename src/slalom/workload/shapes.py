"""Arrivals whose rate changes, and arrivals made of single clients.

Owns processes beside those of `arrivals`: even gaps, batches at one time, a rate that follows a
shape (a day, a step), the sum of many clients of unequal weight that come and go. All keep
their long-run mean `rate_per_s`, so that they can be compared. Called by `load`.
"""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slalom.workload.arrivals import GammaArrivals, OnOffArrivals

#: Share of the day's mean rate in each hour of a coding weekday: a night at a tenth of the peak,
#: two peaks and a lunch dip between them. Ours, from 0.17 to 1.7.
CODING_DAY = (
    *(0.30, 0.24, 0.20, 0.17, 0.18, 0.24, 0.45, 0.80, 1.20, 1.55, 1.70, 1.68),
    *(1.35, 1.30, 1.60, 1.70, 1.66, 1.52, 1.30, 1.10, 0.98, 0.85, 0.68, 0.45),
)


@dataclass(frozen=True, slots=True)
class EvenArrivals:
    """One after the other with equal gaps, or `batch` at a time with gaps as much longer."""

    rate_per_s: float
    batch: int = 1

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """As the protocol says."""
        while True:
            yield self.batch / self.rate_per_s
            yield from itertools.repeat(0.0, self.batch - 1)


@dataclass(frozen=True, slots=True)
class ShapedArrivals:
    """Poisson or Gamma arrivals whose rate follows pieces of constant height, over and over.

    Drawn at a constant rate and then bent: time runs faster where the rate is higher.
    """

    rate_per_s: float
    #: (length in seconds, height); heights count relative to their own mean over time.
    pieces: Sequence[tuple[float, float]]
    burstiness: float = 1.0

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """As the protocol says."""
        span_s = sum(length for length, _ in self.pieces)
        area = sum(length * height for length, height in self.pieces)
        scale = self.rate_per_s * span_s / area
        pieces = itertools.cycle(self.pieces)
        left_s, height = next(pieces)
        for gap in GammaArrivals(1.0, self.burstiness).gaps_s(rng):
            work, waited_s = gap, 0.0
            while work > left_s * height * scale:
                work -= left_s * height * scale
                waited_s += left_s
                left_s, height = next(pieces)
            part_s = work / (height * scale)
            left_s -= part_s
            yield waited_s + part_s


def day(rate_per_s: float, day_s: float, burstiness: float = 1.0) -> ShapedArrivals:
    """A coding day squeezed into (or stretched over) `day_s` seconds, beginning at midnight."""
    hours = [(day_s / len(CODING_DAY), height) for height in CODING_DAY]
    return ShapedArrivals(rate_per_s, hours, burstiness)


@dataclass(frozen=True, slots=True)
class ClientArrivals:
    """The sum of clients that come and go, a few of which send most of the traffic.

    Client k of `clients` has weight 1/k^`skew`; each is a process of bursts of its own.
    """

    rate_per_s: float
    clients: int
    skew: float
    on_s: float
    off_s: float

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """As the protocol says."""
        weights = [1 / (rank + 1) ** self.skew for rank in range(self.clients)]
        total = sum(weights)
        each = [
            itertools.accumulate(
                OnOffArrivals(self.rate_per_s * weight / total, self.on_s, self.off_s).gaps_s(
                    random.Random(rng.getrandbits(64))
                )
            )
            for weight in weights
        ]
        before_s = 0.0
        for at_s in heapq.merge(*each):
            yield at_s - before_s
            before_s = at_s
