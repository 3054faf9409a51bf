"""Arrival processes: their mean and burstiness, and that the seed alone decides."""

import itertools
import statistics
from collections.abc import Callable

import pytest

from slalom.units import SECOND
from slalom.workload.arrivals import (
    ArrivalProcess,
    GammaArrivals,
    OnOffArrivals,
    arrival_times_ns,
    poisson,
)
from slalom.workload.streams import stream

COUNT = 20_000


def gaps_s(process: ArrivalProcess, seed: int = 3) -> list[float]:
    times_ns = [0, *arrival_times_ns(process, COUNT, seed=seed)]
    return [(after - before) / SECOND for before, after in itertools.pairwise(times_ns)]


def variation(values: list[float]) -> float:
    return statistics.pstdev(values) / statistics.fmean(values)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_rate_and_the_variation_they_promise(burstiness: float) -> None:
    gaps = gaps_s(GammaArrivals(8.0, burstiness))
    # Standard error of the mean: CV/sqrt(n) <= 1.5 %.
    assert statistics.fmean(gaps) == pytest.approx(1 / 8, rel=0.06)
    assert variation(gaps) == pytest.approx(burstiness**-0.5, rel=0.06)


def test_poisson_is_gamma_of_shape_one() -> None:
    assert poisson(5.0) == GammaArrivals(5.0, 1.0)


def test_bursts_keep_the_mean_and_are_burstier_than_poisson() -> None:
    gaps = gaps_s(OnOffArrivals(10.0, on_s=2.0, off_s=2.0))
    assert statistics.fmean(gaps) == pytest.approx(1 / 10, rel=0.1)
    assert variation(gaps) > 1.5


def test_no_silence_makes_bursts_poisson() -> None:
    gaps = gaps_s(OnOffArrivals(10.0, on_s=2.0, off_s=0.0))
    assert statistics.fmean(gaps) == pytest.approx(1 / 10, rel=0.05)
    assert variation(gaps) == pytest.approx(1.0, rel=0.05)


def test_times_ascend_and_depend_on_seed_and_name_only() -> None:
    process = poisson(3.0)
    times = arrival_times_ns(process, 50, seed=1)
    assert times == sorted(times)
    assert times == arrival_times_ns(process, 50, seed=1)
    assert times[:20] == arrival_times_ns(process, 20, seed=1)
    assert times != arrival_times_ns(process, 50, seed=2)
    assert times != arrival_times_ns(process, 50, seed=1, name="others")


def test_another_rate_stretches_the_same_arrivals() -> None:
    slow, fast = (arrival_times_ns(poisson(rate), 30, seed=1) for rate in (1.0, 4.0))
    assert [at / 4 for at in slow] == pytest.approx(fast, abs=1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GammaArrivals(0.0),
        lambda: GammaArrivals(1.0, 0.0),
        lambda: OnOffArrivals(-1.0),
        lambda: OnOffArrivals(1.0, on_s=0.0),
        lambda: OnOffArrivals(1.0, off_s=-1.0),
    ],
)
def test_senseless_numbers_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="positive"):
        build()


def test_streams_of_different_names_differ() -> None:
    draws = {stream(0, *names).random() for names in (("a",), ("b",), ("a", "b"), ("a", 1))}
    assert len(draws) == 4
    assert stream(0, "a").random() == stream(0, "a").random()
    # Fixed for ever: recorded figures depend on it.
    assert stream(7, "arrivals").randrange(1_000_000) == 448_119
