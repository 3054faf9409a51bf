"""The watch over the devices of a configuration: what can be measured is."""

import asyncio
from pathlib import Path

import pytest

from slalom.assembly.parts import assemble
from slalom.config import Config
from slalom.runtime.ledger import AlarmKind
from slalom.units import GIB, MIB


def _config(*devices: dict[str, object]) -> Config:
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-mini"}
    model = {"id": "mini", "engine": engine, "device": str(devices[0]["id"])}
    return Config.model_validate(
        {"devices": list(devices), "models": [model], "journal": {"dir": "none"}}
    )


async def test_main_memory_is_measured_and_other_devices_are_not() -> None:
    parts = assemble(_config({"id": "host", "budget": "64MiB"}, {"id": "far", "budget": "1GiB"}))
    assert parts.ledgers is not None
    await parts.ledgers.read()
    host, far = parts.ledgers.readings
    assert host.available_bytes is not None
    assert host.available_bytes > 64 * MIB
    assert (host.foreign_bytes, far.available_bytes) == (0, None)


async def test_a_budget_that_the_machine_has_not_is_an_alarm_and_less_for_the_scheduler() -> None:
    parts = assemble(_config({"id": "host", "budget": "4000TiB"}))
    assert parts.ledgers is not None
    told = asyncio.Event()
    parts.runtime.on_step.append(lambda _entry: told.set())
    await parts.ledgers.read()
    assert [alarm.kind for alarm in parts.ledgers.alarms] == [AlarmKind.FOREIGN]
    async with asyncio.timeout(10):
        await told.wait()
    (device,) = parts.scheduler.snapshot().devices
    assert device.foreign_bytes == parts.ledgers.readings[0].foreign_bytes > 0
    await parts.runtime.close()


async def test_a_gpu_is_measured_by_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --id=3 ] && echo "81920, 10240"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    parts = assemble(_config({"id": "gpu", "gpu": 3, "budget": "70GiB"}))
    assert parts.ledgers is not None
    text = await parts.ledgers.explain("mini")
    (reading,) = parts.ledgers.readings
    assert (reading.available_bytes, reading.foreign_bytes) == (10 * GIB, 60 * GIB)
    assert "the device has 10.0 GiB left; held by other processes 60.0 GiB" in text
