"""Starts of real vLLM that fail, and one that is measured: opt-in (`make test-vllm`)."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.vllm.model_folder import write_folder
from tests.vllm.server import MODEL, PATIENCE_S, PROMPT, SOURCE, configuration, real_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]


async def why_it_fails(place: Path, python: Path, env: Mapping[str, str] | None = None) -> str:
    """The error of the first request, whose model does not come up."""
    config = configuration(python, place / "model")
    config["models"][0]["engine"]["env"].update(env or {})
    async with real_server(place, config) as server:
        status, told, _ = await server.post(
            "/v1/completions", {"model": MODEL, "prompt": PROMPT, "max_tokens": 1}
        )
        assert status >= 500
        return str(told["error"]["message"])


async def test_a_model_that_vllm_does_not_know_is_told_in_words(
    tmp_path: Path, vllm_python: Path
) -> None:
    folder = write_folder(SOURCE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "slalomine", "architectures": ["SlalomineForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    said = await why_it_fails(tmp_path, vllm_python)
    assert "vLLM does not know the model type slalomine" in said


async def test_too_little_memory_is_told_in_words(tmp_path: Path, vllm_python: Path) -> None:
    """The process that computes finds out, and the one that listens buries it in its own words."""
    write_folder(SOURCE, tmp_path / "model")
    said = await why_it_fails(tmp_path, vllm_python, {"VLLM_CPU_KVCACHE_SPACE": "100000"})
    assert "Less main memory is free than the model is booked with" in said


async def test_profiling_measures_it(tmp_path: Path, vllm_python: Path) -> None:
    """`slalom models profile` loads it, asks it and remembers what that took."""
    folder = write_folder(SOURCE, tmp_path / "model")
    path = tmp_path / "slalom.yaml"
    path.write_text(yaml.safe_dump(configuration(vllm_python, folder)))
    command = ["-m", "slalom", "models", "profile", MODEL, "--repeats", "1", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--config", str(path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    (profiled,) = json.loads(out)
    quantities = {row["quantity"] for row in profiled["measured"]}
    assert {"load", "memory"} <= {name.split("_")[0] for name in quantities}, quantities
