"""A server whose scheduler has failed ends, so that somebody can start a fresh one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slalom.assembly.parts import Parts
from slalom.assembly.serving import run_server
from slalom.config.schema import Config
from slalom.core.events import Event, RequestArrived
from slalom.core.scheduler import Scheduler


async def test_a_scheduler_that_raises_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    healthy = Scheduler.handle

    def handle(self: Scheduler, events: Sequence[Event], now_ns: int) -> Any:
        if any(isinstance(event, RequestArrived) for event in events):
            raise ZeroDivisionError
        return healthy(self, events, now_ns)

    monkeypatch.setattr(Scheduler, "handle", handle)
    document = {"server": {"port": 0}, "journal": {"dir": str(tmp_path)}}
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_ready(url: str, _parts: Parts) -> None:
        ready.set_result(url)

    async with asyncio.timeout(30):
        serving = asyncio.ensure_future(
            run_server(Config.model_validate(document), on_ready=on_ready)
        )
        url = await ready
        async with aiohttp.ClientSession() as http:
            body = {"model": "slalom-mini", "prompt": "x"}
            async with http.post(f"{url}/v1/completions", json=body) as reply:
                assert reply.status == 500
        assert await serving == 1
    assert "the scheduler failed" in caplog.text
