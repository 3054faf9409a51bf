"""A linear program that grows row by row, and a certified bound on its value.

Owns the collecting of rows and the arithmetic that makes the solver's word safe: whatever
multipliers it returns, weak duality turns them into a true upper bound, so that neither its
tolerances nor an early stop can make the result wrong. Knows nothing of requests. Called by
`bound_upper`.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from slalom.twin.bound_cells import Floats, Ints


@dataclass(frozen=True, slots=True)
class Solution:
    """What came of a program."""

    #: No feasible point has a larger value.
    upper: float
    #: The best point found; all zeros if the solver stopped early.
    point: Floats


@dataclass(slots=True)
class Program:
    """Maximise the sum of the values of variables, subject to rows `sum <= limit`.

    Every variable is between 0 and a finite ceiling.
    """

    _ceilings: list[Floats] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)
    _limits: list[Floats] = field(default_factory=list)
    _entries: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)
    variables: int = 0
    rows: int = 0

    def add(self, ceilings: Floats, value: float = 0.0) -> Ints:
        """New variables; their numbers.

        Args:
            ceilings: The most each can be, finite.
            value: What one unit of each adds to the sum that is maximised.
        """
        count = len(ceilings)
        self._ceilings.append(np.asarray(ceilings, dtype=np.float64))
        self._values.append(np.full(count, value))
        self.variables += count
        return np.arange(self.variables - count, self.variables)

    def limit(self, limits: Floats, *terms: tuple[Ints, Ints, Floats]) -> None:
        """New rows.

        Args:
            limits: One for each row.
            terms: (row, variable, factor), parallel arrays; rows count from 0 in this call.
        """
        for row, variable, factor in terms:
            factors = np.broadcast_to(np.asarray(factor, dtype=np.float64), row.shape)
            self._entries.append((row + self.rows, variable, factors))
        self._limits.append(np.asarray(limits, dtype=np.float64))
        self.rows += len(limits)

    def solve(self, iterations_max: int) -> Solution:
        """Solve it.

        Args:
            iterations_max: The solver stops then, and not by the clock, so that the result is the
                same on every machine; it is a bound all the same.
        """
        values = np.concatenate(self._values)
        ceilings = np.concatenate(self._ceilings)
        limits = np.concatenate(self._limits)
        rows, columns, factors = (
            np.concatenate([entry[part] for entry in self._entries]) for part in range(3)
        )
        matrix = csr_matrix((factors, (rows, columns)), shape=(self.rows, self.variables))
        result = linprog(
            -values,
            A_ub=matrix,
            b_ub=limits,
            bounds=np.stack([np.zeros_like(ceilings), ceilings], axis=1),
            method="highs-ds",
            options={"maxiter": iterations_max},
        )
        point = np.zeros(self.variables) if result.x is None else np.asarray(result.x)
        multipliers = getattr(result.ineqlin, "marginals", None) if result.x is not None else None
        if multipliers is None or len(multipliers) != self.rows:
            multipliers = np.zeros(self.rows)
        prices = np.maximum(-np.asarray(multipliers), 0.0)
        gains = np.maximum(values - matrix.T @ prices, 0.0)
        return Solution(float(prices @ limits + gains @ ceilings), point)
