"""A core's life after another: what it takes over, what it ends, what it remembers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import psutil
import pytest

from slalom.config.schema import Config
from slalom.fleet.core_server import CoreOrder, CoreServer
from slalom.fleet.engine_facts import EngineFacts
from slalom.fleet.hosted_engine import FoundEngines
from slalom.fleet.passing_on import PassedOn
from slalom.fleet.ray_core import hosted
from slalom.testing.patience import until
from tests.fleet.local_hosts import LocalHosts

MINI = {"kind": "llama-cpp", "source": "bundled:slalom-mini", "context_tokens": 512, "places": 2}


def config(**model: object) -> Config:
    """One small model, on 100 MB."""
    section = {"id": "mini", "engine": MINI, "memory": "100MiB", **model}
    return Config.model_validate(
        {
            "devices": [{"id": "host", "budget": "150MiB"}],
            "models": [section],
            "journal": {"dir": "none"},
            "batches": {"dir": "none"},
            "measurements": {"file": "none"},
        }
    )


class Kept:
    """`Kept` in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.blobs.get(name)

    def put(self, name: str, blob: bytes) -> None:
        self.blobs[name] = blob


@asynccontextmanager
async def life(
    name: str,
    hosts: LocalHosts,
    told: Config | None = None,
    kept: Kept | None = None,
    found: FoundEngines | None = None,
) -> AsyncIterator[CoreServer]:
    """One life; at its end it is dropped as a killed process is, and its engines run on."""
    found = await hosts.found() if found is None else found
    order = CoreOrder(told or config(), "s", name)
    core = CoreServer(order, hosted(hosts, found, lease_s=60.0), found, kept)
    await core.start()
    before = asyncio.all_tasks()
    try:
        yield core
    finally:
        mine = [one for one in asyncio.all_tasks() if one not in before]
        lives = [one for one in asyncio.all_tasks() if one.get_name().startswith("replica ")]
        for task in {*mine, *lives} - {asyncio.current_task()}:
            task.cancel()
        await core._server.stop(0.0)
        for work in core._besides:
            work.cancel()
        await asyncio.gather(*core._besides, return_exceptions=True)


@pytest.fixture
async def hosts() -> AsyncIterator[LocalHosts]:
    made = LocalHosts()
    yield made
    await made.close()


async def ask(
    core: CoreServer,
    path: str = "/v1/completions",
    whole: dict[str, object] | None = None,
    **more: object,
) -> tuple[int, str]:
    lines = PassedOn(0, f"t-{id(more)}", "").headers("s")
    headers = {name.decode(): value.decode() for name, value in lines}
    body = whole or {"model": "mini", "prompt": "def f(a):", "max_tokens": 2, **more}
    url = f"http://127.0.0.1:{core.address.port}{path}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as http,
        http.post(url, json=body, headers=headers) as reply,
    ):
        return reply.status, await reply.text()


async def facts_of(hosts: LocalHosts) -> EngineFacts:
    (host,) = hosts.running.values()
    facts = await host.facts()
    assert facts is not None
    return facts


async def test_the_next_life_goes_on_with_the_engines_of_the_last(hosts: LocalHosts) -> None:
    async with life("one", hosts) as core:
        assert (core.taken_over, core.ended) == (0, 0)
        assert (await ask(core))[0] == 200
        before = await facts_of(hosts)
    async with life("two", hosts) as core:
        assert (core.taken_over, core.ended) == (1, 0)
        assert (await ask(core))[0] == 200
        assert (await facts_of(hosts)).engine_pid == before.engine_pid
        assert hosts.started == 1
        model = core.parts.scheduler.model_snapshot("mini")
        assert model is not None
        (replica,) = model.replicas
        assert replica.measured_bytes > 0
        assert await core.drain() == 0
    await until(lambda: _gone(before.engine_pid), "the engine has ended")
    assert not hosts.running


async def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


async def test_an_engine_that_was_started_otherwise_is_ended(hosts: LocalHosts) -> None:
    async with life("one", hosts) as core:
        assert (await ask(core))[0] == 200
        before = await facts_of(hosts)
    changed = config(engine={**MINI, "context_tokens": 1024})
    async with life("two", hosts, changed) as core:
        assert (core.taken_over, core.ended, hosts.started) == (0, 1, 1)
        await until(lambda: _gone(before.engine_pid), "the engine has ended")
        assert (await ask(core))[0] == 200
        assert (await facts_of(hosts)).engine_pid != before.engine_pid


async def test_an_engine_whose_machine_is_lost_is_replaced(hosts: LocalHosts) -> None:
    async with life("one", hosts) as core:
        assert (await ask(core))[0] == 200
        (lost,) = hosts.running.values()
        lost.lost = True
        psutil.Process((await _facts(lost.host)).engine_pid).kill()
        await until(lambda: _answers(core), "another engine answers")
        assert hosts.started == 2


async def _facts(host: object) -> EngineFacts:
    facts = await asyncio.to_thread(host.facts)  # type: ignore[attr-defined]
    assert isinstance(facts, EngineFacts)
    return facts


async def _answers(core: CoreServer) -> bool:
    return (await ask(core))[0] == 200


async def test_chains_go_on_in_the_next_life(hosts: LocalHosts) -> None:
    kept = Kept()
    steps = [{"name": "write", "model": "mini"}, {"name": "fix", "model": "mini"}]
    opening = {"steps": steps, "deadline_ms": 60_000}
    async with life("one", hosts, kept=kept) as core:
        status, text = await ask(core, "/v1/chains", opening)
        assert status == 200, text
        chain_id = json.loads(text)["id"]
        chain = {"id": chain_id}
        status, text = await ask(core, slalom_chain=chain)
        assert status == 200, text
        known = core.parts.gateway.shared.chains.find("", chain_id)
        assert known.done == 1
        await until(lambda: _holds(b'"done":1' in kept.blobs.get("chains", b"")), "it is kept")
        deadline_ns = known.deadline_ns
    async with life("two", hosts, kept=kept) as core:
        known = core.parts.gateway.shared.chains.find("", chain_id)
        assert (known.done, known.done_step, known.next_step()) == (1, "write", "fix")
        assert abs(known.deadline_ns - deadline_ns) < 5_000_000
        assert (await ask(core, slalom_chain=chain))[0] == 200
        assert known.is_over


async def _holds(condition: object) -> bool:
    return bool(condition)


async def test_damaged_keepsakes_are_no_reason_not_to_start(hosts: LocalHosts) -> None:
    kept = Kept()
    kept.blobs |= {"chains": b"[{", "learned": b'{"../x": 3}'}
    async with life("one", hosts, kept=kept) as core:
        assert len(core.parts.gateway.shared.chains) == 0
