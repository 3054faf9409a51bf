"""The ledgers' readings as metrics and as the document of `/admin/status`.

Owns names and fields. The readings are `runtime.ledger_watch`'s; where nothing watches, there are
none. Called by the gateway's cold routes and its metrics.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slalom.runtime.ledger import Alarm, AlarmKind, Reading
from slalom.units import SECOND


class Ledgers(Protocol):
    """The last readings and what is wrong now."""

    readings: tuple[Reading, ...]
    alarms: tuple[Alarm, ...]


class LedgerCollector(Collector):
    """Gives the last readings at each scrape."""

    def __init__(self, ledgers: Callable[[], Ledgers | None]) -> None:
        self._ledgers = ledgers

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Gauges by device."""
        ledgers = self._ledgers()
        if ledgers is None:
            return
        available = _gauge("available_bytes", "Memory that new processes could take.")
        foreign = _gauge(
            "foreign_bytes", "Memory that the budget counts on and other processes hold."
        )
        drift = _gauge(
            "expected_drift_bytes",
            "Measured memory of working replicas minus what was expected of their models.",
        )
        alarm = GaugeMetricFamily(
            "slalom_device_alarm",
            "Whether something is wrong with a ledger.",
            labels=["device", "kind"],
        )
        raised = {(one.device, one.kind) for one in ledgers.alarms}
        for reading in ledgers.readings:
            if reading.available_bytes is not None:
                available.add_metric([reading.device], reading.available_bytes)
                foreign.add_metric([reading.device], reading.foreign_bytes)
            drift.add_metric([reading.device], reading.drift_bytes)
            for kind in AlarmKind:
                value = int((reading.device, kind) in raised)
                alarm.add_metric([reading.device, kind.value], value)
        yield from (available, foreign, drift, alarm)


def status_document(ledgers: Ledgers | None, now_ns: int) -> dict[str, Any]:
    """The ledgers as JSON: `devices` and `alarms`."""
    if ledgers is None:
        return {"devices": [], "alarms": []}
    return {
        "devices": [
            {
                "id": reading.device,
                "budget_bytes": reading.budget_bytes,
                "booked_bytes": reading.booked_bytes,
                "measured_bytes": reading.measured_bytes,
                "expected_bytes": reading.expected_bytes,
                "drift_bytes": reading.drift_bytes,
                "available_bytes": reading.available_bytes,
                "foreign_bytes": reading.foreign_bytes,
                "age_s": max(now_ns - reading.as_of_ns, 0) / SECOND,
            }
            for reading in ledgers.readings
        ],
        "alarms": [
            {
                "device": alarm.device,
                "kind": alarm.kind.value,
                "bytes": alarm.bytes,
                "for_s": max(now_ns - alarm.since_ns, 0) / SECOND,
                "message": alarm.text,
            }
            for alarm in ledgers.alarms
        ],
    }


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"slalom_device_{name}", text, labels=["device"])
