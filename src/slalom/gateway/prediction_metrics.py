"""How good the predictions that clients were shown have been, as Prometheus metrics.

Owns the comparison of an ended request with what was expected at its first dispatch: the ratio of
observed to predicted, how often the prediction was not exceeded, and the Brier score of the chance
that was told. Called by `telemetry`, once per ended request.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from slalom.core.actions import EndRequest, Outcome
from slalom.core.planning import Learned

_RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
#: Of squared errors: a coin's is 0.25.
_BRIER_BUCKETS = (0.0025, 0.01, 0.04, 0.09, 0.16, 0.25, 0.36, 0.49, 0.64, 0.81, 1.0)


class PredictionMetrics:
    """The report card of whatever plans.

    Args:
        registry: Where the metrics are entered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ratio = Histogram(
            "slalom_prediction_error_ratio",
            "Observed over predicted time since the arrival, of finished requests; what is ttft "
            "or e2e.",
            ("task", "what"),
            buckets=_RATIO_BUCKETS,
            registry=registry,
        )
        self._covered = Counter(
            "slalom_predictions",
            "Predictions of finished requests, by whether the observed time stayed within.",
            ("task", "what", "within"),
            registry=registry,
        )
        self._brier = Histogram(
            "slalom_prediction_brier",
            "Squared error of the told chance that the SLA holds; sum over count is the Brier "
            "score.",
            ("task",),
            buckets=_BRIER_BUCKETS,
            registry=registry,
        )
        self._series: dict[tuple[object, ...], Any] = {}

    def ended(self, end: EndRequest) -> None:
        """Compare one ended request with what was expected of it."""
        if end.outcome is Outcome.DONE:
            self._compare(end, "ttft", end.expected_first_ns, end.first_token_ns)
            self._compare(end, "e2e", end.expected_end_ns, end.ended_ns)
        counts = end.outcome not in (Outcome.CANCELLED, Outcome.SUPERSEDED)
        if counts and end.chance >= 0:
            error = end.chance - end.good
            self._of(self._brier, end.task).observe(error * error)

    def _compare(self, end: EndRequest, what: str, expected_ns: int, observed_ns: int) -> None:
        predicted_ns = expected_ns - end.arrived_ns
        if expected_ns < 0 or observed_ns < 0 or predicted_ns <= 0:
            return
        ratio = (observed_ns - end.arrived_ns) / predicted_ns
        self._of(self._ratio, end.task, what).observe(ratio)
        self._of(self._covered, end.task, what, "true" if ratio <= 1 else "false").inc()

    def _of(self, metric: Any, *labels: str) -> Any:
        """A series, looked up once."""
        key = (id(metric), *labels)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = metric.labels(*labels)
        return found


def learned_metrics(learned: Sequence[Learned]) -> Iterable[Metric]:
    """What a planner thinks of its own predictions, by model; nothing where none learns."""
    if not learned:
        return ()
    error = GaugeMetricFamily(
        "slalom_step_time_error",
        "Mean relative error of predicted step times and times to a first token; -1 before any.",
        labels=["model", "what"],
    )
    coverage = GaugeMetricFamily(
        "slalom_step_time_coverage",
        "Share of recent attempts that took no longer than the margin on predicted step times.",
        labels=["model"],
    )
    healthy = GaugeMetricFamily(
        "slalom_prediction_healthy",
        "Whether the planner goes by its predictions.",
        labels=["model"],
    )
    changes = CounterMetricFamily(
        "slalom_step_time_changes",
        "Times that an engine was found to have become slower or faster at once.",
        labels=["model"],
    )
    for one in learned:
        error.add_metric([one.model, "step"], one.step_error)
        error.add_metric([one.model, "first_token"], one.first_error)
        coverage.add_metric([one.model], one.coverage)
        healthy.add_metric([one.model], int(one.healthy))
        changes.add_metric([one.model], one.changes)
    return (error, coverage, healthy, changes)
