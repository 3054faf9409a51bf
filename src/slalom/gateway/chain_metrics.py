"""Chains of calls as metrics: how many are under way, and how they ended, from the counters.

Owns two metrics. Called by `telemetry` at each scrape.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from slalom.core.snapshot import Snapshot

#: How a chain ends: with its last answer, at its deadline, left alone, given up by its client, not
#: let in, or forgotten because there were too many.
_ENDS = ("done", "late", "idle", "abandoned", "refused", "crowded_out")


def chain_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Chains that the scheduler remembers, and those that ended."""
    counted = dict(snapshot.counters)
    ended = {how: counted.get(f"chains_{how}", 0) for how in _ENDS}
    yield GaugeMetricFamily(
        "slalom_chains_open",
        "Chains of calls that are under way.",
        value=counted.get("chains_opened", 0) - sum(ended.values()),
    )
    metric = CounterMetricFamily(
        "slalom_chains_ended", "Chains of calls that ended, by how.", labels=["how"]
    )
    for how, count in ended.items():
        metric.add_metric([how], count)
    yield metric
