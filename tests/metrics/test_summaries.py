"""Summaries against cases worked out by hand."""

import pytest

from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.metrics.summaries import Spread, percentile, summarise, summarise_tasks
from slalom.units import MS, SECOND


def record(
    fate: Fate = Fate.DONE,
    *,
    task: str = "chat",
    good: bool = False,
    scheduled_ms: int = 0,
    first_ms: int | None = None,
    ended_ms: int = 100,
    tokens: int = 0,
) -> RequestRecord:
    return RequestRecord(
        request_id="r",
        task=task,
        model="m",
        scheduled_ns=scheduled_ms * MS,
        sent_ns=(scheduled_ms + 3) * MS,
        first_token_ns=NEVER if first_ms is None else first_ms * MS,
        ended_ns=ended_ms * MS,
        output_tokens=tokens,
        fate=fate,
        good=good,
    )


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 95, 7.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 95, 4.8),
        ([1.0, 9.0], 0, 1.0),
        ([1.0, 9.0], 100, 9.0),
    ],
)
def test_a_percentile_is_linear_between_neighbours(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "share"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_a_percentile_of_nothing_or_beyond_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_a_spread_sorts_its_values_and_is_none_without_any() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert spread is not None
    assert (spread.count, spread.p50) == (3, 2.0)
    assert Spread.of([]) is None


def test_times_count_from_the_scheduled_arrival_not_from_the_sending() -> None:
    row = record(scheduled_ms=1000, first_ms=1250, ended_ms=2250, tokens=11)
    assert row.ttft_ns == 250 * MS
    assert row.e2e_ns == 1250 * MS
    assert row.tpot_ns == 100 * MS
    assert row.send_lag_ns == 3 * MS


def test_an_answer_without_a_token_has_neither_ttft_nor_tpot() -> None:
    assert record().ttft_ns is None
    assert record(tokens=5).tpot_ns is None
    assert record(first_ms=10, tokens=1).tpot_ns is None


def test_errors_and_refusals_are_misses_and_what_nobody_wants_leaves_the_denominator() -> None:
    rows = [
        record(good=True, first_ms=20, tokens=2),
        record(good=True, first_ms=40, tokens=2),
        record(first_ms=60, tokens=2, ended_ms=500),
        record(Fate.REFUSED),
        record(Fate.FAILED),
        record(Fate.CANCELLED),
        record(Fate.SUPERSEDED, first_ms=20, tokens=2),
    ]
    summary = summarise(rows, 4 * SECOND)
    assert (summary.injected, summary.done, summary.good) == (7, 3, 2)
    assert (summary.refused, summary.failed, summary.cancelled) == (1, 1, 1)
    assert summary.superseded == 1
    assert summary.attainment == pytest.approx(2 / 5)
    assert summary.goodput_per_s == pytest.approx(0.5)
    assert summary.ttft_ns is not None
    assert summary.ttft_ns.p50 == 40 * MS
    # Refused and failed ones ended after 100 ms too, but latency is of whole answers.
    assert summary.e2e_ns is not None
    assert summary.e2e_ns.count == 3


def test_nothing_sent_misses_nothing() -> None:
    summary = summarise([], 0)
    assert (summary.attainment, summary.goodput_per_s) == (1.0, 0.0)
    assert summary.e2e_ns is None


def test_tasks_come_in_the_given_order_and_others_last() -> None:
    rows = [record(task="zeta"), record(task="chat"), record(task="alpha"), record(task="chat")]
    found = summarise_tasks(rows, SECOND, ["absent", "chat"])
    assert list(found) == ["chat", "alpha", "zeta"]
    assert found["chat"].injected == 2
