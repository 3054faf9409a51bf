"""A model that vLLM serves: its section, the memory it is booked with and its share of a GPU."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from slalom.assembly.launchers import launcher_for
from slalom.assembly.model_costs import ModelCosts, measured
from slalom.assembly.model_facts import facts_of
from slalom.cli import app
from slalom.config import Config
from slalom.config.footprint import model_specs
from slalom.config.load import load
from slalom.engines.command import CommandLauncher
from slalom.errors import ConfigError
from slalom.models.measurements import Measurement, Quantity, Tier
from slalom.models.safetensors import RUNTIME_BYTES
from slalom.units import GIB
from tests.models.folders import KV_ELEMENTS, make_folder

#: Tensor data and parameters of `make_folder`'s model, and its context, tokens.
WEIGHTS, PARAMETERS, CONTEXT = 400, 200, 1024


def config_of(
    folder: Path | str, *, model: Any = None, gpu: int | None = 0, **engine: Any
) -> Config:
    device = {"id": "gpu", "budget": "80GiB", "gpu": gpu, "host": "host"}
    section = {
        "id": "m",
        "engine": {"kind": "vllm", "model": str(folder), "places": 1, **engine},
        "device": "gpu",
        **(model or {}),
    }
    devices = [device, {"id": "host", "budget": "8GiB"}]
    return Config.model_validate({"models": [section], "devices": devices})


def needed(folder: Path, *, device: str = "gpu", **engine: Any) -> int:
    (spec,) = model_specs(config_of(folder, model={"device": device}, **engine))
    return spec.bytes_needed


def words_of(config: Config, index: int = 0) -> list[str]:
    gpus = {device.id: device.gpu for device in config.devices}
    model = config.models[index]
    launcher, _ = launcher_for(model, tokens_max=1, gpu=gpus[model.homes[0]])
    assert isinstance(launcher, CommandLauncher)
    return launcher.words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model")


@pytest.fixture
def _a_gpu_of_80_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "81920, 81000"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_the_memory_of_a_gpu_is_weights_kv_cache_and_runtime(folder: Path) -> None:
    kv = CONTEXT * KV_ELEMENTS
    assert needed(folder) == WEIGHTS + 2 * kv + RUNTIME_BYTES
    assert needed(folder, context_tokens=512) == WEIGHTS + kv + RUNTIME_BYTES
    assert needed(folder, kv_cache_dtype="fp8") == WEIGHTS + kv + RUNTIME_BYTES
    assert needed(folder, places=3) == WEIGHTS + 6 * kv + RUNTIME_BYTES
    halves = needed(folder, tensor_parallel=2)
    assert halves == WEIGHTS // 2 + kv + RUNTIME_BYTES
    assert needed(folder, dtype="float32") == PARAMETERS * 4 + 4 * kv + RUNTIME_BYTES


def test_main_memory_holds_a_kv_cache_of_whole_gib(folder: Path) -> None:
    assert needed(folder, device="host") == WEIGHTS + GIB + RUNTIME_BYTES
    config = config_of(folder, model={"device": "host", "memory": "6GiB"})
    launcher, able = launcher_for(config.models[0], tokens_max=1)
    assert isinstance(launcher, CommandLauncher)
    assert launcher.options.env["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert able.sleep_levels == ()


@pytest.mark.usefixtures("_a_gpu_of_80_gib")
def test_models_share_a_gpu_by_what_each_is_booked_with(folder: Path) -> None:
    config = config_of(folder, model={"memory": "20GiB"})
    other = config.models[0].model_copy(update={"id": "n", "memory": 50 * GIB})
    both = config.model_copy(update={"models": (*config.models, other)})
    shares = []
    for index in (0, 1):
        words = words_of(both, index)
        shares.append(float(words[words.index("--gpu-memory-utilization") + 1]))
    assert shares == [0.2437, 0.6187], "and half a gibibyte each for what vLLM does not count"
    with pytest.raises(ConfigError, match=r"needs 90.0 GiB of GPU 0, which has 80.0 GiB"):
        words_of(config_of(folder, model={"memory": "90GiB"}))


@pytest.mark.usefixtures("_a_gpu_of_80_gib")
def test_what_was_measured_does_not_make_vllm_take_more(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder)
    kept = config.measurements.model_copy(update={"file": str(tmp_path / "seen.sqlite")})
    config = config.model_copy(update={"measurements": kept})
    costs = ModelCosts(config)
    figures = [
        Measurement(Quantity.MEMORY, Tier.MIXED, 70 * GIB, 1.0),
        Measurement(Quantity.LOAD, Tier.MIXED, 5, 1.0),
    ]
    costs.keep("m", figures)
    (spec,) = model_specs(config)
    (told,) = costs.tell((spec,))
    assert told.bytes_needed == spec.bytes_needed
    assert told.load_ns == 5, "what a load took is believed"
    made = measured(config.models[0])
    assert made is not None
    assert made.files, "its weights' place in the page cache is a load's tier"


def test_without_nvidia_smi_a_share_must_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="nobody knows what share"):
        words_of(config_of(folder))
    words = words_of(config_of(folder, extra=["--gpu-memory-utilization", "0.5"]))
    assert words.count("--gpu-memory-utilization") == 1


def test_a_sleeper_sleeps_on_a_gpu_only(folder: Path) -> None:
    extra = ["--gpu-memory-utilization=0.5"]
    config = config_of(folder, model={"sleep_level": 1}, extra=extra)
    (spec,) = model_specs(config)
    assert (spec.host_bytes, spec.residual_bytes) == (WEIGHTS, GIB)
    given = config_of(folder, model={"sleep_level": 2, "sleep_residual": "3GiB"}, extra=extra)
    assert [(one.host_bytes, one.residual_bytes) for one in model_specs(given)] == [(0, 3 * GIB)]
    assert model_specs(config_of(folder, extra=extra))[0].residual_bytes == 0
    assert "--enable-sleep-mode" in words_of(config)
    with pytest.raises(ValidationError, match="vllm can on a device with a gpu"):
        config_of(folder, model={"sleep_level": 2, "device": "host"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpu": None}, "vLLM must know which GPU 'gpu' is"),
        ({"model": {"device": "host"}, "tensor_parallel": 2}, "device 'host' is no GPU"),
        ({"batch_tokens": 8, "places": 9}, "each of 9 places needs a token"),
        ({"extra": ["--port=9"]}, "--port is Slalom's to choose"),
        ({"extra": ["--host", "0.0.0.0"]}, "--host is Slalom's to choose"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of(folder, **changed)


def test_a_model_that_is_not_here_needs_a_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"correct engine.model, download it, or write memory"):
        model_specs(config_of("Some/Model"))
    config = config_of("Some/Model", model={"memory": "9GiB", "device": "host"})
    assert "Some/Model" in words_of(config)
    facts = facts_of(config.models[0], on_gpu=True)
    assert (facts.on_gpu, facts.file_bytes) == (True, 0)


def test_facts_come_from_the_folder(folder: Path) -> None:
    facts = facts_of(config_of(folder, context_tokens=512).models[0], on_gpu=True)
    assert (facts.context_tokens, facts.trained_context_tokens) == (512, CONTEXT)
    assert (facts.on_gpu, facts.places, facts.file_format) == (True, 1, "safetensors")


FILE = """
models:
  - id: coder
    aliases: [c]
    engine: {kind: vllm, model: model, places: 8, context_tokens: 512, env: {HF_TOKEN: hidden}}
  - id: built-in
    engine: {kind: llama-cpp, source: "bundled:slalom-mini"}
"""


def test_the_command_line_is_shown_without_secrets(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "slalom.yaml"
    file.write_text(FILE)
    assert load(file)[0].models[0].engine.model == str(folder), "relative to the file"  # type: ignore[union-attr]
    result = CliRunner().invoke(app, ["models", "command", "c", "-c", str(file)])
    assert result.exit_code == 0, result.output
    assert f"vllm serve {folder}" in result.stdout
    assert "--port ${PORT}" in result.stdout
    assert "VLLM_CPU_KVCACHE_SPACE=1" in result.stdout
    assert "HF_TOKEN='***'" in result.stdout
    assert "hidden" not in result.stdout
    for name, said in (("built-in", "has no command"), ("codre", "did you mean 'coder'")):
        result = CliRunner().invoke(app, ["models", "command", name, "-c", str(file)])
        assert result.exit_code != 0
        assert said in " ".join(result.output.split())
