"""What users of other servers suffer from, live: real processes, real HTTP, real engines."""

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from slalom.config.footprint import bytes_needed
from slalom.config.schema import Config
from slalom.units import MIB
from tests.live.live_server import HEADERS, events, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

MINI, SMALL = "slalom-mini", "slalom-small"
BOTH = {"models": [model(MINI), model(SMALL)]}
#: Room for either of the two models, not for both.
BUDGET = max(bytes_needed(section) for section in Config.model_validate(BOTH).models) + 5 * MIB
ONE_MODEL = {"devices": [{"id": "host", "budget": BUDGET}]}


async def test_twenty_first_requests_cause_one_load(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        answers = await asyncio.gather(*(server.complete(MINI) for _ in range(20)))
        assert [answer["status"] for answer in answers] == [200] * 20
        assert await server.counter("loads") == 1
        assert len(server.engines()) == 1


async def test_overlapping_traffic_on_one_model_does_not_starve_another(tmp_path: Path) -> None:
    scheduler = {"swap_patience_ms": 500, "min_residency_ms": 200}
    async with live_server(tmp_path, {**BOTH, **ONE_MODEL, "scheduler": scheduler}) as server:
        stop = asyncio.Event()
        served = 0

        async def keep_busy() -> None:
            nonlocal served
            while not stop.is_set():
                assert (await server.complete(MINI, tokens=64, ignore_eos=True))["status"] == 200
                served += 1

        busy = [asyncio.create_task(keep_busy()) for _ in range(3)]
        await server.until(lambda: _true(served > 3), "A is under way")
        began = time.monotonic()
        answer = await server.complete(SMALL)
        waited_s = time.monotonic() - began
        # A's queue is served again as well: nobody starves, in either direction.
        before = served
        await server.until(lambda: _true(served > before + 3), "A is served again")
        stop.set()
        await asyncio.gather(*busy)
        assert answer["status"] == 200
        assert waited_s < 20, "patience, one answer of A and a load take about a second"


async def _true(value: bool) -> bool:
    return value


async def test_a_client_that_leaves_during_the_load_cancels_it(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        leaving = asyncio.create_task(server.complete(SMALL))

        async def loading() -> bool:
            return await server.counter("loads") == 1

        await server.until(loading, "the load has begun")
        leaving.cancel()

        async def gone() -> bool:
            return await server.state(SMALL) == "cold" and not server.engines()

        await server.until(gone, "the load is cancelled and its process gone")
        assert await server.counter("unloads_unwanted") == 1
        assert (await server.complete(SMALL))["status"] == 200


async def test_a_client_that_leaves_mid_stream_frees_the_slot(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        async with server.stream(SMALL, tokens=1000) as reply:
            await reply.content.readany()
            assert (await server.snapshot())["running"] == 1

        async def free() -> bool:
            return int((await server.snapshot())["running"]) == 0

        await server.until(free, "the place is free again")
        assert await server.counter("ended_cancelled") == 1


async def test_kill_9_of_an_engine_mid_stream(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        async with server.stream(SMALL, tokens=1000) as reply:
            first = await reply.content.readany()
            (engine,) = server.engines()
            engine.kill()
            rest = await reply.content.read()
        told = events(first + rest)
        errors = [event["error"] for event in told if isinstance(event, dict) and "error" in event]
        assert [error["code"] for error in errors] == ["engine_crashed"]
        answer = await server.complete(SMALL)
        assert answer["status"] == 200
        (fresh,) = server.engines()
        assert fresh.pid != engine.pid
        assert await server.counter("loads") == 2


async def test_a_stopped_engine_is_replaced(tmp_path: Path) -> None:
    """SIGSTOP: the process lives but answers nothing; the watchdog must notice."""
    async with live_server(tmp_path, BOTH) as server:
        assert (await server.complete(MINI))["status"] == 200
        (engine,) = server.engines()
        engine.suspend()

        async def replaced() -> bool:
            return await server.counter("unloads_failed") == 1

        await server.until(replaced, "the hang is noticed", seconds=60)
        assert (await server.complete(MINI))["status"] == 200
        assert not engine.is_running()


async def test_sigterm_finishes_what_runs_and_exits_0(tmp_path: Path) -> None:
    config = {**BOTH, "server": {"drain_seconds": 30}}
    async with live_server(tmp_path, config) as server:
        async with server.stream(SMALL, tokens=900) as reply:
            data = await reply.content.readany()
            server.terminate()
            refusals: list[str] = []

            async def refuses() -> bool:
                """Until the signal has arrived, requests are still taken."""
                try:
                    answer = await server.complete(MINI)
                except aiohttp.ClientConnectionError:
                    refusals.append("not listening")
                else:
                    refusals.extend([answer["error"]["code"]] if "error" in answer else [])
                return bool(refusals)

            await server.until(refuses, "new requests are refused")
            data += await reply.content.read()
        assert refusals[0] in {"draining", "not listening"}
        assert events(data)[-1] == "[DONE]"
        # The model may write the word: only an event of that name is an error.
        assert not any(isinstance(event, dict) and "error" in event for event in events(data))
        assert await asyncio.to_thread(server.wait, 30) == 0
        assert not server.log.read_text().count("Traceback")


async def test_sigterm_ends_within_the_drain_time_whatever_runs(tmp_path: Path) -> None:
    config = {"models": [model(SMALL, context_tokens=60_000, places=1)]}
    async with live_server(tmp_path, {**config, "server": {"drain_seconds": 1}}) as server:
        engines = []
        async with server.stream(SMALL, tokens=50_000) as reply:
            data = await reply.content.readany()
            engines = server.engines()
            server.terminate()
            data += await reply.content.read()
        assert any(isinstance(e, dict) and "error" in e for e in events(data))
        assert await asyncio.to_thread(server.wait, 30) == 1
        assert not any(engine.is_running() for engine in engines)


async def test_memory_stays_within_the_budget_while_models_take_turns(tmp_path: Path) -> None:
    scheduler = {"swap_patience_ms": 100, "min_residency_ms": 0}
    async with live_server(tmp_path, {**BOTH, **ONE_MODEL, "scheduler": scheduler}) as server:
        peak = 0
        over = False

        async def sample() -> bool:
            nonlocal peak
            peak = max(peak, sum(_rss(engine) for engine in server.engines()))
            return over

        sampler = asyncio.create_task(server.until(sample, "the turns are over", seconds=120))
        for turn in range(6):
            name = (MINI, SMALL)[turn % 2]
            answers = await asyncio.gather(*(server.complete(name, tokens=32) for _ in range(4)))
            assert [answer["status"] for answer in answers] == [200] * 4
        over = True
        await sampler
        (device,) = (await server.snapshot())["devices"]
        assert await server.counter("evictions") >= 5
        assert 0 < peak <= BUDGET, f"peak {peak / MIB:.0f} MiB of {BUDGET / MIB:.0f}"
        assert device["booked_bytes"] <= device["budget_bytes"]
        assert 0 < device["measured_bytes"] <= device["booked_bytes"]


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


async def test_a_load_failure_reaches_a_streaming_client_as_an_error_event(tmp_path: Path) -> None:
    """The client has got its 200 and comments by the time the load fails."""
    failing = {"kind": "command", "cmd": f"{sys.executable} -c {SLOW_FAILURE!r} ${{PORT}}"}
    config = {
        "models": [{"id": "broken", "memory": "1MiB", "engine": failing}],
        "server": {"wait_comment_after_ms": 300, "wait_comment_every_ms": 200},
    }
    async with live_server(tmp_path, config) as server:
        async with server.stream("broken", tokens=4) as reply:
            assert reply.status == 200
            data = await reply.content.read()
        assert b": waiting" in data
        assert b"loading" in data
        (error,) = [event["error"] for event in events(data) if isinstance(event, dict)]
        assert error["code"] == "engine_start_failed"


SLOW_FAILURE = "import time; time.sleep(0.8); raise SystemExit(3)"


async def test_a_load_that_fails_at_once_has_its_proper_status(tmp_path: Path) -> None:
    """The file is damaged after the start, when it was still good."""
    good = Path(__file__).parents[2] / "src/slalom/models/data" / f"{MINI}.gguf"
    path = tmp_path / "model.gguf"
    path.write_bytes(good.read_bytes())
    broken = model(MINI)
    broken["engine"]["source"] = str(path)
    async with live_server(tmp_path, {"models": [broken]}) as server:
        path.write_bytes(good.read_bytes()[:200_000])
        answer = await server.complete(MINI)
        assert answer["status"] >= 500
        assert answer["error"]["code"] == "model_unusable"


async def test_keys_are_asked_for_and_never_logged(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        async with aiohttp.ClientSession() as stranger:
            async with stranger.get(f"{server.url}/v1/models") as reply:
                assert reply.status == 401
            async with stranger.get(f"{server.url}/admin/snapshot") as reply:
                assert reply.status in {401, 403}
        assert (await server.complete(MINI))["status"] == 200
        secret = HEADERS["authorization"].split()[1]
        assert secret not in server.log.read_text()
        assert not any(secret in path.read_text() for path in (tmp_path / "journal").iterdir())
