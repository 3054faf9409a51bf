"""Least squares without negative coefficients, from sums that new rows are added to.

Owns a small symmetric system and its solution. Owns no meaning of its terms. Called by the model
of step times.
"""

from collections.abc import Sequence
from operator import add

#: Times that coefficients are held or let go at most, and the gain below which they are not.
_ROUNDS_MAX = 20
_SLOPE_MIN = 1e-9


class Sums:
    """Sums of products of the rows seen: what a fit needs to know of them.

    Args:
        terms: Coefficients.
    """

    __slots__ = ("matrix", "terms", "vector", "weight")

    def __init__(self, terms: int) -> None:
        self.terms = terms
        #: The upper triangle, row by row.
        self.matrix = [0.0] * (terms * (terms + 1) // 2)
        self.vector = [0.0] * terms
        #: Of all rows, less what was forgotten.
        self.weight = 0.0

    def add(self, row: Sequence[float], wanted: float, weight: float, memory: float) -> None:
        """Add a row, and forget a little of the older ones.

        Args:
            row: One value for each coefficient.
            wanted: What their weighted sum should be.
            weight: Of the row.
            memory: Weight of newer rows after which an old one counts 1/e.
        """
        keep = 1.0 - min(weight / memory, 0.5)
        self.weight = self.weight * keep + weight
        self.matrix = matrix = [value * keep for value in self.matrix]
        self.vector = vector = [value * keep for value in self.vector]
        used = [(place, value) for place, value in enumerate(row) if value]
        for nth, (i, value) in enumerate(used):
            part = weight * value
            vector[i] += part * wanted
            at = i * (2 * self.terms - i - 1) // 2  # of the row's beginning, less its first column
            for j, other in used[nth:]:
                matrix[at + j] += part * other

    def scale(self, factor: float, share: float = 1.0) -> None:
        """Take all that was wanted so far for so many times as much, and count it less.

        Args:
            factor: Of what was wanted.
            share: Of the weight that remains.
        """
        self.weight *= share
        self.matrix = [value * share for value in self.matrix]
        self.vector = [value * (factor * share) for value in self.vector]


def join(parts: Sequence[Sums], weight_max: float) -> Sums:
    """The sum of several sums, none of which counts more than `weight_max`."""
    joined = Sums(parts[0].terms)
    for part in parts:
        if part.weight <= 0.0:
            continue
        share = min(1.0, weight_max / part.weight)
        joined.weight += part.weight * share
        matrix, vector = part.matrix, part.vector
        if share < 1.0:
            matrix, vector = [share * b for b in matrix], [share * b for b in vector]
        joined.matrix = list(map(add, joined.matrix, matrix))
        joined.vector = list(map(add, joined.vector, vector))
    return joined


def solve(sums: Sums, ridge: Sequence[float], toward: Sequence[float]) -> list[float]:
    """The coefficients from 0 that fit best, pulled a little towards given ones.

    Coefficients that would be negative are held at 0, and let go again where that no longer
    helps, until neither happens.

    Args:
        sums: Of the rows.
        ridge: How much each coefficient is pulled, as a weight; positive.
        toward: Where to.
    """
    terms = sums.terms
    full = [[0.0] * terms for _ in range(terms)]
    at = 0
    for i in range(terms):
        for j in range(i, terms):
            full[i][j] = full[j][i] = sums.matrix[at]
            at += 1
        full[i][i] += ridge[i]
    wanted = [v + r * t for v, r, t in zip(sums.vector, ridge, toward, strict=True)]
    free = list(range(terms))
    found = [0.0] * terms
    for _ in range(_ROUNDS_MAX):
        found = _solve_free(full, wanted, free)
        negative = [i for i in free if found[i] < 0.0]
        if negative:
            free = [i for i in free if found[i] >= 0.0]
            continue
        slopes = {i: wanted[i] - _dot(full[i], found) for i in range(terms) if i not in free}
        if not slopes:
            break
        steepest = max(slopes, key=lambda i: slopes[i])
        if slopes[steepest] <= _SLOPE_MIN:
            break
        free = sorted([*free, steepest])
    return [max(value, 0.0) for value in found]


def _solve_free(
    full: Sequence[Sequence[float]], wanted: Sequence[float], free: Sequence[int]
) -> list[float]:
    """The solution with all but `free` held at 0; by elimination, the system is definite."""
    rows = [[*(full[i][j] for j in free), wanted[i]] for i in free]
    count = len(rows)
    for k, row in enumerate(rows):
        for below in rows[k + 1 :]:
            factor = below[k] / row[k]
            if factor:
                for j in range(k + 1, count + 1):
                    below[j] -= factor * row[j]
    found = [0.0] * len(wanted)
    for k in range(count - 1, -1, -1):
        row = rows[k]
        rest = sum(row[j] * found[free[j]] for j in range(k + 1, count))
        found[free[k]] = (row[count] - rest) / row[k]
    return found


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def product(sums: Sums, left: Sequence[float], right: Sequence[float]) -> float:
    """`left` x matrix x `right`."""
    total, at, terms = 0.0, 0, sums.terms
    matrix = sums.matrix
    used = [j for j in range(terms) if left[j] or right[j]]
    for i in range(terms):
        if left[i] or right[i]:
            for j in used:
                if j == i:
                    total += matrix[at] * left[i] * right[i]
                elif j > i:
                    value = matrix[at + j - i]
                    total += value * left[i] * right[j]
                    total += value * left[j] * right[i]
        at += terms - i
    return total
