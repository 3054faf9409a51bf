"""When requests arrive: Poisson, Gamma-distributed gaps, on/off bursts.

Owns the processes and the drawing of arrival times. A process is described by its long-run mean
rate, so that processes of different burstiness offer the same load. Called by `plan`, the demo and
the benchmarks.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from slalom.units import SECOND
from slalom.workload.streams import stream


class ArrivalProcess(Protocol):
    """A stationary stream of arrivals."""

    @property
    def rate_per_s(self) -> float:
        """Long-run mean, requests per second."""
        ...

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """Times between arrivals, seconds, without end; the first counts from the start."""
        ...


@dataclass(frozen=True, slots=True)
class GammaArrivals:
    """Gaps from a Gamma distribution.

    `burstiness` is its shape, as in vLLM's benchmark: 1 is Poisson, below 1 burstier, above 1
    more even. The gaps' coefficient of variation is 1/sqrt(burstiness).
    """

    rate_per_s: float
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: A number is not positive.
        """
        if self.rate_per_s <= 0 or self.burstiness <= 0:
            raise ValueError(
                f"rate_per_s {self.rate_per_s} and burstiness {self.burstiness} must be positive"
            )

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """As the protocol says."""
        scale = 1.0 / (self.rate_per_s * self.burstiness)
        while True:
            yield rng.gammavariate(self.burstiness, scale)


def poisson(rate_per_s: float) -> GammaArrivals:
    """Independent arrivals: exponential gaps."""
    return GammaArrivals(rate_per_s)


@dataclass(frozen=True, slots=True)
class OnOffArrivals:
    """Bursts: Poisson arrivals while on, none while off; both spans exponential.

    While on, the rate is `rate_per_s` x (`on_s` + `off_s`) / `on_s`, which keeps the mean.
    """

    rate_per_s: float
    #: Mean length of a burst and of a silence, seconds.
    on_s: float = 2.0
    off_s: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: A number is not positive, or `off_s` negative.
        """
        if self.rate_per_s <= 0 or self.on_s <= 0 or self.off_s < 0:
            raise ValueError(
                f"rate_per_s {self.rate_per_s} and on_s {self.on_s} must be positive, "
                f"off_s {self.off_s} not negative"
            )

    def gaps_s(self, rng: random.Random) -> Iterator[float]:
        """As the protocol says."""
        burst_rate = self.rate_per_s * (self.on_s + self.off_s) / self.on_s
        left_s = rng.expovariate(1 / self.on_s)
        waited_s = 0.0
        while True:
            gap_s = rng.expovariate(burst_rate)
            # Memoryless: what is left of a gap after a silence is a fresh gap.
            while gap_s > left_s:
                waited_s += left_s
                if self.off_s:
                    waited_s += rng.expovariate(1 / self.off_s)
                left_s = rng.expovariate(1 / self.on_s)
                gap_s = rng.expovariate(burst_rate)
            left_s -= gap_s
            yield waited_s + gap_s
            waited_s = 0.0


def arrival_times_ns(
    process: ArrivalProcess, count: int, *, seed: int, name: str = "arrivals"
) -> list[int]:
    """The first `count` arrival times of a process, ns from the start, ascending.

    Args:
        process: Its kind and rate.
        count: How many.
        seed: Of the run.
        name: Of the random stream; two names give independent arrivals.
    """
    gaps = process.gaps_s(stream(seed, name))
    times_s = itertools.accumulate(itertools.islice(gaps, count))
    return [round(time_s * SECOND) for time_s in times_s]
