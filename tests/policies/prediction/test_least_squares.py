"""Non-negative least squares against a solver that is known to be right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from slalom.policies.prediction.least_squares import Sums, join, product, solve

_NEVER = 1e18


def _sums(rows: np.ndarray, wanted: np.ndarray, memory: float = _NEVER) -> Sums:
    sums = Sums(rows.shape[1])
    for row, value in zip(rows, wanted, strict=True):
        sums.add(list(row), float(value), 1.0, memory)
    return sums


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 40))
def test_the_solution_is_the_best_without_negative_parts(seed: int, terms: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, terms)) + 0.5
    wanted = rng.normal(size=count)
    ridge, toward = rng.uniform(0.01, 1, terms), rng.uniform(0, 2, terms)
    found = solve(_sums(rows, wanted), list(ridge), list(toward))
    best, _ = nnls(
        np.vstack([rows, np.diag(np.sqrt(ridge))]),
        np.concatenate([wanted, np.sqrt(ridge) * toward]),
    )
    assert found == pytest.approx(list(best), abs=1e-5)


def test_without_rows_it_stays_where_it_is_pulled_to() -> None:
    assert solve(Sums(3), [1.0, 1.0, 1.0], [0.0, 2.0, 5.0]) == pytest.approx([0.0, 2.0, 5.0])


def test_old_rows_are_forgotten() -> None:
    rows = np.ones((200, 1))
    wanted = np.concatenate([np.full(100, 1.0), np.full(100, 3.0)])
    kept = solve(_sums(rows, wanted), [1e-9], [0.0])[0]
    forgetful = solve(_sums(rows, wanted, memory=20.0), [1e-9], [0.0])[0]
    assert kept == pytest.approx(2.0)
    assert forgetful == pytest.approx(3.0, abs=0.05)
    assert _sums(rows, wanted, memory=20.0).weight == pytest.approx(20.0, rel=0.01)


def test_many_rows_of_one_kind_count_no_more_than_their_share() -> None:
    many = _sums(np.ones((1_000, 1)), np.full(1_000, 1.0))
    few = _sums(np.ones((10, 1)), np.full(10, 3.0))
    joined = join([many, few], weight_max=10.0)
    assert joined.weight == pytest.approx(20.0)
    assert solve(joined, [1e-9], [0.0])[0] == pytest.approx(2.0)


def test_scaling_what_was_wanted_scales_the_solution() -> None:
    sums = _sums(np.array([[1.0, 0.0], [1.0, 2.0], [0.5, 1.0]]), np.array([1.0, 2.0, 1.2]))
    before = solve(sums, [1e-9, 1e-9], [0.0, 0.0])
    sums.scale(2.0)
    assert solve(sums, [1e-9, 1e-9], [0.0, 0.0]) == pytest.approx([2 * value for value in before])


def test_the_product_is_that_of_the_whole_matrix() -> None:
    rows = np.random.default_rng(1).normal(size=(5, 4))
    left, right = [1.0, 2.0, 0.0, -1.0], [0.5, 1.0, 3.0, 2.0]
    whole = np.array(left) @ (rows.T @ rows) @ np.array(right)
    assert product(_sums(rows, np.zeros(5)), left, right) == pytest.approx(float(whole))
