"""Models that come and go at people's word, live: aliases, a stalled load, the command line."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from slalom.config.footprint import bytes_needed
from slalom.config.schema import Config
from slalom.units import MIB
from tests.live.live_server import KEY, LiveServer, events, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

MINI, SMALL = "slalom-mini", "slalom-small"
BOTH = {"models": [model(MINI), model(SMALL)]}
#: Room for either of the two models, not for both.
BUDGET = max(bytes_needed(section) for section in Config.model_validate(BOTH).models) + 5 * MIB
ONE_MODEL: dict[str, Any] = {**BOTH, "devices": [{"id": "host", "budget": BUDGET}]}


def aliased(kind: str, **options: object) -> dict[str, Any]:
    """Room for one model, and a name for both, the small one first."""
    alias = {"id": "any", "targets": [SMALL, MINI], "kind": kind, **options}
    return {**ONE_MODEL, "aliases": [alias]}


async def ask(server: LiveServer, name: str) -> tuple[int, str, str]:
    """Status, the model that the header names, and the one that the body names."""
    body = {"model": name, "prompt": "def f(a):\n    ", "max_tokens": 4}
    async with server.session.post(f"{server.url}/v1/completions", json=body) as reply:
        told = await reply.json()
        return reply.status, reply.headers.get("x-slalom-model", ""), str(told.get("model"))


async def test_the_model_that_is_up_serves_for_the_one_that_is_not(tmp_path: Path) -> None:
    async with live_server(tmp_path, aliased("warm-first")) as server:
        assert await ask(server, "any") == (200, SMALL, SMALL), "nothing was up: the first"
        assert (await ask(server, MINI))[:2] == (200, MINI)
        assert await ask(server, "any") == (200, MINI, MINI)
        assert await server.counter("loads") == 2, "nothing was loaded for the degraded one"


async def test_twenty_at_once_for_an_alias_cause_one_load(tmp_path: Path) -> None:
    async with live_server(tmp_path, aliased("warm-first")) as server:
        answers = await asyncio.gather(*(ask(server, "any") for _ in range(20)))
        assert answers == [(200, SMALL, SMALL)] * 20
        assert await server.counter("loads") == 1


async def test_a_queue_that_is_too_long_spills_over(tmp_path: Path) -> None:
    both_fit = {**BOTH, "aliases": aliased("spillover", max_wait_ms=86_400_000)["aliases"]}
    both_fit["models"] = [model(MINI), model(SMALL, places=1)]
    both_fit["aliases"][0]["max_waiting"] = 0
    both_fit["scheduler"] = {"admission": {"kind": "open"}}  # nobody is refused for being late
    async with live_server(tmp_path, both_fit) as server:
        assert (await ask(server, MINI))[0] == (await ask(server, SMALL))[0] == 200
        streams = [asyncio.create_task(_read(server, SMALL, 400)) for _ in range(3)]
        await server.until(lambda: _waits(server), "two wait for the first")
        assert (await ask(server, "any"))[:2] == (200, MINI)
        for stream in streams:
            assert (await stream).endswith(b"[DONE]\n\n")


async def _read(server: LiveServer, name: str, tokens: int) -> bytes:
    async with server.stream(name, tokens) as reply:
        return await reply.content.read()


async def _waits(server: LiveServer) -> bool:
    models = {one["id"]: one for one in (await server.snapshot())["models"]}
    return int(models[SMALL]["waiting"]) >= 1


STANDS_STILL = "import time; kept = bytearray(60 << 20); time.sleep(600)"


async def test_a_load_that_stands_still_is_given_up_with_its_reason(tmp_path: Path) -> None:
    """A program that takes a part of its memory and then does nothing more."""
    engine = {"kind": "command", "cmd": f"{sys.executable} -c {STANDS_STILL!r} ${{PORT}}"}
    config = {
        "models": [{"id": "stuck", "memory": "400MiB", "engine": engine}, model(MINI)],
        "devices": [{"id": "host", "budget": "2GiB"}],
        "scheduler": {"load_stall_seconds": 1, "load_failures_max": 1},
    }
    async with live_server(tmp_path, config) as server:
        began = time.monotonic()
        stuck = asyncio.create_task(_read(server, "stuck", 4))
        answer = await server.complete(MINI)
        assert answer["status"] == 200, "others are served meanwhile"
        data = await stuck
        assert time.monotonic() - began < 60, "the whole time of a load is ten minutes"
        assert b"load_stalled" in data
        assert b"stood still at" in data
        refused = await server.complete("stuck")
        assert refused["error"]["code"] == "model_load_backoff"
        await server.until(lambda: _nothing_of(server, "stuck"), "its process is ended")


async def _nothing_of(server: LiveServer, name: str) -> bool:
    models = {one["id"]: one for one in (await server.snapshot())["models"]}
    return not models[name]["replicas"]


async def test_the_command_line_steers_a_running_server(tmp_path: Path) -> None:
    async with live_server(tmp_path, ONE_MODEL) as server:

        async def told(*words: str, status: int = 0) -> str:
            command = [sys.executable, "-m", "slalom", "models", *words]
            process = await asyncio.create_subprocess_exec(
                *(*command, "--url", server.url, "--key", KEY),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            out, _ = await process.communicate()
            assert process.returncode == status, out.decode()
            return out.decode()

        assert await told("load", MINI, "--wait", "60") == f"{MINI}: ready\n"

        async def would_give_way() -> bool:
            return f"Would give way: {MINI}#0." in await told("plan", SMALL)

        await server.until(would_give_way, "the shortest life of the first one is over")
        await told("pin", MINI)
        assert f"Memory is held by {MINI}#0" in await told("load", SMALL, status=1)
        assert "unpin it first" in await told("unload", MINI, status=1)
        await told("unpin", MINI)
        assert await told("unload", MINI, "--wait", "60") == f"{MINI}: cold\n"
        assert not server.engines()


async def test_a_stream_for_an_alias_names_its_model_before_it_begins(tmp_path: Path) -> None:
    config = {**aliased("warm-first"), "server": {"wait_comment_after_ms": 0}}
    async with live_server(tmp_path, config) as server, server.stream("any", 4) as reply:
        assert reply.headers["x-slalom-model"] == SMALL
        told = events(await reply.content.read())
        assert {event["model"] for event in told if isinstance(event, dict)} == {SMALL}
