"""Summaries of records: percentiles, attainment, goodput, by task and over all.

Owns the formulas. Latencies are of whole answers only; whoever shows them shows beside them how
many requests were refused or failed, because dropping slow work makes latencies look better.
Pure; called by the demo, the benchmarks and the twin's reports.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slalom.metrics.chains import ChainTally
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
    #: Ended by the client's own plan, and replaced by the client's newer request. Neither good nor
    #: a miss: they leave the denominator.
    cancelled: int
    superseded: int
    #: Span of the arrivals, seconds.
    duration_s: float
    #: Of whole answers, ns.
    ttft_ns: Spread | None
    tpot_ns: Spread | None
    e2e_ns: Spread | None

    @property
    def attainment(self) -> float:
        """Good ones among the injected that were wanted to the end; 1 if there are none."""
        counted = self.injected - self.cancelled - self.superseded
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


class Tally:
    """Counts and times of records without the records: 24 bytes for each whole answer."""

    __slots__ = ("e2e_ns", "fates", "good", "tpot_ns", "ttft_ns")

    def __init__(self) -> None:
        self.fates = dict.fromkeys(Fate, 0)
        self.good = 0
        self.ttft_ns = array("q")
        self.tpot_ns = array("d")
        self.e2e_ns = array("q")

    def __repr__(self) -> str:
        return f"Tally({sum(self.fates.values())} records, {self.good} good)"

    def add(self, row: RequestRecord) -> None:
        """Count a record."""
        self.fates[row.fate] += 1
        if row.fate is not Fate.DONE:
            return
        self.good += row.good
        self.e2e_ns.append(row.e2e_ns)
        if (ttft_ns := row.ttft_ns) is not None:
            self.ttft_ns.append(ttft_ns)
        if (tpot_ns := row.tpot_ns) is not None:
            self.tpot_ns.append(tpot_ns)

    def merge(self, other: "Tally") -> None:
        """Count all that another one has counted."""
        for fate, count in other.fates.items():
            self.fates[fate] += count
        self.good += other.good
        self.ttft_ns.extend(other.ttft_ns)
        self.tpot_ns.extend(other.tpot_ns)
        self.e2e_ns.extend(other.e2e_ns)

    def summary(self, duration_ns: int) -> Summary:
        """What it comes to.

        Args:
            duration_ns: Span of the arrivals; of several runs, the sum.
        """
        fates = self.fates
        return Summary(
            injected=sum(fates.values()),
            done=fates[Fate.DONE],
            good=self.good,
            refused=fates[Fate.REFUSED],
            failed=fates[Fate.FAILED],
            cancelled=fates[Fate.CANCELLED],
            superseded=fates[Fate.SUPERSEDED],
            duration_s=duration_ns / SECOND,
            ttft_ns=Spread.of(self.ttft_ns),
            tpot_ns=Spread.of(self.tpot_ns),
            e2e_ns=Spread.of(self.e2e_ns),
        )


class Tallies:
    """A tally for each task."""

    __slots__ = ("_by_task", "chains")

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self._by_task: dict[str, Tally] = {}
        #: The same records, chain by chain.
        self.chains = ChainTally()
        for row in records:
            self.add(row)

    def __repr__(self) -> str:
        return f"Tallies({self._by_task!r})"

    def add(self, row: RequestRecord) -> None:
        """Count a record."""
        tally = self._by_task.get(row.task)
        if tally is None:
            tally = self._by_task[row.task] = Tally()
        tally.add(row)
        self.chains.add(row)

    def total(self, duration_ns: int) -> Summary:
        """Over all tasks."""
        whole = Tally()
        for tally in self._by_task.values():
            whole.merge(tally)
        return whole.summary(duration_ns)

    def tasks(self, duration_ns: int, first: Sequence[str] = ()) -> dict[str, Summary]:
        """One summary for each task there is: those named first, then the others by name."""
        order = [*first, *sorted(set(self._by_task) - set(first))]
        return {
            task: self._by_task[task].summary(duration_ns)
            for task in order
            if task in self._by_task
        }


def summarise(records: Iterable[RequestRecord], duration_ns: int) -> Summary:
    """Summarise records.

    Args:
        records: Of one or several runs.
        duration_ns: Span of their arrivals; of several runs, the sum.
    """
    return Tallies(records).total(duration_ns)


def summarise_tasks(
    records: Iterable[RequestRecord], duration_ns: int, tasks: Sequence[str]
) -> dict[str, Summary]:
    """One summary for each task, in the given order; tasks not named come last, by name."""
    return Tallies(records).tasks(duration_ns, tasks)
