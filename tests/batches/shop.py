"""A server with files and batches over real HTTP, on a fake engine, and its official client."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import openai
from openai.types import Batch

from slalom.assembly.batches import idle_places, runner_for
from slalom.batches.desk import Desk
from slalom.batches.params import BatchParams
from slalom.batches.runner import Runner
from slalom.config.sections import BatchesSection
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.gateway.app import Gateway
from slalom.gateway.batches.routes import protocol
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.server import GatewayServer
from slalom.policies.registry import policies
from slalom.runtime.driver import Runtime
from slalom.testing import FakeEngine, FakeLauncher
from slalom.testing.patience import until
from slalom.units import MIB

CHAT: Final = "/v1/chat/completions"
WAIT_S = 30.0


@dataclass
class Shop:
    """What a test can reach."""

    gateway: Gateway
    server: GatewayServer
    runtime: Runtime
    launchers: dict[str, FakeLauncher]
    desk: Desk
    runner: Runner
    http: aiohttp.ClientSession
    sdk: openai.AsyncOpenAI

    @property
    def url(self) -> str:
        return self.server.url

    def engine(self, model: str = "a") -> FakeEngine:
        return self.launchers[model].engines[-1]

    def client(self, key: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    async def upload(self, lines: Iterable[Any], sdk: openai.AsyncOpenAI | None = None) -> str:
        """Store lines; the file's id."""
        file = await (sdk or self.sdk).files.create(
            file=("lines.jsonl", jsonl(lines)), purpose="batch"
        )
        return file.id

    async def begin(self, lines: Iterable[Any], endpoint: Any = CHAT) -> Batch:
        """Begin a batch of these lines."""
        return await self.sdk.batches.create(
            completion_window="24h", endpoint=endpoint, input_file_id=await self.upload(lines)
        )

    async def ended(self, batch: Batch) -> Batch:
        """Wait until a batch has ended."""
        found = [batch]

        async def over() -> bool:
            found[0] = await self.sdk.batches.retrieve(batch.id)
            return found[0].status in {"completed", "failed", "expired", "cancelled"}

        await until(over, "the batch ends", seconds=WAIT_S)
        return found[0]

    async def read(self, file_id: str | None) -> dict[str, dict[str, Any]]:
        """The lines of a result file by their custom id; each must be there once."""
        if file_id is None:
            return {}
        content = await self.sdk.files.content(file_id)
        lines = [json.loads(line) for line in content.text.splitlines()]
        found = {line["custom_id"]: line for line in lines}
        assert len(found) == len(lines), "a line was answered twice"
        return found


def jsonl(lines: Iterable[Any]) -> bytes:
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


def chat_line(name: str, *, tokens: int = 2, model: str = "a", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"say {name}"}]
    body = {"model": model, "messages": messages, "max_tokens": tokens, **more}
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body}


def chat_lines(count: int, **more: Any) -> list[dict[str, Any]]:
    return [chat_line(f"line-{number}", **more) for number in range(count)]


@asynccontextmanager
async def shop(
    folder: Path,
    launchers: dict[str, FakeLauncher] | None = None,
    *,
    places: int = 4,
    spare: int = 1,
    budget_bytes: int = 1000 * MIB,
    gateway: Callable[[GatewayParams], GatewayParams] = lambda params: params,
    now_s: Callable[[], float] | None = None,
    **bounds: Any,
) -> AsyncIterator[Shop]:
    """Open a shop, and close it again."""
    launchers = launchers or {"a": FakeLauncher()}
    models = [ModelSpec(name, "host", 64 * MIB, places) for name in launchers]
    devices = [DeviceSpec("host", budget_bytes)]
    runtime = Runtime(
        Scheduler(models, devices, policies(), None),
        dict(launchers.items()),
        capabilities={name: FakeLauncher().script.capabilities for name in launchers},  # type: ignore[union-attr]
    )
    params = BatchParams(folder, **{"free_bytes_min": 0, **bounds})
    desk = Desk(params, now_s) if now_s else Desk(params)
    app = Gateway(
        runtime,
        gateway(GatewayParams(tuple(ServedModel(name) for name in launchers))),
        (protocol(desk),),
    )
    idle = idle_places(models, devices, BatchesSection(spare_places=spare))
    runner = runner_for(desk, app, idle)
    server = GatewayServer(app)
    runtime.start()
    await server.start()
    runner.start()
    async with (
        aiohttp.ClientSession() as http,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk,
    ):
        try:
            yield Shop(app, server, runtime, launchers, desk, runner, http, sdk)
        finally:
            await http.close()
            await sdk.close()
            await server.stop(1.0)
            await runner.close()
            await runtime.close()
