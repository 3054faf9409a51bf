"""The host of an engine: its launch, its end, and its lease."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from slalom.config.engine_sections import ModelSection
from slalom.config.sections import DeviceSection
from slalom.fleet.engine_facts import EngineOrder
from slalom.fleet.engine_host import EngineHost, Place
from slalom.testing.patience import until

SERVER = (sys.executable, "-m", "slalom.testing.fake_server", "--port", "${PORT}")


def order(*cmd: str, lease_s: float = 60.0) -> EngineOrder:
    section = {
        "id": "m",
        "engine": {"kind": "command", "cmd": cmd or SERVER, "ready_timeout_seconds": 30},
        "memory": "1MiB",
    }
    model = ModelSection.model_validate(section)
    return EngineOrder(model, DeviceSection(), 64, "engine:m:1", lease_s)


@pytest.fixture
def hosts() -> Iterator[list[EngineHost]]:
    made: list[EngineHost] = []
    yield made
    for host in made:
        host.stop(0.0)


async def gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def test_an_engine_runs_until_it_is_stopped(hosts: list[EngineHost]) -> None:
    host = EngineHost(order(), Place(node="n1"))
    hosts.append(host)
    assert host.facts() is None
    launched = await asyncio.to_thread(host.launch)
    facts = host.facts()
    assert facts == launched.running()
    assert facts is not None
    assert (facts.model, facts.node, facts.pid) == ("m", "n1", os.getpid())
    assert host.progress() == 1.0
    assert host.memory_bytes() > 0
    assert await asyncio.to_thread(host.wait_closed, 0.05) is None
    await asyncio.to_thread(host.stop, 2.0)
    assert "process" in (await asyncio.to_thread(host.wait_closed, 5.0) or "")
    assert host.facts() is None
    await until(lambda: gone(facts.engine_pid), "it has ended")


async def test_the_end_of_an_engine_is_told(hosts: list[EngineHost]) -> None:
    host = EngineHost(order(), Place())
    hosts.append(host)
    facts = (await asyncio.to_thread(host.launch)).running()
    waiting = asyncio.create_task(asyncio.to_thread(host.wait_closed, 30.0))
    os.kill(facts.engine_pid, signal.SIGKILL)
    assert "SIGKILL" in (await waiting or "")


async def test_an_engine_that_no_core_asks_about_ends_by_itself(hosts: list[EngineHost]) -> None:
    lapsed = threading.Event()
    host = EngineHost(order(lease_s=1.0), Place(), on_lapse=lapsed.set)
    hosts.append(host)
    facts = (await asyncio.to_thread(host.launch)).running()
    await until(lambda: gone(facts.engine_pid), "it has ended")
    assert await asyncio.to_thread(lapsed.wait, 10.0)


async def test_a_launch_is_broken_off(hosts: list[EngineHost], tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"import os,time; open({str(mark)!r},'w').write(str(os.getpid())); time.sleep(60)"
    host = EngineHost(order(sys.executable, "-c", code, "${PORT}"), Place())
    hosts.append(host)
    launching = asyncio.create_task(asyncio.to_thread(host.launch))

    async def started() -> bool:
        return mark.exists() and bool(mark.read_text())

    await until(started, "it starts")
    await asyncio.to_thread(host.stop, 0.0)
    assert "ended while it came up" in (await launching).problem
    await until(lambda: gone(int(mark.read_text())), "it has ended")


async def test_an_engine_must_listen_where_its_node_is_reached(hosts: list[EngineHost]) -> None:
    host = EngineHost(order(), Place(host="127.0.0.2"))
    hosts.append(host)
    launched = await asyncio.to_thread(host.launch)
    assert "listens on 127.0.0.1, but is called at 127.0.0.2" in launched.problem
    assert "${HOST}" in launched.problem
    assert not launched.retryable


async def test_why_a_launch_failed_is_told(hosts: list[EngineHost]) -> None:
    host = EngineHost(order("no-such-program", "${PORT}"), Place())
    hosts.append(host)
    launched = await asyncio.to_thread(host.launch)
    assert launched.facts is None
    assert "no-such-program" in launched.problem
    assert launched.code == "engine_start_failed"
