"""The HTTP client towards engines: a bounded pool of keep-alive connections to one base URL.

Owns connecting, reuse, the one retry of a request that met a connection the engine had already
closed, and the request head. Does not own the bytes of answers (`upstream_connection`) nor how
many requests an engine takes at a time (the scheduler). Called by every engine over HTTP.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from slalom.core.events import FailureKind
from slalom.engines.protocol import Call
from slalom.engines.upstream_connection import Connection, UpstreamReply
from slalom.errors import ConfigError, EngineError, InvariantError

#: Longest body of an answer that is read whole (health, metrics, errors), bytes.
BODY_BYTES_MAX = 8 << 20


class UnreachableError(EngineError):
    """Nobody listens there: nothing of the call was sent."""


class Upstream:
    """Connections to one engine.

    Nothing waits for a free connection here: over `connections_max` a call fails at once,
    because the only queue of requests is the scheduler's.

    Args:
        base_url: ``http://host:port`` or ``https://…``, with an optional path in front of
            every call's path.
        headers: Sent with every call (authorisation). Never shown.
        tls: For ``https``; the system's trusted authorities where not given.
        connections_max: Open connections, busy and idle.
        idle_max: Idle connections kept for reuse.
        idle_age_max_s: An idle connection older than this is not used again.
        connect_timeout_s: Longest time to connect, TLS included.

    Raises:
        ConfigError: The URL is not one that can be called, or carries a password.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        connections_max: int = 1024,
        idle_max: int = 256,
        idle_age_max_s: float = 30.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"base URL {_without_password(base_url)!r} cannot be called: "
                "write it as http://host:port or https://host"
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                f"base URL {_without_password(base_url)!r} carries a user name or password: "
                "give it as an API key instead"
            )
        if parts.query or parts.fragment:
            raise ConfigError(f"base URL of {parts.hostname} has a query or fragment: leave it out")
        secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if secure else None
        self.where = f"{parts.scheme}://{parts.netloc}{self._prefix}"
        #: As given; secrets, for whoever is to build another way to the same engine.
        self.headers = dict(headers or {})
        self._head_end = _head_lines({"host": parts.netloc, **(headers or {})})
        self._connections_max = connections_max
        self._idle_max = idle_max
        self._idle_age_max_s = idle_age_max_s
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<Upstream {self.where} open={len(self._open)} idle={len(self._idle)}>"

    @property
    def connections_open(self) -> int:
        """Connections that exist now, busy, idle and being made."""
        return len(self._open) + self._connecting

    async def post(self, call: Call) -> UpstreamReply:
        """Send a call and return once the response head is there.

        Raises:
            EngineError: Cannot connect, connection lost, stalled, too many connections.
        """
        head = (
            f"POST {self._prefix}{_clean(call.path)} HTTP/1.1\r\n"
            f"content-type: application/json\r\ncontent-length: {len(call.body)}\r\n"
        ).encode("latin-1")
        data = b"".join((head, _head_lines(call.headers), self._head_end, b"\r\n", call.body))
        return await self._exchange(data, call.stall_timeout_s)

    async def forward(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        stall_timeout_s: float,
        reuse: bool = True,
    ) -> UpstreamReply:
        """Send somebody else's request and return once the response head is there, headers kept.

        It is sent once: whether it may be sent again, its sender knows.

        Args:
            method: As it came.
            target: Path and query.
            headers: Besides those sent with every call; not the length.
            body: The whole body.
            stall_timeout_s: Longest silence before it fails.
            reuse: Take an idle connection, which the other side may be just closing.

        Raises:
            UnreachableError: Cannot connect: nothing was sent.
            EngineError: Connection lost, stalled, too many connections.
        """
        head = (
            f"{_clean(method)} {self._prefix}{_clean(target)} HTTP/1.1\r\n"
            f"content-length: {len(body)}\r\n"
        ).encode("latin-1")
        lines = b"".join(b"%s: %s\r\n" % line for line in headers)
        if lines.count(b"\r") != lines.count(b"\r\n") or lines.count(b"\n") != len(headers):
            raise InvariantError("a header that is passed on has a line break in it")
        data = b"".join((head, lines, self._head_end, b"\r\n", body))
        idle = self._reusable() if reuse else None
        reply = UpstreamReply(self.where, stall_timeout_s)
        reply.headers = []
        return await self._head_of(reply, idle or await self._connect(), data)

    async def get(self, path: str, *, timeout_s: float) -> tuple[int, bytes]:
        """Fetch a small document: status and body.

        Raises:
            EngineError: As `post`; also when it takes longer than `timeout_s` in all.
        """
        return await self.fetch("GET", path, timeout_s=timeout_s)

    async def fetch(
        self, method: str, path: str, *, timeout_s: float, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Do a small exchange within `timeout_s`: status and body.

        Raises:
            EngineError: As `post`; also when it takes longer than `timeout_s` in all.
        """
        head = (
            f"{_clean(method)} {self._prefix}{_clean(path)} HTTP/1.1\r\n"
            f"content-length: {len(body)}\r\n"
        ).encode("latin-1")
        if body:
            head += b"content-type: application/json\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(
                    b"".join((head, self._head_end, b"\r\n", body)), timeout_s
                )
                try:
                    return reply.status, await reply.read_all(BODY_BYTES_MAX)
                finally:
                    reply.abort()
        except TimeoutError as problem:
            raise EngineError(
                f"{self.where}{path}: no answer within {timeout_s:g} s", code=FailureKind.STALLED
            ) from problem

    def close(self) -> None:
        """Drop every connection: what is under way fails as crashed. Idempotent."""
        self._closed = True
        for connection in list(self._open):
            connection.lose("the engine was stopped")

    async def _exchange(self, data: bytes, stall_timeout_s: float) -> UpstreamReply:
        reused = self._reusable()
        if reused is not None:
            reply = UpstreamReply(self.where, stall_timeout_s)
            try:
                return await self._head_of(reply, reused, data)
            except EngineError as problem:
                # An idle connection the engine was just closing: RFC 9112, section 9.3.1
                # allows one more try as long as nothing of an answer was seen.
                if problem.code != FailureKind.CRASHED or reused.answered or self._closed:
                    raise
        fresh = await self._connect()
        return await self._head_of(UpstreamReply(self.where, stall_timeout_s), fresh, data)

    @staticmethod
    async def _head_of(reply: UpstreamReply, connection: Connection, data: bytes) -> UpstreamReply:
        try:
            connection.send(reply, data)
            await reply.head()
        except BaseException:
            reply.abort()
            raise
        return reply

    def _reusable(self) -> Connection | None:
        oldest_s = asyncio.get_running_loop().time() - self._idle_age_max_s
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since_s >= oldest_s:
                return connection
            connection.drop()
        return None

    async def _connect(self) -> Connection:
        self._refuse_if_closed()
        if self.connections_open >= self._connections_max:
            raise EngineError(
                f"{self.where}: all {self._connections_max} connections are in use; "
                "lower the model's places or raise the limit",
                code=FailureKind.ENGINE_ERROR,
            )
        self._connecting += 1
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._on_idle, self._on_lost),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as problem:
            raise UnreachableError(
                f"{self.where}: cannot connect ({_reason(problem)}); is the engine running there?",
                code=FailureKind.CRASHED,
            ) from problem
        finally:
            self._connecting -= 1
        self._open.add(connection)
        try:
            self._refuse_if_closed()  # closed while connecting
        except EngineError:
            connection.drop()
            raise
        return connection

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UnreachableError(
                f"{self.where}: the engine was stopped", code=FailureKind.CRASHED
            )

    def _on_idle(self, connection: Connection) -> None:
        if self._closed or len(self._idle) >= self._idle_max:
            connection.drop()
            return
        connection.idle_since_s = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def _on_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _head_lines(headers: Mapping[str, str]) -> bytes:
    """Header lines, each ended; line breaks inside are refused (request smuggling)."""
    return "".join(f"{_clean(k)}: {_clean(v)}\r\n" for k, v in headers.items()).encode("latin-1")


def _clean(text: str) -> str:
    if "\r" in text or "\n" in text or "\0" in text:
        raise InvariantError("a header, method or path towards an engine has a line break in it")
    return text


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _without_password(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
