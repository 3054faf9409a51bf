"""A paced stand-in for an engine, as light as Python allows: `python -m slalom.bench.stub_server`.

Owns an OpenAI-shaped stream of a given length and pace, and nothing else: no model, no HTTP
library, no checks. A prompt says the pace, so that it passes through any proxy unchanged. The
first token carries the stub's own service time, so that a client can subtract it. A process of
its own, started by `gateway_paths`.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import cast

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
#: In the prompt: µs to the first token, µs between tokens (0: as fast as it goes).
PACE = "pace:{first_us}:{gap_us}"
_PACE = re.compile(rb"pace:(\d+):(\d+)")

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = (
    b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub",'
    b'"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
_END = b"data: [DONE]\n\n"
_OK = b'{"object":"list","data":[{"id":"stub","object":"model"}],"status":"ok"}'
#: Tokens in one write of an unpaced stream.
_BURST = 256


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


#: No two neighbours alike: LiteLLM gives up on a stream that repeats a token 100 times.
_TOKENS_IN_TURN = [_chunked(_CHUNK % (b" token%d" % number)) for number in range(10)]


@lru_cache(maxsize=64)
def _several(count: int) -> bytes:
    return _chunked(b"".join(_CHUNK % (b" token%d" % (number % 10)) for number in range(count)))


_MANY = _several(_BURST)


class StubConnection(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[], None] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop writing."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The reader is slow."""
        self._paused = True

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._paused = False
        resume, self._resume = self._resume, None
        if resume is not None:
            resume()

    def data_received(self, data: bytes) -> None:
        """Collect one request."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end + 2)
        total = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < total:
            return
        request, self._buffer = self._buffer[:total], self._buffer[total:]
        self._answer(request, time.monotonic_ns())

    def _answer(self, request: bytes, received_ns: int) -> None:
        if not request.startswith(b"POST"):
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            )
            self._write(head % len(_OK) + _OK)
            return
        tokens, pace = _TOKENS.search(request), _PACE.search(request)
        stream = _Stream(
            tokens=int(tokens[1]) if tokens else 16,
            first_us=int(pace[1]) if pace else 0,
            gap_us=int(pace[2]) if pace else 0,
            usage=b"include_usage" in request,
            received_ns=received_ns,
        )
        if stream.first_us:
            self._timer = self._loop.call_later(stream.first_us / 1e6, self._first, stream)
        else:
            self._first(stream)

    def _first(self, stream: "_Stream") -> None:
        spent_ns = time.monotonic_ns() - stream.received_ns
        first = _HEAD + _chunked(_CHUNK % (b"spent:%d:" % spent_ns))
        if stream.gap_us:
            self._write(first)
            stream.next_s = self._loop.time()
            self._pace(stream, 1)
        elif stream.tokens <= _BURST:
            self._write(first + _several(stream.tokens - 1) + stream.end())
        else:
            self._write(first)
            self._burst(stream, 1)

    def _pace(self, stream: "_Stream", written: int) -> None:
        if written > 1:
            self._write(_TOKENS_IN_TURN[written % 10])
        if written >= stream.tokens:
            self._write(stream.end())
            return
        stream.next_s += stream.gap_us / 1e6
        self._timer = self._loop.call_at(stream.next_s, self._pace, stream, written + 1)

    def _burst(self, stream: "_Stream", written: int) -> None:
        while self._transport is not None and not self._paused:
            left = stream.tokens - written
            if left <= _BURST:
                self._write(_several(left) + stream.end())
                return
            self._write(_MANY)
            written += _BURST
        self._resume = lambda: self._burst(stream, written)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class _Stream:
    """One answer being written."""

    __slots__ = ("first_us", "gap_us", "next_s", "received_ns", "tokens", "usage")

    def __init__(
        self, *, tokens: int, first_us: int, gap_us: int, usage: bool, received_ns: int
    ) -> None:
        self.tokens = tokens
        self.first_us = first_us
        self.gap_us = gap_us
        self.usage = usage
        self.received_ns = received_ns
        self.next_s = 0.0

    def end(self) -> bytes:
        """Everything after the last token."""
        usage = _USAGE % (self.tokens, self.tokens + 9) if self.usage else b""
        return _chunked(_LAST + usage + _END) + b"0\r\n\r\n"


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(StubConnection, "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started it holds its standard input; when that closes, it is over.
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Serve until standard input closes; print the port first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    port: int = parser.parse_args().port
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        asyncio.run(_serve(port))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(port))


if __name__ == "__main__":
    main()
