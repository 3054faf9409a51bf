"""The lines of batches as metrics, by state.

Owns the names. No label says whose lines they are. The counts are the runner's, read when they are
asked for.
"""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slalom.batches.runner import LineCounts


class BatchCollector(Collector):
    """Gives the present counts.

    Args:
        counts: The runner's.
    """

    def __init__(self, counts: Callable[[], LineCounts]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Lines that wait and run, lines that ended, and whether the disk holds them up."""
        counts = self._counts()
        unfinished = GaugeMetricFamily(
            "slalom_batch_lines",
            "Lines of batches that are worked on and have no result yet, by state.",
            labels=["state"],
        )
        unfinished.add_metric(["queued"], counts.queued)
        unfinished.add_metric(["running"], counts.running)
        ended = CounterMetricFamily(
            "slalom_batch_lines_ended",
            "Lines of batches whose result is on the disk, by outcome.",
            labels=["outcome"],
        )
        ended.add_metric(["done"], counts.done)
        ended.add_metric(["failed"], counts.failed)
        held = GaugeMetricFamily(
            "slalom_batches_held", "Whether results wait for room on the disk.", value=counts.held
        )
        return (unfinished, ended, held)
