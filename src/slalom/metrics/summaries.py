"""Summaries of records: percentiles, attainment, goodput, by task and over all.

Owns the formulas. Latencies are of whole answers only; whoever shows them shows beside them how
many requests were refused or failed, because dropping slow work makes latencies look better.
Pure; called by the demo, the benchmarks and the twin's reports.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slalom.metrics.records import Fate, RequestRecord
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class Spread:
    """A few percentiles of a quantity, in its own unit."""

    count: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """The percentiles of these values; None if there are none."""
        ordered = sorted(values)
        if not ordered:
            return None
        p50, p95, p99 = (percentile(ordered, share) for share in (50, 95, 99))
        return cls(len(ordered), p50, p95, p99)


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a set of requests."""

    injected: int
    done: int
    good: int
    refused: int
    failed: int
    #: Ended by the client's own plan. Neither good nor a miss: they leave the denominator.
    cancelled: int
    #: Span of the arrivals, seconds.
    duration_s: float
    #: Of whole answers, ns.
    ttft_ns: Spread | None
    tpot_ns: Spread | None
    e2e_ns: Spread | None

    @property
    def attainment(self) -> float:
        """Good ones among the injected that their clients did not cancel; 1 if there are none."""
        counted = self.injected - self.cancelled
        return self.good / counted if counted else 1.0

    @property
    def goodput_per_s(self) -> float:
        """Good answers per second of arrivals."""
        return self.good / self.duration_s if self.duration_s else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The percentile of ascending values, linear between neighbours (numpy's default).

    Args:
        ordered: At least one value, ascending.
        share: 0 to 100.

    Raises:
        ValueError: There is no value, or the share is outside its range.
    """
    if not ordered or not 0 <= share <= 100:
        raise ValueError(f"percentile {share} of {len(ordered)} values: need 0-100 and a value")
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(records: Iterable[RequestRecord], duration_ns: int) -> Summary:
    """Summarise records.

    Args:
        records: Of one or several runs.
        duration_ns: Span of their arrivals; of several runs, the sum.
    """
    rows = list(records)
    done = [row for row in rows if row.fate is Fate.DONE]
    counts = {fate: sum(row.fate is fate for row in rows) for fate in Fate}
    return Summary(
        injected=len(rows),
        done=len(done),
        good=sum(row.good for row in rows),
        refused=counts[Fate.REFUSED],
        failed=counts[Fate.FAILED],
        cancelled=counts[Fate.CANCELLED],
        duration_s=duration_ns / SECOND,
        ttft_ns=Spread.of(row.ttft_ns for row in done if row.ttft_ns is not None),
        tpot_ns=Spread.of(row.tpot_ns for row in done if row.tpot_ns is not None),
        e2e_ns=Spread.of(row.e2e_ns for row in done),
    )


def summarise_tasks(
    records: Iterable[RequestRecord], duration_ns: int, tasks: Sequence[str]
) -> dict[str, Summary]:
    """One summary for each task, in the given order; tasks not named come last, by name."""
    groups: dict[str, list[RequestRecord]] = {task: [] for task in tasks}
    for row in records:
        groups.setdefault(row.task, []).append(row)
    order = [*tasks, *sorted(set(groups) - set(tasks))]
    return {task: summarise(groups[task], duration_ns) for task in order if groups[task]}
