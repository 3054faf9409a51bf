"""What the demo found, as data: runs, their summaries and what they were done with.

Owns the joining of repeats and the form of `--json`. Draws no table (`demo_report`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slalom.bench.demo_calibration import Calibration
from slalom.bench.demo_server import Residency
from slalom.metrics.records import RequestRecord
from slalom.metrics.summaries import Spread, Summary, summarise, summarise_tasks
from slalom.units import MS


@dataclass(frozen=True, slots=True)
class Run:
    """One load sent to one fresh server."""

    contender: str
    repeat: int
    seed: int
    records: Sequence[RequestRecord]
    #: Span of the arrivals, ns.
    duration_ns: int
    residency: Residency


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender reached over all repeats."""

    total: Summary
    tasks: Mapping[str, Summary]
    residency: Residency
    #: Goodput of each repeat, requests per second.
    goodput_per_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything the demo found."""

    #: What was served, with what load, in sentences by topic.
    setting: Mapping[str, str]
    calibration: Calibration | None
    rate_per_s: float
    runs: Sequence[Run]
    #: Folder with each server's configuration, journal and log.
    folder: str

    def outcome(self, contender: str, tasks: Sequence[str]) -> Outcome:
        """The runs of one contender together."""
        runs = [run for run in self.runs if run.contender == contender]
        records = [record for run in runs for record in run.records]
        duration_ns = sum(run.duration_ns for run in runs)
        return Outcome(
            total=summarise(records, duration_ns),
            tasks=summarise_tasks(records, duration_ns, tasks),
            residency=Residency(
                sum(run.residency.loads for run in runs),
                sum(run.residency.evictions for run in runs),
            ),
            goodput_per_s=[summarise(run.records, run.duration_ns).goodput_per_s for run in runs],
        )

    def send_lag_ms(self) -> Spread | None:
        """How late the load client was, ms: whether the figures can be trusted."""
        lags = (record.send_lag_ns / MS for run in self.runs for record in run.records)
        return Spread.of(lags)


def as_document(
    result: DemoResult, contenders: Sequence[str], tasks: Sequence[str]
) -> dict[str, Any]:
    """The result for programs; times in ms."""
    calibration, lag = result.calibration, result.send_lag_ms()
    return {
        "setting": dict(result.setting),
        "rate_per_s": round(result.rate_per_s, 3),
        "calibration": calibration
        and {
            "alone_per_s": {name: round(v, 2) for name, v in calibration.alone_per_s.items()},
            "knee_per_s": round(calibration.knee_per_s, 3),
        },
        "order": [run.contender for run in result.runs],
        "contenders": {name: _outcome_document(result.outcome(name, tasks)) for name in contenders},
        "send_lag_ms": lag and {"p50": round(lag.p50, 2), "p99": round(lag.p99, 2)},
        "folder": result.folder,
    }


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "total": _summary_document(outcome.total),
        "tasks": {task: _summary_document(row) for task, row in outcome.tasks.items()},
        "loads": outcome.residency.loads,
        "evictions": outcome.residency.evictions,
        "goodput_per_s_by_repeat": [round(value, 3) for value in outcome.goodput_per_s],
    }


def _summary_document(row: Summary) -> dict[str, Any]:
    return {
        "injected": row.injected,
        "done": row.done,
        "good": row.good,
        "refused": row.refused,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "attainment": round(row.attainment, 4),
        "goodput_per_s": round(row.goodput_per_s, 3),
        "ttft_ms": _spread_document(row.ttft_ns),
        "tpot_ms": _spread_document(row.tpot_ns),
        "e2e_ms": _spread_document(row.e2e_ns),
    }


def _spread_document(spread: Spread | None) -> dict[str, float] | None:
    if spread is None:
        return None
    return {
        "p50": round(spread.p50 / MS, 2),
        "p95": round(spread.p95 / MS, 2),
        "p99": round(spread.p99 / MS, 2),
    }
