"""What the ledgers' watch finds is in `/metrics` and `/admin/status`."""

from dataclasses import dataclass

from slalom.gateway.auth import key_digest
from slalom.gateway.ledger_metrics import LedgerCollector, status_document
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.runtime.ledger import Alarm, AlarmKind, Reading
from slalom.units import SECOND
from tests.gateway.house import house


@dataclass
class _Ledgers:
    readings: tuple[Reading, ...] = (
        Reading("host", 1_000, 600, 500, 450, 300, 100, 2 * SECOND),
        Reading("far", 2_000, 0, 0, 0, None, 0, 2 * SECOND),
    )
    alarms: tuple[Alarm, ...] = (Alarm("host", AlarmKind.FOREIGN, 100, SECOND, "others hold it"),)


def test_every_figure_is_a_gauge_by_device() -> None:
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for metric in LedgerCollector(_Ledgers).collect()
        for sample in metric.samples
    }
    assert found["slalom_device_available_bytes", "host"] == 300
    assert found["slalom_device_foreign_bytes", "host"] == 100
    assert found["slalom_device_expected_drift_bytes", "host"] == 50
    assert found["slalom_device_alarm", "foreign_memory", "host"] == 1
    assert found["slalom_device_alarm", "drift", "host"] == 0
    assert found["slalom_device_alarm", "far", "foreign_memory"] == 0
    assert ("slalom_device_available_bytes", "far") not in found


def test_the_status_says_what_is_wrong_and_since_when() -> None:
    document = status_document(_Ledgers(), 5 * SECOND)
    host, far = document["devices"]
    assert (host["drift_bytes"], host["foreign_bytes"], host["age_s"]) == (50, 100, 3.0)
    assert far["available_bytes"] is None
    assert document["alarms"] == [
        {
            "device": "host",
            "kind": "foreign_memory",
            "bytes": 100,
            "for_s": 4.0,
            "message": "others hold it",
        }
    ]


async def test_the_gateway_shows_them_once_there_are_any() -> None:
    admin = KeyEntry("root", key_digest("secret"), admin=True)
    headers = {"x-api-key": "secret"}
    async with house(params=GatewayParams((ServedModel("a"),), keys=(admin,))) as world:
        _, empty, _ = await world.get("/admin/status", headers)
        assert empty == {"devices": [], "alarms": []}
        world.gateway.show_ledgers(_Ledgers())
        _, document, _ = await world.get("/admin/status", headers)
        assert [device["id"] for device in document["devices"]] == ["host", "far"]
        async with world.http.get(f"{world.url}/metrics", headers=headers) as reply:
            assert 'slalom_device_foreign_bytes{device="host"} 100.0' in await reply.text()
