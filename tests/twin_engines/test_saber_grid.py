"""The published grid of SABER: its shape, and how far the twin is from it."""

from statistics import fmean

from slalom.bench.saber_grid import PUBLISHED, RATES, compare, page, stalling_engine


def test_large_batches_collapse_under_overload() -> None:
    row = compare("W1", 1, engine=stalling_engine(), rates=[20]).ours[20]
    assert max(row[:4]) > 15
    assert fmean(row[5:]) < 5
    law = compare("W1", 1, rates=[20]).ours[20]
    assert max(law[:4]) > fmean(law[5:]) + 15


def test_the_twin_is_near_the_published_numbers() -> None:
    stalled = compare("W3", 1, engine=stalling_engine(), rates=[4, 10])
    assert stalled.mean_absolute_difference < 15
    assert all(len(row) == len(PUBLISHED["W3"][rate]) for rate, row in stalled.ours.items())
    pure = compare("W3", 1, rates=[10])
    assert pure.mean_difference > 15, "the law alone is too kind, as the page says"


def test_the_same_seed_gives_the_same_grid() -> None:
    engine = stalling_engine()
    first, second = (compare("W1", 1, engine=engine, rates=[6]) for _ in range(2))
    assert first == second


def test_the_page_holds_every_cell() -> None:
    text = page(1, rates=[20])
    assert text.count("\n| 20 |") == 4
    assert set(RATES) == set(PUBLISHED["W1"]) == set(PUBLISHED["W3"])
