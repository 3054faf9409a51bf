"""A GPU's memory, read from a program that answers as nvidia-smi does."""

from pathlib import Path

import pytest

from slalom.config import Config
from slalom.config.params import device_specs
from slalom.engines import process
from slalom.errors import ConfigError
from slalom.models.gpu_memory import GpuMemory, gpu_bytes_of, gpu_memory
from slalom.units import GIB, MIB

_PROGRAM = """#!/bin/sh
[ "$1" = "--id=1" ] || { echo "No devices were found"; exit 6; }
case "$2" in
  --query-gpu=*) echo "81920, 61440" ;;
  --query-compute-apps=*) printf '10, 2048\\n11, 1024\\n12, [N/A]\\n' ;;
esac
"""


@pytest.fixture
def _driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("_driver")
def test_a_gpu_tells_its_memory_and_who_holds_it() -> None:
    assert gpu_memory(1) == GpuMemory(80 * GIB, 60 * GIB)
    assert gpu_bytes_of(1, {10, 11}) == 3 * GIB
    assert gpu_bytes_of(1, {10, 12}) == 2048 * MIB
    assert gpu_bytes_of(1, {99}) is None


@pytest.mark.usefixtures("_driver")
def test_a_gpu_that_is_not_there_tells_nothing() -> None:
    assert gpu_memory(0) is None
    assert gpu_bytes_of(0, {10}) is None


@pytest.mark.usefixtures("_driver")
def test_the_budget_of_a_gpu_can_be_auto() -> None:
    device = {"id": "gpu1", "gpu": 1, "auto_share": 0.5}
    (spec,) = device_specs(Config.model_validate({"devices": [device], "models": []}))
    assert spec.budget_bytes == 30 * GIB


@pytest.mark.usefixtures("_driver")
async def test_a_replica_on_a_gpu_is_measured_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, set[int]]] = []

    def held(index: int, pids: set[int]) -> int:
        asked.append((index, pids))
        return 5 * GIB

    monkeypatch.setattr(process, "gpu_bytes_of", held)
    running = await process.EngineProcess.start(["sleep", "60"], gpu=1)
    here = await process.EngineProcess.start(["sleep", "60"])
    try:
        assert await running.device_bytes() == 5 * GIB
        assert asked == [(1, {running.pid})]
        assert 0 < await here.device_bytes() < GIB
    finally:
        await running.stop(0.0)
        await here.stop(0.0)
    assert await running.device_bytes() == 0


def test_without_a_driver_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory(1) is None
    assert gpu_bytes_of(1, {10}) is None
    config = Config.model_validate({"devices": [{"id": "gpu1", "gpu": 1}], "models": []})
    with pytest.raises(ConfigError, match="nvidia-smi tells nothing of GPU 1"):
        device_specs(config)
