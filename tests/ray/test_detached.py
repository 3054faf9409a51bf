"""`slalom serve --on ray --detach` and `--stop`: a server that stays, and goes without a trace.

Opt-in (`make test-ray`): needs the environment of `make ray-setup`.
"""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
import yaml

from slalom.testing.patience import until
from tests.ray.fleet import (
    HEADERS,
    PYTHON,
    TOKEN_S,
    Nodes,
    RayCluster,
    cluster,
    configuration,
    engines_of,
    run_to_end,
)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup"),
]

_NODES: Nodes = [{"num_cpus": 0}, {"num_cpus": 4, "resources": {"core": 1}}]
#: An answer that is still under way when the server is stopped, and that the drain waits for.
_TOKENS = 500


async def test_a_server_that_was_left_stays_until_it_is_stopped(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    config["server"] = {"drain_seconds": 60}
    (tmp_path / "slalom.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with cluster(tmp_path, _NODES) as ray:
        left = await asyncio.to_thread(run_to_end, tmp_path, ray.address, "--detach")
        assert left.returncode == 0, left.stderr
        told = json.loads(left.stdout)
        url = str(told["url"])
        assert await _ask(url, 2) == "r-1:0 r-1:1 "
        again = await asyncio.to_thread(run_to_end, tmp_path, ray.address, "--detach")
        assert (again.returncode, again.stdout) == (1, "")
        assert "runs on this cluster already" in again.stderr
        assert "Traceback" not in again.stderr
        asking = asyncio.create_task(_ask(url, _TOKENS))
        await until(lambda: _is_begun(tmp_path), "an answer is under way")
        stopped = await asyncio.to_thread(run_to_end, tmp_path, ray.address, "--stop")
        assert stopped.returncode == 0, stopped.stderr
        assert (await asking).split() == [f"r-1:{number}" for number in range(_TOKENS)]
        await until(lambda: _nothing_left(ray, tmp_path, told), "nothing is left")
        none = await asyncio.to_thread(run_to_end, tmp_path, ray.address, "--stop")
        assert none.returncode == 1
        assert "nothing was stopped" in none.stderr


async def _ask(url: str, tokens: int) -> str:
    body = {"model": "one", "prompt": "<r-1>", "max_tokens": tokens}
    limit = aiohttp.ClientTimeout(total=60 + tokens * TOKEN_S)
    async with (
        aiohttp.ClientSession(headers=HEADERS, timeout=limit) as session,
        session.post(f"{url}/v1/completions", json=body) as reply,
    ):
        return str((await reply.json())["choices"][0]["text"])


async def _is_begun(folder: Path) -> bool:
    """Whether an engine works on the second request."""
    return (folder / "engines.log").read_text().count("begin") >= 2


async def _nothing_left(ray: RayCluster, folder: Path, told: dict[str, object]) -> bool:
    if ray.actors() or ray.groups() or engines_of(folder / "engines.log"):
        return False
    ingresses = told["ingresses"]
    assert isinstance(ingresses, list)
    for one in ingresses:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{one['url']}/ingress"):
                return False
        except aiohttp.ClientConnectionError:
            continue
    return True
