"""A live server whose model is served by real vLLM on the CPU, and what is asked of it.

Owns the configuration, finding vLLM's process and its port, and requests; asserts nothing.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from slalom.engines.gauges import parse_gauges
from slalom.engines.protocol import EngineMetrics
from tests.live.live_server import HEADERS, LiveServer, live_server

MODEL = "coder"
#: The same model on llama.cpp.
TWIN = "twin"
#: Names for both: one is content with whatever vLLM's answer is, the other with none.
SURE, DOUBTING = "sure", "doubting"
SOURCE = "bundled:slalom-small"
PROMPT = "def read(path):\n    "
PLACES = 4
#: A start on two busy cores takes minutes.
PATIENCE_S = 900.0


def configuration(python: Path, folder: Path, **engine: Any) -> dict[str, Any]:
    """A server with one model on the CPU."""
    section = {
        "kind": "vllm",
        "model": str(folder),
        "program": str(python),
        "context_tokens": 2048,
        "places": PLACES,
        "ready_timeout_seconds": PATIENCE_S,
        # One thread for each core; Slalom's own default leaves half of them to others.
        "env": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)},
        **engine,
    }
    return {
        "devices": [{"id": "host", "budget": "8GiB"}],
        "models": [{"id": MODEL, "engine": section}],
        # How long a busy machine takes decides nothing.
        "tasks": {"generation": {"ttft_ms": None, "tpot_ms": None}},
        "scheduler": {
            "queue_timeout_seconds": PATIENCE_S,
            "load_timeout_seconds": PATIENCE_S,
            "load_failures_max": 1,
        },
    }


def with_a_twin(config: dict[str, Any]) -> dict[str, Any]:
    """The same model on llama.cpp beside it, and names that judge vLLM's answers."""
    twin = {"id": TWIN, "engine": {"kind": "llama-cpp", "source": SOURCE}}
    judges = [
        {"id": name, "kind": "confident", "targets": [MODEL, TWIN], "parse": False, **gate}
        for name, gate in ((SURE, {"min_logprob": -100}), (DOUBTING, {"min_logprob": 0}))
    ]
    return {**config, "models": [*config["models"], twin], "aliases": judges}


class RealServer:
    """`slalom serve` in front of vLLM."""

    def __init__(self, live: LiveServer) -> None:
        self.live = live
        self.url = live.url
        self.until = live.until

    @property
    def engine_url(self) -> str:
        """Where vLLM itself listens."""
        words = self.processes()[0].cmdline()
        return f"http://127.0.0.1:{words[words.index('--port') + 1]}"

    def processes(self) -> list[psutil.Process]:
        """VLLM's own processes, the one that listens first; none once the server has ended."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.live.process.pid).children(recursive=True):
                if "vllm.entrypoints" in " ".join(child.cmdline()):
                    return [child, *child.children(recursive=True)]
        return []

    async def post(
        self, path: str, body: dict[str, Any], *, url: str = ""
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, document and headers, by the server or by vLLM itself."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        where = f"{url or self.url}{path}"
        async with self.live.session.post(
            where, json=body, headers=HEADERS, timeout=timeout
        ) as reply:
            return reply.status, await reply.json(), dict(reply.headers)

    async def told(self, path: str, *, url: str = "") -> Any:
        """A document of the server's, or of vLLM's."""
        async with self.live.session.get(f"{url or self.url}{path}") as reply:
            return await reply.json()

    async def gauges(self) -> EngineMetrics:
        """What vLLM says about its load."""
        async with self.live.session.get(f"{self.engine_url}/metrics") as reply:
            found = parse_gauges(await reply.text())
        assert found is not None
        return found

    @asynccontextmanager
    async def streaming(self, tokens: int, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A streamed completion of so many tokens."""
        body = {**completion(tokens, **more), "stream": True}
        body["stream_options"] = {"include_usage": True}
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        path = f"{self.url}/v1/completions"
        async with self.live.session.post(path, json=body, timeout=timeout) as reply:
            yield reply

    async def tokens_per_s(self, url: str, width: int, tokens: int) -> float:
        """Tokens a second of so many completions side by side."""
        began = time.perf_counter()
        asked = (self.post("/v1/completions", completion(tokens), url=url) for _ in range(width))
        answers = await asyncio.gather(*asked)
        made = sum(told["usage"]["completion_tokens"] for _, told, _ in answers)
        return float(made) / (time.perf_counter() - began)


@asynccontextmanager
async def real_server(folder: Path, config: dict[str, Any]) -> AsyncIterator[RealServer]:
    """A running server; it and what it started ended at the end, whatever happened."""
    async with live_server(folder, config) as live:
        server = RealServer(live)
        try:
            yield server
        finally:
            for process in server.processes():
                with contextlib.suppress(psutil.Error):
                    process.kill()


def completion(tokens: int, **more: Any) -> dict[str, Any]:
    """A body for so many tokens, no fewer."""
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0}
    return {**body, "ignore_eos": True, **more}
