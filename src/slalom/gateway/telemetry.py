"""Prometheus metrics: histograms and counters per ended request, gauges from the snapshot.

Owns the metric names (vLLM's where one exists, with the prefix `slalom_`), buckets and labels,
in a registry of its own. Gauges are read when scraped, never pushed. Fed by the runtime's
`on_end` and by `records`; read by `/metrics`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slalom.core.actions import EndRequest, Outcome
from slalom.core.snapshot import ModelState, Snapshot
from slalom.gateway.chain_metrics import chain_metrics
from slalom.gateway.completion_cache import CompletionCache
from slalom.gateway.prediction_metrics import PredictionMetrics, learned_metrics
from slalom.gateway.swap_metrics import swap_metric
from slalom.units import SECOND

_TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0),
)
_TPOT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
_E2E_BUCKETS = (
    *(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0),
    *(60.0, 120.0, 300.0),
)
_LABELS = ("model", "task", "outcome")
_NOT_A_NAME = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class _Series:
    """The series of one (model, task, outcome), looked up once."""

    ttft: Any
    tpot: Any
    e2e: Any
    queue: Any
    prompt_tokens: Any
    output_tokens: Any
    requests: Any
    #: Whether the SLA held: counters of the hits and the misses.
    good: Any
    missed: Any


class Telemetry:
    """The gateway's metrics.

    Args:
        snapshot: Gives the scheduler's present state.
        inflight: Gives the number of requests inside the gateway.
        completions: Counts its own hits.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        inflight: Callable[[], int],
        completions: CompletionCache,
    ) -> None:
        self.registry = CollectorRegistry()
        self._ttft = self._histogram(
            "slalom_time_to_first_token_seconds", "Arrival to first token.", _TTFT_BUCKETS
        )
        self._tpot = self._histogram(
            "slalom_time_per_output_token_seconds",
            "Mean time per output token after the first.",
            _TPOT_BUCKETS,
        )
        self._e2e = self._histogram(
            "slalom_e2e_request_latency_seconds", "Arrival to end.", _E2E_BUCKETS
        )
        self._queue = self._histogram(
            "slalom_request_queue_time_seconds", "Arrival to first dispatch.", _TTFT_BUCKETS
        )
        self._prompt = self._counter(
            "slalom_prompt_tokens", "Prompt tokens of ended requests.", _LABELS
        )
        self._output = self._counter("slalom_generation_tokens", "Tokens generated.", _LABELS)
        self._requests = self._counter("slalom_requests", "Ended requests.", (*_LABELS, "reason"))
        self._attainment = self._counter(
            "slalom_sla_requests",
            "Requests that counted for their SLA, by whether all of it held. Refused and failed "
            "ones count as misses; those whose client left or asked anew do not count.",
            ("model", "task", "good"),
        )
        self._http = self._counter(
            "slalom_http_requests", "Answers by path and status.", ("path", "status", "code")
        )
        self._predictions = PredictionMetrics(self.registry)
        self._series: dict[tuple[str, str, str, str], _Series] = {}
        self._answers: dict[tuple[str, int, str], Any] = {}
        self.registry.register(_SnapshotCollector(snapshot, inflight, completions))

    def ended(self, end: EndRequest) -> None:
        """Count one ended request."""
        key = (end.model, end.task, end.outcome.value, str(end.reason))
        series = self._series.get(key) or self._new_series(key)
        arrived_ns = end.arrived_ns
        series.requests.inc()
        series.e2e.observe((end.ended_ns - arrived_ns) / SECOND)
        if end.first_dispatch_ns >= 0:
            series.queue.observe((end.first_dispatch_ns - arrived_ns) / SECOND)
            series.prompt_tokens.inc(max(0, end.prompt_tokens))
            series.output_tokens.inc(end.output_tokens)
        if end.first_token_ns >= 0:  # only streams have one
            series.ttft.observe((end.first_token_ns - arrived_ns) / SECOND)
            if end.output_tokens > 1:
                span_s = (end.ended_ns - end.first_token_ns) / SECOND
                series.tpot.observe(span_s / (end.output_tokens - 1))
        if end.outcome not in (Outcome.CANCELLED, Outcome.SUPERSEDED):
            (series.good if end.good else series.missed).inc()
        if end.chance >= 0 or end.expected_end_ns >= 0:
            self._predictions.ended(end)

    def answered(self, record: dict[str, Any]) -> None:
        """Count one HTTP answer."""
        key = (record["path"], record["status"], record["code"])
        counter = self._answers.get(key)
        if counter is None:
            counter = self._answers[key] = self._http.labels(key[0], str(key[1]), key[2])
        counter.inc()

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _new_series(self, key: tuple[str, str, str, str]) -> _Series:
        labels = key[:3]
        series = _Series(
            ttft=self._ttft.labels(*labels),
            tpot=self._tpot.labels(*labels),
            e2e=self._e2e.labels(*labels),
            queue=self._queue.labels(*labels),
            prompt_tokens=self._prompt.labels(*labels),
            output_tokens=self._output.labels(*labels),
            requests=self._requests.labels(*key),
            good=self._attainment.labels(*key[:2], "true"),
            missed=self._attainment.labels(*key[:2], "false"),
        )
        self._series[key] = series
        return series

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _LABELS, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)


