"""The memory of a command, read from its command line and the folder that it names."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from slalom.assembly.model_costs import measured
from slalom.config import Config
from slalom.config.footprint import bytes_needed, model_specs
from slalom.errors import ConfigError, ModelError
from slalom.models.safetensors import RUNTIME_BYTES
from slalom.units import GIB
from tests.models.folders import KV_ELEMENTS, make_folder


def _config(cmd: str, **more: object) -> Config:
    engine = {"kind": "command", "cmd": cmd, "places": 1, **more}
    device = {"id": "gpu", "budget": "80GiB", "gpu": 1}
    host = {"id": "host", "budget": "8GiB"}
    model = {"id": "m", "engine": engine, "device": "gpu"}
    return Config.model_validate({"models": [model], "devices": [device, host]})


def _needed(cmd: str, **more: object) -> int:
    return bytes_needed(_config(cmd, **more).models[0])


@pytest.mark.parametrize("option", ["--max-model-len 100", "--max-model-len=100"])
def test_a_folder_in_the_command_is_read(tmp_path: Path, option: str) -> None:
    folder = make_folder(tmp_path / "model")
    cmd = f"serve {folder} --port ${{PORT}}"
    assert _needed(cmd) == 400 + 1024 * KV_ELEMENTS * 2 + RUNTIME_BYTES
    assert _needed(f"{cmd} {option}") == 400 + 100 * KV_ELEMENTS * 2 + RUNTIME_BYTES
    assert _needed("serve --port ${PORT}", model_name=str(folder)) == _needed(cmd)


def test_a_repository_in_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="folder with safetensors"):
        _needed("vllm serve Some/Model --port ${PORT}")
    folder = tmp_path / "models--Some--Model"
    make_folder(folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    assert _needed("vllm serve Some/Model --port ${PORT}") > RUNTIME_BYTES


def test_vllm_takes_its_share_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "81920, 81000"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = make_folder(tmp_path / "model")
    cmd = f"vllm serve {folder} --port ${{PORT}}"
    for more, share in (
        ("", 0.9),
        (" --gpu-memory-utilization 0.4", 0.4),
        (" --gpu-memory-utilization=0.4", 0.4),
        (" --gpu-memory-utilization lots", 0.9),
    ):
        (spec,) = model_specs(_config(cmd + more))
        assert spec.bytes_needed == round(80 * GIB * share)
    (module,) = model_specs(
        _config(f"python -m vllm.entrypoints.openai.api_server --model {folder} --port ${{PORT}}")
    )
    assert module.bytes_needed == round(72 * GIB)
    (other,) = model_specs(_config(f"other {folder} --port ${{PORT}}"))
    assert other.bytes_needed < 3 * GIB


def test_a_sleeper_needs_host_memory_for_its_weights_only(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    config = _config(f"vllm serve {folder} --port ${{PORT}}", sleep="vllm")
    model = config.models[0].model_copy(update={"sleep_level": 1})
    (spec,) = model_specs(config.model_copy(update={"models": (model,)}))
    assert spec.host_bytes == 400


def test_a_damaged_folder_is_told_and_is_no_file_to_measure(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    config = _config(f"serve {folder} --port ${{PORT}}")
    whole = measured(config.models[0])
    assert whole is not None
    assert len(whole.files) == 1
    next(folder.glob("*.safetensors")).write_bytes(b"")
    with pytest.raises(ModelError, match="no safetensors"):
        bytes_needed(config.models[0])
    broken = measured(config.models[0])
    assert broken is not None
    assert broken.files == ()
