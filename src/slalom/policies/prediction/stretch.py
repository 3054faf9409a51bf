"""By how much answers are longer than their requests were told, known before most have ended.

Owns one sample of answers, whole ones and those that still grow or were broken off, and the mean of
what they are, or will be, of what was told. Knows no tasks and no planning. Called by `lengths`.

Source: the product-limit estimate of Kaplan and Meier (1958), in the form of Efron (1967): the
weight of an answer that has not ended goes to all that were longer.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from math import log2
from operator import mul

#: Answers that are remembered.
_ANSWERS_MAX = 64
#: What was thought before counts as so many answers.
_BEFORE_WEIGHT = 0.125
#: The longest goes on for this share of what it has, if none has ended that near.
LONGER_SHARE = 0.25
_MEAN_MIN, _MEAN_MAX = 0.125, 8.0
#: An answer that has outgrown what was told says something new at every such part of a doubling.
_PER_DOUBLING = 4
#: Answers that differ from their mean by more than this share of it, on average, are not all off by
#: the same: there is nothing to correct, and what is told stands.
_AGREED = 0.25
#: Means that differ by less than this share are the same.
_SAME = 0.1


class Stretch:
    """One sample of answers."""

    __slots__ = ("_answers", "_points", "deviation", "mean")

    def __init__(self) -> None:
        #: name -> share of what was told that it has got, and whether that is all.
        self._answers: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        #: The same in the order of the shares, whole ones first, each with whether it goes on.
        self._points: list[tuple[float, bool]] = []
        #: What answers are of what was told, on average; changes in steps.
        self.mean = 1.0
        #: How far they are from that, on average.
        self.deviation = 0.0

    def __repr__(self) -> str:
        return f"Stretch(answers={len(self._answers)}, mean={self.mean:.2f})"

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self._answers)

    @property
    def factor(self) -> float:
        """What to make of what a request is told: a correction upward keeps a little room.

        Where everything is planned to end just in time, all that is a little longer ends late.
        """
        return self.mean * (1.0 + _SAME) if self.mean > 1.0 else self.mean

    def note(self, name: str, share: float, *, whole: bool) -> bool:
        """An answer has got so much of what was told; whether that may change the mean.

        Args:
            name: Its request's.
            share: Of what was told.
            whole: Whether it has ended; if not, it may go on.
        """
        known = self._answers.get(name)
        self._answers[name] = (share, whole)
        gone = known
        if known is None and len(self._answers) > _ANSWERS_MAX:
            gone = self._answers.popitem(last=False)[1]
        points = self._points
        if gone is not None:
            del points[bisect_left(points, (gone[0], not gone[1]))]
        insort(points, (share, not whole))
        if whole:
            return True
        return share > 1.0 and (known is None or _step(share) != _step(known[0]))

    def learn(self, before: float) -> bool:
        """Find the mean anew; whether it has changed.

        Args:
            before: The mean that is thought of without these answers.
        """
        shares, weights = self._spread_out(before)
        weight = sum(weights)
        mean = sum(map(mul, shares, weights)) / weight
        off = [abs(share - mean) for share in shares]
        self.deviation = sum(map(mul, off, weights)) / weight
        if self.deviation > _AGREED * mean:
            mean = 1.0
        mean = min(max(mean, _MEAN_MIN), _MEAN_MAX)
        if abs(mean - self.mean) <= _SAME * self.mean:
            return False
        self.mean = mean
        return True

    def _spread_out(self, before: float) -> tuple[list[float], list[float]]:
        """How long answers are, in order, and how much each of them counts."""
        points, shares, weights = self._points, [], []
        longer, grown = len(points) + _BEFORE_WEIGHT, 1.0
        # What was thought before is one of the whole ones, and counts less.
        first = bisect_left(points, (before, False))
        for place, (share, is_open) in enumerate(points):
            if place == first:
                longer -= _BEFORE_WEIGHT
                shares.append(before)
                weights.append(_BEFORE_WEIGHT * grown)
            longer -= 1.0
            if not is_open:
                shares.append(share)
                weights.append(grown)
            elif longer > 0.0:
                grown *= (longer + 1.0) / longer
            else:
                goes_on = share > self._nearest() * (1.0 + LONGER_SHARE)
                shares.append(share * (1.0 + LONGER_SHARE * goes_on))
                weights.append(grown)
        if first == len(points):
            shares.append(before)
            weights.append(_BEFORE_WEIGHT * grown)
        return shares, weights

    def _nearest(self) -> float:
        """The longest that has ended."""
        return next((share for share, is_open in reversed(self._points) if not is_open), 0.0)


def _step(share: float) -> int:
    return int(log2(share) * _PER_DOUBLING) if share > 1.0 else -1
