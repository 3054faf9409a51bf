"""Gains, shares, spreads, recoveries and verdicts of the benchmark, on small numbers."""

import pytest

from slalom.bench.sla.ablation import loss, verdict
from slalom.bench.sla.arithmetic import (
    best_rows,
    best_whole,
    mean_gain,
    picked,
    row_gains,
    row_shares,
    spread,
)
from slalom.bench.sla.cells import BIN_S, bins
from slalom.bench.sla.knees import knee
from slalom.bench.sla.robustness import recovery_s
from slalom.metrics.confidence import Estimate
from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.units import SECOND

#: Two rates, three seeds.
SMALL = [[0.9, 0.8, 1.0], [0.2, 0.3, 0.1]]
LARGE = [[0.7, 0.6, 0.8], [0.5, 0.6, 0.4]]


def test_the_best_is_chosen_for_each_rate_and_over_all() -> None:
    grids = {10: SMALL, 100: LARGE}
    assert best_rows(grids) == [10, 100]
    assert best_whole(grids) == 100
    assert picked(grids, [10, 100]) == [SMALL[0], LARGE[1]]
    assert best_rows({10: SMALL, 20: SMALL}) == [10, 10]


def test_gains_are_paired_by_seed() -> None:
    by_rate = row_gains(LARGE, SMALL)
    assert [one.mean for one in by_rate] == pytest.approx([-0.2, 0.3])
    # Every seed differs by the same, so that there is nothing to be unsure of.
    assert [one.margin for one in by_rate] == pytest.approx([0.0, 0.0], abs=1e-9)
    whole = mean_gain(LARGE, SMALL)
    assert whole.mean == pytest.approx(0.05)
    uneven = mean_gain([[0.5, 0.7]], [[0.4, 0.4]])
    assert uneven.mean == pytest.approx(0.2)
    assert uneven.margin == pytest.approx(12.706 * 0.1)


def test_shares_are_of_means_and_nothing_of_nothing_is_all() -> None:
    assert row_shares([[0.4, 0.6], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]) == [0.5, 1.0]
    # The limit is known of the first seeds only.
    assert row_shares([[0.4, 0.6]], [[0.8]]) == [0.5]


def test_spread_is_over_rates_for_each_seed() -> None:
    found = spread([[1.0, 2.0], [3.0, 2.0]])
    assert found.mean == pytest.approx((0.5 + 0.0) / 2)
    assert found.count == 2


def test_the_knee_lies_where_a_tenth_is_lost() -> None:
    assert knee([1.0, 2.0, 4.0], [1.0, 1.0, 0.8]) == pytest.approx(2 * 2**0.5)
    assert knee([1.0, 4.0], [0.5, 0.5]) == 4.0
    # Of what it is under the lightest load: bursts that no rate makes harmless do not count.
    assert knee([1.0, 4.0], [0.5, 0.4]) == pytest.approx(2.0)


def _result(*shares: float) -> dict[str, list[list[int]]]:
    return {"bins": [[100, round(100 * share)] for share in shares]}


def test_recovered_is_who_loses_little_from_then_on() -> None:
    right = [_result(*[1.0] * 8)]
    assert recovery_s(right, right, 0.0) == 0.0
    slow = [_result(0.5, 0.5, 1, 1, 1, 1, 1, 1)]
    assert recovery_s(right, slow, 0.0) == 2 * BIN_S
    again = [_result(0.5, 1, 1, 1, 1, 1, 1, 0.5)]
    assert recovery_s(right, again, 0.0) is None
    assert recovery_s(right, [_result(1, 1, 1, 1, 0.5, 1, 1, 1)], 4.0 * BIN_S) == BIN_S


def test_bins_count_what_clients_did_not_take_back() -> None:
    def row(at_s: int, fate: Fate, *, good: bool) -> RequestRecord:
        at_ns = at_s * SECOND
        return RequestRecord("r", "t", "m", at_ns, at_ns, NEVER, at_ns, 0, fate, good)

    rows = [
        row(0, Fate.DONE, good=True),
        row(1, Fate.REFUSED, good=False),
        row(2, Fate.CANCELLED, good=False),
        row(2 * BIN_S, Fate.DONE, good=True),
    ]
    assert bins(rows) == [[2, 1], [0, 0], [1, 1]]


def test_a_part_earns_its_place_where_it_gains_for_sure() -> None:
    gain, harm = loss([0.9, 0.8], [0.7, 0.6]), loss([0.6, 0.5], [0.7, 0.6])
    unsure = Estimate(0.1, 0.2, 2)
    assert verdict({"a": gain, "b": unsure}) == "earns"
    assert verdict({"a": gain, "b": harm}) == "mixed"
    assert verdict({"a": harm, "b": unsure}) == "harms"
    assert verdict({"a": unsure}) == "nothing"
