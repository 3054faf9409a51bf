"""A fake engine as a real HTTP server: `python -m slalom.testing.fake_server --port N`.

Owns HTTP around one `FakeEngine`, so that engines behind a socket (`command`, `remote`, the gateway
as a process) can be tested without a model. Aims at being right, not at being fast.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httptools

from slalom.engines.protocol import Call, Capabilities
from slalom.errors import EngineError
from slalom.testing import fake_wire
from slalom.testing.fake_engine import FakeEngine
from slalom.testing.fake_script import FakeScript, FakeTimings, Fault, FaultKind
from slalom.units import SECOND

#: What a wake from level 2 is followed by, in this order; before that, answers are refused.
_RELOADING = ("/collective_rpc", "/reset_prefix_cache")
_GENERATING = (fake_wire.CHAT, fake_wire.COMPLETIONS, fake_wire.EMBEDDINGS)
#: The names of the three gauges, by whose vocabulary is imitated.
_VOCABULARIES = {
    "llamacpp": (
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
        "llamacpp:tokens_predicted_total",
    ),
    "vllm": (
        'vllm:num_requests_running{model_name="fake"}',
        'vllm:num_requests_waiting{model_name="fake"}',
        'vllm:generation_tokens_total{model_name="fake"}',
    ),
}


@dataclass(slots=True)
class _Server:
    """What all connections share."""

    engine: FakeEngine
    vocabulary: str
    api_key: str | None = None
    ready: bool = False
    #: The calls so far that bring its weights back.
    reloading: list[str] = field(default_factory=lambda: [*_RELOADING])
    #: Kept so that tasks are not collected while they run.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class _Connection(asyncio.Protocol):
    """One client; one request at a time, answered in order."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    # -- httptools call-backs -----------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._key = ""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._key = value.decode("latin-1").removeprefix("Bearer ")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url = urlsplit(self._url.decode("latin-1"))
        method = self._parser.get_method().decode("ascii")
        work = self._answer(method, url.path, url.query, b"".join(self._body), self._key)
        self._task = asyncio.ensure_future(work)
        self._server.tasks.add(self._task)
        self._task.add_done_callback(self._server.tasks.discard)

    # -- answers ------------------------------------------------------------------------

    async def _answer(self, method: str, path: str, query: str, body: bytes, key: str) -> None:
        engine = self._server.engine
        open_paths = ("/health", "/v1/models")
        if self._server.api_key not in (None, key) and path != "/health":
            self._write_whole(401, fake_wire.error(401, "wrong key", "authentication_error"))
        elif not self._server.ready and path not in _GENERATING:
            self._write_whole(503, fake_wire.error(503, "loading", "unavailable_error"))
        elif method == "GET" and path in open_paths:
            if await engine.health():
                self._write_whole(200, _models(engine) if path != "/health" else b"{}")
        elif method == "GET" and path == "/metrics":
            self._write_whole(200, await self._gauges(), "text/plain")
        elif method == "POST" and path in {"/sleep", "/wake_up"}:
            await self._sleep_or_wake(path, query)
        elif method == "POST" and path in _RELOADING:
            self._server.reloading.append(path)
            self._write_whole(200, b"{}")
        elif method == "POST" and path in _GENERATING:
            if self._server.reloading != [*_RELOADING]:
                self._write_whole(500, fake_wire.error(500, "its weights are not there"))
            else:
                await self._generate(path, body)
        else:
            self._write_whole(404, fake_wire.error(404, f"no {path}", "not_found_error"))

    async def _gauges(self) -> bytes:
        metrics = await self._server.engine.metrics()
        if metrics is None:
            return b""
        values = (metrics.running, metrics.waiting, metrics.generated_tokens)
        names = _VOCABULARIES[self._server.vocabulary]
        return "".join(f"{n} {v}\n" for n, v in zip(names, values, strict=True)).encode()

    async def _sleep_or_wake(self, path: str, query: str) -> None:
        try:
            if path == "/sleep":
                level = int(parse_qs(query).get("level", ["1"])[0])
                await self._server.engine.sleep(level)
                self._server.reloading = [] if level == 2 else [*_RELOADING]
            else:
                await self._server.engine.wake()
        except EngineError as problem:
            self._write_whole(400, fake_wire.error(400, str(problem)))
            return
        self._write_whole(200, b"{}")

    async def _generate(self, path: str, body: bytes) -> None:
        try:
            reply = await self._server.engine.generate(Call(path, body, stall_timeout_s=3600.0))
        except EngineError:
            self._transport.abort()
            return
        try:
            head = f"HTTP/1.1 {reply.status} -\r\ncontent-type: {reply.content_type}\r\n"
            self._transport.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode("latin-1"))
            while piece := await reply.read():
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await self._writable.wait()
            self._transport.write(b"0\r\n\r\n")
        except EngineError:
            self._transport.abort()
        finally:
            await reply.close()

    def _write_whole(self, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode("latin-1") + body)


def _models(engine: FakeEngine) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": engine.model_name}]}).encode()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m slalom.testing.fake_server",
        description="An engine without a model behind the OpenAI API on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; it is printed")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument("--tokens-per-s", type=float, default=1000.0, help="of one request")
    parser.add_argument("--prefill-tokens-per-s", type=float, default=0.0, help="0: no time")
    parser.add_argument("--load-s", type=float, default=0.0, help="time until it is ready")
    parser.add_argument("--fail-load", default="", help="say this after --load-s and exit 1")
    parser.add_argument("--fault", choices=[kind.value for kind in FaultKind])
    parser.add_argument("--fault-after", type=int, default=0, help="tokens before the fault")
    parser.add_argument("--fault-call", type=int, default=1, help="number of the call it hits")
    parser.add_argument("--fault-status", type=int, default=500)
    parser.add_argument("--metrics", choices=sorted(_VOCABULARIES), default="llamacpp")
    parser.add_argument("--api-key")
    return parser.parse_args(arguments)


def _script(given: argparse.Namespace) -> FakeScript:
    fault = None
    if given.fault is not None:
        fault = Fault(FaultKind(given.fault), given.fault_after, given.fault_status)
    prefill = given.prefill_tokens_per_s
    return FakeScript(
        timings=FakeTimings(
            prefill_ns_per_token=round(SECOND / prefill) if prefill else 0,
            token_ns=round(SECOND / given.tokens_per_s),
        ),
        places=given.places,
        fault=lambda number, _: fault if number == given.fault_call else None,
        capabilities=Capabilities(embeddings=True, sleep_levels=(1, 2)),
    )


async def _serve(given: argparse.Namespace) -> int:
    engine = FakeEngine(_script(given), model_name=given.model)
    server = _Server(engine, given.metrics, given.api_key)
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(lambda: _Connection(server), "127.0.0.1", given.port)
    except OSError as problem:
        sys.stderr.write(f"error: port {given.port}: {problem.strerror}\n")
        return 1
    sys.stdout.write(f"{listener.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.sleep(given.load_s)
    if given.fail_load:
        sys.stderr.write(f"error: {given.fail_load}\n")
        return 1
    server.ready = True
    sys.stderr.write(f"terminated: {await engine.wait_closed()}\n")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Serve until killed, or until a scripted crash."""
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_serve(_options(arguments)))
    return 130


if __name__ == "__main__":
    STATUS = main()
    sys.stderr.flush()
    os._exit(STATUS)
