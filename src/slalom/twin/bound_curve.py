"""How fast an engine can be at best: tokens per second against the number that run.

Owns the curve and the straight lines that lie above it. Owns no engine and no search: curves are
made in `bound_engine`. Everything here errs on the fast side: it is read by `bound_rows`, whose
result must be an upper bound; `bound_clock` uses it as a forecast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from slalom.units import SECOND

#: More lines than this do not make the hull visibly tighter.
_LINES_MAX = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line above the curve: tokens/s <= `idle_per_s` + `each_per_s` x running."""

    idle_per_s: float
    each_per_s: float


@dataclass(frozen=True)
class RateCurve:
    """The speed of one replica.

    Args:
        speeds: Tokens per second of each of n running attempts, for n = 1 … places. Entry n
            must not be below what the engine can do with n *or more* attempts: `curve_of_steps`
            sees to that.
        first_tokens: Tokens to write after the prompt was read until the first one is there: 1,
            or 0 where reading the prompt ends with the first token.
        token_s: Time of the replica that each token takes at least, whatever else it does, s.
        gift_tokens: Tokens by which all others together can run ahead of `speeds` because one
            attempt starts while their tokens are under way.
    """

    speeds: tuple[float, ...]
    first_tokens: int = 1
    token_s: float = 0.0
    gift_tokens: float = 0.0

    @property
    def places(self) -> int:
        """Attempts at a time."""
        return len(self.speeds)

    @property
    def alone_per_s(self) -> float:
        """Tokens per second of an attempt that runs alone."""
        return self.speeds[0]

    @cached_property
    def gift_share(self) -> float:
        """Share of its tokens that one attempt can be given at most."""
        return 1.0 - self.speeds[-1] / self.speeds[0]

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Lines whose minimum is the least concave curve above all (n, n x speed).

        The last one is flat: the most tokens per second at any number.
        """
        points = [(0.0, 0.0)]
        points += [(float(n), n * speed) for n, speed in enumerate(self.speeds, 1)]
        hull = _upper_hull(points)
        lines = []
        for (left, low), (right, high) in pairwise(hull):
            slope = (high - low) / (right - left)
            if slope > 0:
                lines.append(Line(low - slope * left, slope))
        return (*_thin(lines), Line(max(rate for _, rate in points), 0.0))


def curve_of_steps(
    step_ns: Callable[[int], float],
    places: int,
    *,
    first_tokens: int = 1,
    token_ns: float = 0.0,
    gifts: bool = False,
) -> RateCurve:
    """A curve from the time of a token with n attempts running.

    Args:
        step_ns: Time of one token of each of n running attempts, ns.
        places: Attempts at a time.
        first_tokens: As in `RateCurve`.
        token_ns: As in `RateCurve`, ns.
        gifts: Whether a token under way keeps its pace when another attempt starts.
    """
    speeds = [SECOND / step_ns(n) for n in range(1, places + 1)]
    for n in range(places - 2, -1, -1):  # an engine may always hold fewer than it could
        speeds[n] = max(speeds[n], speeds[n + 1])
    given = 0.0
    if gifts:
        # Attempt n + 1 starts: n others each gain at most this share of their present token.
        pairs = enumerate(pairwise(speeds), 1)
        given = max((n * (1.0 - after / before) for n, (before, after) in pairs), default=0.0)
    return RateCurve(tuple(speeds), first_tokens, token_ns / SECOND, given)


def _upper_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the least concave curve above points that ascend in their first number."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x1, y1), (x2, y2) = hull[-2:]
            if (y2 - y1) * (x - x2) > (y - y2) * (x2 - x1):
                break
            hull.pop()
        hull.append((x, y))
    return hull


def _thin(lines: Sequence[Line]) -> list[Line]:
    """Some of the lines: with fewer of them the bound is looser, never wrong."""
    if len(lines) <= _LINES_MAX:
        return list(lines)
    last = len(lines) - 1
    picked = sorted({round(last * step / (_LINES_MAX - 1)) for step in range(_LINES_MAX)})
    return [lines[index] for index in picked]
