"""The load client of the gateway benchmark: `python -m slalom.bench.gateway_client < plan.json`.

Owns closed-loop streams over kept-alive connections and their timing: first token, end, tokens.
Looks into the bytes only for the first event and the end, so that it is not the bottleneck; says
how busy it was. A process of its own, started by `gateway`.
"""

import asyncio
import json
import random
import re
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import cast

_SPENT = re.compile(rb"spent:(\d+):")
_END = b"0\r\n\r\n"
#: Long enough for the end mark and the last chunk around it.
_TAIL_BYTES = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, how often."""

    port: int
    #: Streams at a time.
    streams: int
    #: Length of each, tokens.
    tokens: int
    #: What the prompt says.
    prompt: str
    model: str = "stub"
    #: How long new streams are started, seconds.
    seconds: float = 5.0
    #: Time over which the first streams are spread, seconds.
    ramp_s: float = 0.0
    seed: int = 1


@dataclass(slots=True)
class Tally:
    """What came of it. Times in ns."""

    #: Request sent to first token, less the stub's own time where it says it.
    first_ns: list[int] = field(default_factory=list)
    #: Request sent to the end of the stream.
    whole_ns: list[int] = field(default_factory=list)
    errors: int = 0
    bytes_read: int = 0
    #: From the first request to the last answer.
    wall_ns: int = 0
    #: Processor time of this process.
    cpu_ns: int = 0
    #: Wall-clock time of the window, for the measurement of other processes.
    ended: int = 0


class ClientConnection(asyncio.Protocol):
    """One stream at a time, again and again."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._sent_ns = 0
        self._first_seen = False
        self._status_seen = False
        self._answered = False
        self._requests = 0
        self._early = b""
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """An end nobody asked for is an error, unless it met a request the server never saw."""
        if self._transport is None:
            return
        self._transport = None
        if self._answered or self._requests == 1:
            self._run.broken(self)
        else:
            self._run.reconnect()

    def _ask(self) -> None:
        if not self._run.wants_more():
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()
            self._run.finished()
            return
        self._first_seen = self._status_seen = False
        self._early = self._tail = b""
        assert self._transport is not None  # noqa: S101 - connected
        self._answered = False
        self._requests += 1
        self._sent_ns = time.monotonic_ns()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        """Look for the first token and the end."""
        self._answered = True
        tally = self._run.tally
        tally.bytes_read += len(data)
        if not self._first_seen:
            self._look_for_first(data)
        tail = self._tail + data if len(data) < _TAIL_BYTES else data
        self._tail = tail[-_TAIL_BYTES:]
        if tail.endswith(_END) and b"[DONE]" in self._tail:
            tally.whole_ns.append(time.monotonic_ns() - self._sent_ns)
            self._ask()

    def _look_for_first(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        early = self._early + data
        self._early = early
        if not self._status_seen and len(early) >= 12:
            self._status_seen = True
            if early[9:12] != b"200":
                self._run.broken(self, early)
                return
        at = early.find(b'"content":"')
        if at < 0 or (at + 40 > len(early)):
            return
        self._first_seen = True
        self._early = b""
        spent = _SPENT.search(early, at)
        self._run.tally.first_ns.append(now_ns - self._sent_ns - (int(spent[1]) if spent else 0))

    def abandon(self) -> None:
        """Close without telling."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


class Run:
    """One plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        body = json.dumps(
            {
                "model": plan.model,
                "messages": [{"role": "user", "content": plan.prompt}],
                "max_tokens": plan.tokens,
                "stream": True,
            }
        ).encode()
        self.request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\nauthorization: Bearer sk-bench\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        self._until_s = 0.0
        self._open = plan.streams
        self._done = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def carry_out(self) -> Tally:
        """Open the streams, keep them busy, wait for the last."""
        loop = asyncio.get_running_loop()
        spread = random.Random(self.plan.seed)
        begun_ns, cpu_s = time.monotonic_ns(), _cpu_s()
        self._until_s = loop.time() + self.plan.seconds
        delays = sorted(spread.uniform(0, self.plan.ramp_s) for _ in range(self.plan.streams))
        started_s = loop.time()
        for delay_s in delays:
            await asyncio.sleep(max(0.0, started_s + delay_s - loop.time()))
            await loop.create_connection(
                lambda: ClientConnection(self), "127.0.0.1", self.plan.port
            )
        await self._done.wait()
        self.tally.wall_ns = time.monotonic_ns() - begun_ns
        self.tally.cpu_ns = round((_cpu_s() - cpu_s) * 1e9)
        return self.tally

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: ClientConnection(self), "127.0.0.1", self.plan.port)

    def reconnect(self) -> None:
        """A kept-alive connection was closed between two requests: go on with another."""
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def wants_more(self) -> bool:
        """Whether another stream is to be started."""
        return asyncio.get_running_loop().time() < self._until_s

    def finished(self) -> None:
        """One connection has nothing more to do."""
        self._open -= 1
        if self._open == 0:
            self._done.set()

    def broken(self, connection: ClientConnection, said: bytes = b"") -> None:
        """A stream ended wrongly; its connection is given up."""
        if self.tally.errors == 0:
            print(f"first error: {said[:300]!r}", file=sys.stderr)
        self.tally.errors += 1
        connection.abandon()
        self.finished()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _main() -> None:
    plan = Plan(**json.loads(sys.stdin.read()))
    tally = await Run(plan).carry_out()
    print(json.dumps(asdict(tally)))


def main() -> None:
    """Carry out the plan on standard input, print the tally."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        asyncio.run(_main())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main())


if __name__ == "__main__":
    main()
