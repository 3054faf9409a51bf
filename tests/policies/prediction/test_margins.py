"""Margins cover what they should, and say when they do not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from slalom.policies.prediction.margins import MARGIN_START, Margin


def _fed(ratios: list[float]) -> tuple[Margin, float]:
    """The margin, and the share of the last half of the ratios that it covered beforehand."""
    margin, covered = Margin(), 0
    for at, ratio in enumerate(ratios):
        covered += at >= len(ratios) // 2 and ratio <= margin.factor
        margin.add(ratio)
    return margin, covered / max(len(ratios) - len(ratios) // 2, 1)


def test_it_starts_carefully_and_comes_down_where_predictions_are_right() -> None:
    margin = Margin()
    assert margin.factor == MARGIN_START
    for _ in range(4):
        margin.add(1.0)
    assert margin.factor == MARGIN_START
    for _ in range(20):
        margin.add(1.0)
    assert margin.factor == 1.0
    assert margin.healthy


def test_it_covers_nine_in_ten() -> None:
    rng = random.Random(5)
    for spread in (0.05, 0.2):
        margin, covered = _fed([rng.lognormvariate(0.1, spread) for _ in range(2_000)])
        assert 0.86 < covered < 0.94
        assert 0.75 < margin.covered_share <= 1


def test_it_follows_a_drift_and_keeps_its_coverage() -> None:
    rng = random.Random(6)
    ratios = [rng.lognormvariate(0.3 * at / 2_000, 0.1) for at in range(2_000)]
    margin, covered = _fed(ratios)
    assert covered > 0.85
    assert margin.factor > 1.25


def test_it_is_unhealthy_once_the_coverage_is_lost_until_it_is_regained() -> None:
    margin, _ = _fed([1.0] * 100)
    for _ in range(100):
        margin.add(1.0)
    grow = 1.0
    states = []
    for _ in range(60):
        grow *= 1.05
        margin.add(grow)
        states.append(margin.healthy)
    assert states[0]
    assert not states[-1]
    back = []
    for _ in range(60):
        margin.add(1.0)
        back.append(margin.healthy)
    assert not back[0]
    assert back[-1]
    # One switch each way: the band keeps it from flickering.
    assert sorted(states, reverse=True) == states
    assert sorted(back) == back


@given(st.lists(st.floats(0.01, 50), max_size=300))
def test_it_stays_within_its_bounds_and_never_shrinks_a_prediction(ratios: list[float]) -> None:
    margin, _ = _fed(ratios)
    assert 1.0 <= margin.factor <= 3.0
    assert 0.0 <= margin.covered_share <= 1.0
    assert margin.seen == len(ratios)
