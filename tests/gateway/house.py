"""A whole small house over real HTTP: gateway, runtime and scheduler, with fake engines inside."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from slalom.core.actions import EndRequest
from slalom.core.params import SchedulerParams
from slalom.core.planning import Planning
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.engines.protocol import Launcher
from slalom.gateway.app import Gateway
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.protocols.frame import WireProtocol
from slalom.gateway.server import GatewayServer
from slalom.policies.registry import policies
from slalom.runtime.driver import Runtime
from slalom.testing import FakeEngine, FakeLauncher
from slalom.units import MIB

#: Bound of every wait in these tests, seconds; reached only when something is broken.
WAIT_S = 30.0


@dataclass
class House:
    """What a test can reach."""

    gateway: Gateway
    server: GatewayServer
    runtime: Runtime
    launchers: dict[str, FakeLauncher]
    http: aiohttp.ClientSession
    ended: list[EndRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def base_url(self) -> str:
        return f"{self.server.url}/v1"

    def engine(self, model: str = "a") -> FakeEngine:
        return self.launchers[model].engines[-1]

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """POST a document; status, document, headers."""
        async with self.http.post(f"{self.url}{path}", json=body, headers=headers) as reply:
            return reply.status, await reply.json(), reply.headers

    async def stream(self, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> str:
        """Read a streamed chat to its end."""
        url = f"{self.base_url}/chat/completions"
        async with self.http.post(url, json={**body, "stream": True}, headers=headers) as reply:
            assert reply.status == 200
            return await reply.text()

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        async with self.http.get(f"{self.url}{path}", headers=headers) as reply:
            return reply.status, await reply.json(), reply.headers

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, within bounds."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.wait([asyncio.create_task(_turn())])


async def _turn() -> None:
    """One turn of the loop, a moment long, without a name that tempts to longer ones."""
    moment = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.005, moment.set_result, None)
    await moment


def last_body(world: House, model: str = "a") -> dict[str, Any]:
    """What an engine was asked last."""
    body: dict[str, Any] = json.loads(world.engine(model).calls[-1].body)
    return body


def chat(model: str = "a", *, tokens: int = 4, **more: Any) -> dict[str, Any]:
    """A chat body."""
    messages = [{"role": "user", "content": "one two three"}]
    return {"model": model, "messages": messages, "max_tokens": tokens, **more}


@asynccontextmanager
async def house(
    launchers: dict[str, FakeLauncher] | None = None,
    *,
    params: GatewayParams | None = None,
    scheduler_params: SchedulerParams | None = None,
    budget_bytes: int = 1000 * MIB,
    need_bytes: int = 64 * MIB,
    places: int = 4,
    embeddings: bool = True,
    admission: Planning | None = None,
    sleep_level: int = 0,
    documents: Sequence[WireProtocol] = (),
) -> AsyncIterator[House]:
    """Start a house, and take it down again."""
    launchers = launchers or {"a": FakeLauncher()}
    scheduler = Scheduler(
        [
            ModelSpec(name, "host", need_bytes, places, sleep_level=sleep_level)
            for name in launchers
        ],
        [DeviceSpec("host", budget_bytes)],
        replace(policies(), admission=admission) if admission else policies(),
        scheduler_params,
    )
    capabilities = {
        name: replace(
            launcher.script.capabilities if not callable(launcher.script) else _NO_SCRIPT,
            embeddings=embeddings,
        )
        for name, launcher in launchers.items()
    }
    starts: dict[str | tuple[str, str], Launcher] = dict(launchers.items())
    runtime = Runtime(scheduler, starts, capabilities=capabilities)
    given = params or GatewayParams(tuple(ServedModel(name) for name in launchers))
    gateway = Gateway(runtime, given, documents)
    server = GatewayServer(gateway)
    runtime.start()
    await server.start()
    async with aiohttp.ClientSession() as http:
        built = House(gateway, server, runtime, launchers, http)
        runtime.on_end.append(built.ended.append)
        try:
            yield built
        finally:
            await http.close()
            await server.stop(1.0)
            await runtime.close()


_NO_SCRIPT = FakeLauncher().script.capabilities  # type: ignore[union-attr]
