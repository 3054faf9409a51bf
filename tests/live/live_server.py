"""A real server in its own process, on real llama.cpp engines, and what a test may do to it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from slalom.testing.patience import until

KEY = "live-test-key"
HEADERS = {"authorization": f"Bearer {KEY}"}


class LiveServer:
    """`slalom serve` with a configuration."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = {
            "keys": [{"name": "test", "key": KEY, "admin": True}],
            "journal": {"dir": str(folder / "journal")},
            **config,
        }
        config.setdefault("server", {})["port"] = self.port
        path = folder / "slalom.yaml"
        path.write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slalom", "serve", "--config", str(path)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1"},
            )
        self.session: aiohttp.ClientSession

    async def wait_ready(self) -> None:
        await self.until(self._healthy, "the server answers /health")

    async def until(
        self, holds: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 45.0
    ) -> None:
        """Wait for a condition; fails with the server's log."""
        await until(
            holds, what, seconds=seconds, explain=lambda: f"log:\n{self.log.read_text()[-4000:]}"
        )

    async def _healthy(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.log.read_text()}")
        try:
            async with self.session.get(f"{self.url}/health") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    async def snapshot(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/admin/snapshot") as reply:
            found: dict[str, Any] = await reply.json()
            return found

    async def counter(self, name: str) -> int:
        counters = (await self.snapshot())["counters"]
        return int(dict(counters).get(name, 0))

    async def state(self, model: str) -> str:
        async with self.session.get(f"{self.url}/v1/models/{model}") as reply:
            return str((await reply.json())["slalom"]["state"])

    async def complete(self, model: str, tokens: int = 8, **more: Any) -> dict[str, Any]:
        """One completion that is not streamed; its body and status."""
        body = {"model": model, "prompt": "def f(a):\n    ", "max_tokens": tokens, **more}
        async with self.session.post(f"{self.url}/v1/completions", json=body) as reply:
            return {"status": reply.status, **(await reply.json())}

    @asynccontextmanager
    async def stream(self, model: str, tokens: int) -> AsyncIterator[aiohttp.ClientResponse]:
        """A streamed completion that runs to its limit."""
        body = {
            "model": model,
            "prompt": "def f(a):\n    ",
            "max_tokens": tokens,
            "stream": True,
            "ignore_eos": True,
        }
        async with self.session.post(f"{self.url}/v1/completions", json=body) as reply:
            yield reply

    def engines(self) -> list[psutil.Process]:
        """The engine processes, one for each replica."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "slalom.engines.llama_cpp_process" in child.cmdline():
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        if self.process.poll() is not None:
            return
        for engine in self.engines():
            engine.kill()
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def live_server(folder: Path, config: dict[str, Any]) -> AsyncIterator[LiveServer]:
    """A running server; ended at the end, whatever happened."""
    server = LiveServer(folder, config)
    timeout = aiohttp.ClientTimeout(total=90)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers=HEADERS, timeout=timeout, connector=connector
    ) as session:
        server.session = session
        try:
            await server.wait_ready()
            yield server
        finally:
            server.kill()


def model(name: str, **engine: Any) -> dict[str, Any]:
    """A bundled model with a small context."""
    options = {"context_tokens": 1024, "places": 4, **engine}
    return {"id": name, "engine": {"kind": "llama-cpp", "source": f"bundled:{name}", **options}}


def events(data: bytes) -> list[Any]:
    """The data events of an SSE answer."""
    lines = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]