class _SnapshotCollector(Collector):
    """Reads the scheduler's state at the moment of a scrape."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        inflight: Callable[[], int],
        completions: CompletionCache,
    ) -> None:
        self._snapshot = snapshot
        self._inflight = inflight
        self._completions = completions

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: there may be no snapshot yet at registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The gauges and the scheduler's counters."""
        snapshot = self._snapshot()
        yield _gauge("slalom_gateway_inflight", "Requests inside the gateway.", self._inflight())
        yield _gauge(
            "slalom_oldest_wait_seconds",
            "How long the oldest waiting request has waited.",
            snapshot.oldest_wait_ns / SECOND,
        )
        yield _gauge("slalom_draining", "Whether the server shuts down.", int(snapshot.draining))
        yield from _cache_metrics(self._completions)
        yield from _model_metrics(snapshot)
        yield from _device_metrics(snapshot)
        yield swap_metric(snapshot)
        yield from chain_metrics(snapshot)
        yield from learned_metrics(snapshot.learned)
        for name, value in snapshot.counters:
            clean = _NOT_A_NAME.sub("_", name.lower()).strip("_")
            yield CounterMetricFamily(
                f"slalom_scheduler_{clean}", "Counted by the scheduler.", value=value
            )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _cache_metrics(cache: CompletionCache) -> Iterable[Metric]:
    asked = CounterMetricFamily(
        "slalom_completion_cache_requests",
        "Completions that the cache may answer, by whether it did.",
        labels=["hit"],
    )
    asked.add_metric(["true"], cache.hits)
    asked.add_metric(["false"], cache.misses)
    held = _gauge("slalom_completion_cache_bytes", "What kept suggestions take.", cache.bytes_held)
    return (asked, held)


def _model_metrics(snapshot: Snapshot) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "slalom_num_requests_waiting", "Requests in the queue.", labels=["model"]
    )
    running = GaugeMetricFamily(
        "slalom_num_requests_running", "Requests in an engine.", labels=["model"]
    )
    state = GaugeMetricFamily(
        "slalom_model_state", "1 for the state the model is in.", labels=["model", "state"]
    )
    loaded = GaugeMetricFamily(
        "slalom_model_load_fraction", "How far a load is, 0 to 1.", labels=["model"]
    )
    replicas = GaugeMetricFamily(
        "slalom_model_replicas", "Replicas by state.", labels=["model", "state"]
    )
    for model in snapshot.models:
        waiting.add_metric([model.id], model.waiting)
        running.add_metric([model.id], model.running)
        loaded.add_metric([model.id], model.load_fraction)
        for known in ModelState:
            state.add_metric([model.id, known.value], int(model.state is known))
        by_state: dict[str, int] = {}
        for replica in model.replicas:
            by_state[replica.state.value] = by_state.get(replica.state.value, 0) + 1
        for name, count in by_state.items():
            replicas.add_metric([model.id, name], count)
    return (waiting, running, state, loaded, replicas)


def _device_metrics(snapshot: Snapshot) -> Iterable[Metric]:
    budget = GaugeMetricFamily(
        "slalom_device_budget_bytes", "Memory the models may take.", labels=["device"]
    )
    booked = GaugeMetricFamily(
        "slalom_device_booked_bytes", "Memory booked in the ledger.", labels=["device"]
    )
    measured = GaugeMetricFamily(
        "slalom_device_measured_bytes", "Memory measured of the replicas.", labels=["device"]
    )
    drift = GaugeMetricFamily(
        "slalom_device_drift_bytes",
        "Measured minus booked; above 0 the ledger booked too little.",
        labels=["device"],
    )
    for device in snapshot.devices:
        budget.add_metric([device.id], device.budget_bytes)
        booked.add_metric([device.id], device.booked_bytes)
        measured.add_metric([device.id], device.measured_bytes)
        drift.add_metric([device.id], device.measured_bytes - device.booked_bytes)
    return (budget, booked, measured, drift)
