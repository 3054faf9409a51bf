"""`slalom serve --on ray` on a cluster of its own: it starts, answers, ends, and leaves nothing.

Opt-in (`make test-ray`): needs the environment of `make ray-setup`.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from slalom.testing.patience import until
from tests.ray.fleet import PYTHON

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup"),
]

_CONFIG = """
devices: [{id: host, budget: 1GiB}]
models:
- id: mini
  engine: {kind: llama-cpp, source: "bundled:slalom-mini", threads: 1, context_tokens: 512}
  memory: 100MiB
journal: {dir: none}
batches: {dir: none}
"""


def _start(folder: Path, *more: str) -> "subprocess.Popen[str]":
    file = folder / "slalom.yaml"
    file.write_text(_CONFIG, encoding="utf-8")
    command = [str(PYTHON), "-m", "slalom", "serve", "--on", "ray", "--port", "0", "--json"]
    return subprocess.Popen(
        [*command, "-c", str(file), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _told(program: "subprocess.Popen[str]") -> dict[str, Any]:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, program.communicate()[1]
    told: dict[str, Any] = json.loads(line)
    return told


async def _ask(url: str) -> int:
    body = {"model": "mini", "prompt": "def f(a):", "max_tokens": 4}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http,
        http.post(url + "/v1/completions", json=body) as reply,
    ):
        await reply.read()
        return reply.status


async def test_it_serves_survives_its_core_and_leaves_nothing(tmp_path: Path) -> None:
    program = _start(tmp_path, "--address", "local", "--ingresses", "1")
    try:
        told = _told(program)
        family = psutil.Process(program.pid).children(recursive=True)
        assert await _ask(told["url"]) == 200
        os.kill(told["core"]["pid"], signal.SIGKILL)
        assert await _ask(told["url"]) == 200  # held, and answered by the next life
        family += psutil.Process(program.pid).children(recursive=True)
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=120) == 0, program.communicate()[1]
        await until(lambda: _ended(family), "nothing is left")
    finally:
        program.kill()
        program.communicate()


async def _ended(family: list[psutil.Process]) -> bool:
    return not [one for one in family if one.is_running() and one.status() != "zombie"]


def test_no_cluster_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    program = _start(tmp_path, "--address", "127.0.0.1:1")
    out, err = program.communicate(timeout=120)
    assert (program.returncode, out) == (1, "")
    assert "no Ray cluster answers at 127.0.0.1:1" in err
