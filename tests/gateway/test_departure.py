"""Clients that leave, under any ASGI server; and requests refused at the runtime's door."""

import asyncio
import json
from typing import Any

from slalom.errors import OverloadedError, RequestError
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.units import SECOND
from tests.gateway.house import WAIT_S, chat, house


class Server:
    """The least an ASGI server does, without Slalom's own call-back."""

    def __init__(self, body: bytes) -> None:
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self._messages = [
            {"type": "http.request", "body": body[:10], "more_body": True},
            {"type": "http.request", "body": body[10:], "more_body": False},
        ]

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"content-type", b"application/json")],
        }


async def test_disconnect_under_another_server() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=SECOND)))
    async with house({"a": launcher}) as world:
        server = Server(json.dumps(chat(tokens=1000, stream=True)).encode())
        serving = asyncio.create_task(world.gateway(server.scope(), server.receive, server.send))
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        server.gone.set()
        async with asyncio.timeout(WAIT_S):
            await serving
        await world.until(lambda: world.ended)
        assert world.ended[0].outcome == "cancelled"
        assert world.engine().aborted == 1


async def test_a_whole_exchange_under_another_server() -> None:
    async with house() as world:
        server = Server(json.dumps(chat(tokens=2)).encode())
        await world.gateway(server.scope(), server.receive, server.send)
        assert server.sent[0]["status"] == 200
        assert b" w0 w1" in server.sent[1]["body"]
        gone = Server(b"x" * 20)
        gone._messages.clear()
        gone.gone.set()
        await world.gateway(gone.scope(), gone.receive, gone.send)
        assert gone.sent == []


async def test_a_foreign_cancellation_is_not_swallowed() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=SECOND)))
    async with house({"a": launcher}) as world:
        server = Server(json.dumps(chat(tokens=1000, stream=True)).encode())
        serving = asyncio.create_task(world.gateway(server.scope(), server.receive, server.send))
        await world.until(lambda: launcher.engines and launcher.engines[0].calls)
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()


async def test_refusals_at_the_door_leave_no_half_records() -> None:
    class Door:
        """A runtime that takes nothing."""

        def __init__(self, inner: Any, problem: Exception) -> None:
            self.on_end: list[Any] = []
            self.capabilities = inner.capabilities
            self.snapshot = inner.snapshot
            self.now_ns = inner.now_ns
            self.estimate = inner.estimate
            self.engine_of = inner.engine_of
            self.on_step: list[Any] = []
            self.ask = inner.ask
            self.plan = inner.plan
            self.foretell, self.post = inner.foretell, inner.post
            self._problem = problem

        async def serve(self, *_args: Any, **_kwargs: Any) -> Any:
            raise self._problem

    full = OverloadedError("no room", retry_after_s=2.5, code="too_many_in_flight")
    taken = RequestError("taken", code="duplicate_request_id", param="x-request-id")
    bug = ZeroDivisionError("a prompt might be quoted here")
    async with house() as world:
        for problem, status in [(full, 503), (taken, 409), (bug, 500)]:
            gateway = type(world.gateway)(
                Door(world.runtime, problem), GatewayParams((ServedModel("a"),))
            )
            server = Server(json.dumps(chat()).encode())
            await gateway(server.scope(), server.receive, server.send)
            assert server.sent[0]["status"] == status
            assert b"quoted" not in server.sent[1]["body"]
            if status == 503:
                assert (b"retry-after", b"3") in server.sent[0]["headers"]
            if status != 500:
                assert gateway.records.latest(1)[0]["status"] == status
            assert gateway.inflight == 0
