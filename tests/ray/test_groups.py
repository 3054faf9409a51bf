"""Engines of two GPUs on a Ray cluster: what Ray keeps free for them is held once, and given back.

Opt-in (`make test-ray`): needs the environment of `make ray-setup`, and no GPU: what a node has is
what it says.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml

from slalom.testing.patience import until
from tests.ray.fleet import (
    HEADERS,
    PYTHON,
    Nodes,
    RayCluster,
    cluster,
    configuration,
    engines_of,
    served,
)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup"),
]

#: Room for one pair on each of two nodes, and for the core on both.
_WORKER = {"num_cpus": 2, "num_gpus": 2, "resources": {"core": 1}}
_NODES: Nodes = [{"num_cpus": 0}, _WORKER, _WORKER]
_PLACE_S = 20.0
_SETTLED_S = 90.0


def _configure(folder: Path, lease_s: float) -> None:
    """One model of two GPUs from the start, and one of three, which no node has."""
    config = configuration(folder)
    model = {**config["models"][0], "replicas": 1}
    config["models"] = [
        {**model, "id": "pair", "ray": {"cpus": 1, "gpus": 2}},
        {**model, "id": "trio", "pinned": False, "ray": {"cpus": 1, "gpus": 3}},
    ]
    config["scheduler"] = {"load_failures_max": 1}
    config["ray"] |= {
        "ingress_replicas": 1,
        "place_seconds": _PLACE_S,
        "engine_lease_seconds": lease_s,
    }
    (folder / "slalom.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


class Pairs:
    """A server with such a model on a cluster of its own."""

    def __init__(
        self,
        folder: Path,
        ray: RayCluster,
        process: "subprocess.Popen[bytes]",
        told: dict[str, Any],
    ) -> None:
        self.ray = ray
        self.process = process
        self.url = str(told["url"])
        self.core_pid = int(told["core"]["pid"])
        self._folder = folder

    def engine(self) -> psutil.Process:
        """The one that lives."""
        (found,) = engines_of(self._folder / "engines.log")
        return found

    async def held(self) -> str:
        """The one group there is, once it holds two GPUs for the one engine there is."""
        found = ""

        async def one() -> bool:
            nonlocal found
            groups, engines = self.ray.groups(), engines_of(self._folder / "engines.log")
            if len(groups) != 1 or len(engines) != 1 or groups[0]["state"] != "CREATED":
                return False
            assert [one["GPU"] for one in groups[0]["bundles"]] == [2]
            found = str(groups[0]["name"])
            with suppress(psutil.Error):
                given = engines[0].environ().get("CUDA_VISIBLE_DEVICES", "")
                assert sorted(given.split(",")) == ["0", "1"]
                return (await self.ask("pair"))[0] == 200
            return False

        await until(one, "one group for one engine", seconds=_SETTLED_S, explain=self.about)
        return found

    async def nothing_left(self) -> None:
        """Wait until no group, no actor and no engine is there."""

        async def gone() -> bool:
            return not (self.ray.groups() or self.ray.actors() or self._engines())

        await until(gone, "nothing is left", seconds=_SETTLED_S, explain=self.about)

    async def ask(self, model: str) -> tuple[int, dict[str, Any]]:
        """A completion: status and document."""
        body = {"model": model, "prompt": "<r-1>", "max_tokens": 1}
        limit = aiohttp.ClientTimeout(total=_SETTLED_S)
        try:
            async with (
                aiohttp.ClientSession(headers=HEADERS, timeout=limit) as session,
                session.post(f"{self.url}/v1/completions", json=body) as reply,
            ):
                return reply.status, await reply.json()
        except aiohttp.ClientError as problem:
            return 0, {"problem": str(problem)}

    def _engines(self) -> list[psutil.Process]:
        return engines_of(self._folder / "engines.log")

    def about(self) -> str:
        """For whoever reads a failure."""
        log = (self._folder / "serve.log").read_text(errors="replace")[-1500:]
        state = {"groups": self.ray.groups(), "actors": self.ray.actors()}
        return f"{json.dumps(state)} {self._engines()} {log}"


@contextmanager
def _pairs(folder: Path, lease_s: float = 120.0) -> Iterator[Pairs]:
    _configure(folder, lease_s)
    with cluster(folder, _NODES) as ray, served(folder, ray.address) as (process, told):
        yield Pairs(folder, ray, process, told)


async def test_a_group_lives_exactly_as_long_as_its_engine(tmp_path: Path) -> None:
    with _pairs(tmp_path) as up:
        first = await up.held()
        os.kill(up.core_pid, signal.SIGKILL)
        assert await up.held() == first, "the next life of the core goes on with the engine"
        os.kill(up.engine().ppid(), signal.SIGKILL)
        second = await up.held()
        assert second != first, "the engine that was lost has a successor"
        up.process.terminate()
        assert up.process.wait(60) == 0
        await up.nothing_left()


async def test_what_no_node_has_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with _pairs(tmp_path) as up:
        held = await up.held()
        began_s = time.monotonic()
        status, document = await up.ask("trio")
        assert status == 503, document
        assert time.monotonic() - began_s < _PLACE_S + 15.0
        assert document["error"]["code"] == "engine_start_failed"
        assert "3 GPU on one node, and no node has that" in document["error"]["message"]
        assert await up.held() == held
        up.process.terminate()
        assert up.process.wait(60) == 0
        await up.nothing_left()


async def test_a_group_whose_engine_dies_with_the_core_is_found_by_the_next(
    tmp_path: Path,
) -> None:
    with _pairs(tmp_path, lease_s=15.0) as up:
        first = await up.held()
        engine, core = up.engine().ppid(), up.core_pid
        os.kill(core, signal.SIGKILL)
        os.kill(engine, signal.SIGKILL)
        assert await up.held() != first
        # Nobody is told to end: engine and group must do so by themselves.
        up.process.kill()
        await up.nothing_left()
