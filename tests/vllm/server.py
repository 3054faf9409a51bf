"""A live server whose model is served by real vLLM on the CPU, and what is asked of it.

Owns the configuration, finding vLLM's process and its port, and times; asserts nothing.
"""

import asyncio
import json
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
from tests.live.live_server import HEADERS, LiveServer

MODEL = "coder"
PROMPT = "def read(path):\n    "
#: A start on two busy cores takes minutes.
PATIENCE_S = 900.0


def configuration(python: Path, folder: Path, **engine: Any) -> dict[str, Any]:
    """A server with one model on the CPU."""
    section = {
        "kind": "vllm",
        "model": str(folder),
        "program": str(python),
        "context_tokens": 2048,
        "places": 4,
        "ready_timeout_seconds": PATIENCE_S,
        # One thread for each core; Slalom's own default leaves half of them to others.
        "env": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)},
        **engine,
    }
    return {
        "devices": [{"id": "host", "budget": "8GiB"}],
        "models": [{"id": MODEL, "engine": section}],
        "scheduler": {"queue_timeout_seconds": PATIENCE_S},
    }


def processes(server: LiveServer) -> list[psutil.Process]:
    """VLLM's own processes, the one that listens first."""
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if any(word.startswith("vllm.") for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def engine_url(server: LiveServer) -> str:
    """Where vLLM itself listens."""
    words = processes(server)[0].cmdline()
    return f"http://127.0.0.1:{words[words.index('--port') + 1]}"


async def gauges(server: LiveServer) -> EngineMetrics:
    """What vLLM says about its load."""
    async with server.session.get(f"{engine_url(server)}/metrics") as reply:
        found = parse_gauges(await reply.text())
    assert found is not None
    return found


async def post(
    server: LiveServer, path: str, body: dict[str, Any], *, url: str = ""
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, document and headers, by the server or by vLLM itself."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    where = f"{url or server.url}{path}"
    async with server.session.post(where, json=body, headers=HEADERS, timeout=timeout) as reply:
        return reply.status, await reply.json(), dict(reply.headers)


@asynccontextmanager
async def streaming(server: LiveServer, tokens: int) -> AsyncIterator[aiohttp.ClientResponse]:
    """A streamed completion of so many tokens."""
    body = {**completion(tokens), "stream": True, "stream_options": {"include_usage": True}}
    async with server.session.post(f"{server.url}/v1/completions", json=body) as reply:
        yield reply


def completion(tokens: int, **more: Any) -> dict[str, Any]:
    """A body for so many tokens, no fewer."""
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0}
    return {**body, "ignore_eos": True, **more}


async def alone_ms(server: LiveServer, url: str, count: int = 30) -> float:
    """Median time of a completion of one token, one after the other, milliseconds."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await post(server, "/v1/completions", completion(1), url=url)
        took.append((time.monotonic() - began) * 1e3)
    return sorted(took)[count // 2]


async def tokens_per_s(server: LiveServer, url: str, width: int, tokens: int = 128) -> float:
    """Tokens a second of so many completions side by side."""
    began = time.monotonic()
    asked = (post(server, "/v1/completions", completion(tokens), url=url) for _ in range(width))
    answers = await asyncio.gather(*asked)
    made = sum(told["usage"]["completion_tokens"] for _, told, _ in answers)
    return float(made) / (time.monotonic() - began)


def keep(figures: dict[str, Any]) -> None:
    """Print what was measured, and write it where `SLALOM_VLLM_FIGURES` says."""
    text = json.dumps(figures, indent=2)
    print(text)  # noqa: T201 - asked for with -s
    if path := os.environ.get("SLALOM_VLLM_FIGURES"):
        Path(path).write_text(text + "\n", encoding="utf-8")
