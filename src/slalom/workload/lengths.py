"""How long prompts and answers are: laws that one draw each is taken from.

Owns the laws; a law sees the prompt's length, because an answer's may follow from it. Published
distributions come in as quantile tables of our own making, never as data. Called by `load`.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol


class LengthLaw(Protocol):
    """A distribution of lengths, tokens."""

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """One length, at least 1.

        Args:
            rng: Where the draw comes from.
            prompt_tokens: Tokens of the request's prompt; 0 while that itself is drawn.
        """
        ...

    def mean(self, prompt_tokens: float) -> float:
        """Expected length, tokens; used to size things, not to draw."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLength:
    """Always the same."""

    tokens: int

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """As the protocol says."""
        return self.tokens

    def mean(self, prompt_tokens: float) -> float:
        """As the protocol says."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class UniformLength:
    """Evenly from a range, both ends included."""

    low: int
    high: int

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """As the protocol says."""
        return rng.randint(self.low, self.high)

    def mean(self, prompt_tokens: float) -> float:
        """As the protocol says."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class QuantileLength:
    """An empirical distribution: between two known quantiles lengths grow geometrically.

    `points` are (per cent, tokens), both ascending, from 0 to 100.
    """

    points: Sequence[tuple[float, float]]

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """As the protocol says."""
        return max(1, round(self._at(rng.random() * 100)))

    def mean(self, prompt_tokens: float) -> float:
        """As the protocol says."""
        total = 0.0
        for (below, low), (above, high) in pairwise(self.points):
            # The mean of a geometric path from low to high.
            span = math.log(high / low) if high > low else 0.0
            total += (above - below) / 100 * ((high - low) / span if span else low)
        return total

    def _at(self, share: float) -> float:
        for (below, low), (above, high) in pairwise(self.points):
            if share <= above:
                part = (share - below) / (above - below) if above > below else 0.0
                return low * math.exp(part * math.log(high / low))
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class LogNormalLength:
    """A median and a spread on the logarithmic scale, cut at `most`."""

    median: float
    sigma: float
    most: int

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """As the protocol says."""
        drawn = self.median * math.exp(rng.gauss(0, self.sigma))
        return min(max(1, round(drawn)), self.most)

    def mean(self, prompt_tokens: float) -> float:
        """As the protocol says."""
        return min(self.median * math.exp(self.sigma**2 / 2), self.most)


@dataclass(frozen=True, slots=True)
class RatioLength:
    """So many times the prompt, give or take: translations and rewrites."""

    ratio: float
    #: Spread of the ratio on the logarithmic scale.
    sigma: float
    most: int

    def draw(self, rng: random.Random, prompt_tokens: int) -> int:
        """As the protocol says."""
        drawn = prompt_tokens * self.ratio * math.exp(rng.gauss(0, self.sigma))
        return min(max(1, round(drawn)), self.most)

    def mean(self, prompt_tokens: float) -> float:
        """As the protocol says."""
        return min(prompt_tokens * self.ratio * math.exp(self.sigma**2 / 2), self.most)
