"""How often replicas left their device, by how and why, from the scheduler's counters.

Owns one metric. Called by `telemetry` at each scrape.
"""

from prometheus_client.core import CounterMetricFamily

from slalom.core.actions import UnloadCause
from slalom.core.snapshot import Snapshot


def swap_metric(snapshot: Snapshot) -> CounterMetricFamily:
    """Unloads and sleeps by cause; those that never happened are 0."""
    counted = dict(snapshot.counters)
    metric = CounterMetricFamily(
        "slalom_swaps",
        "Replicas that left their device, by whether they ended or sleep, and why.",
        labels=["kind", "cause"],
    )
    for kind in ("unload", "sleep"):
        for cause in UnloadCause:
            metric.add_metric([kind, cause.value], counted.get(f"{kind}s_{cause.value}", 0))
    return metric
