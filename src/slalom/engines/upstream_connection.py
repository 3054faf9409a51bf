"""One HTTP/1.1 connection to an engine, and the answer being received on it.

Owns parsing, flow control (a slow reader stops the socket being read), the silence watchdog and
the rules for when an answer is complete. Does not own which connection is used: `upstream` does.
What one read of the socket brought is handed out as one piece, unparsed. Called by `upstream`.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from slalom.core.events import FailureKind
from slalom.errors import EngineError

#: Largest head of an answer, bytes.
HEAD_BYTES_MAX = 65_536
#: Unread bytes of an answer above which the socket is not read any further.
BUFFER_BYTES_MAX = 262_144


class Feed(Protocol):
    """Where an answer comes from."""

    def resume(self) -> None:
        """The reader has emptied the buffer."""
        ...

    def drop(self) -> None:
        """The reader has gone, or the answer failed: nothing more is wanted."""
        ...


class UpstreamReply:
    """An answer being received: the `Reply` of every engine reached over HTTP.

    One task reads it; `close` may come from another.
    """

    __slots__ = (
        "_complete",
        "_error",
        "_feed",
        "_loop",
        "_parts",
        "_quiet_since_s",
        "_stall_timeout_s",
        "_timer",
        "_waiter",
        "_where",
        "buffered_bytes",
        "content_type",
        "headers",
        "status",
    )

    def __init__(self, where: str, stall_timeout_s: float) -> None:
        self.status = 0
        self.content_type = ""
        #: Its header lines as they came, where somebody wants them all: None keeps none.
        self.headers: list[tuple[bytes, bytes]] | None = None
        self._where = where
        self._stall_timeout_s = stall_timeout_s
        self._loop = asyncio.get_running_loop()
        self._feed: Feed | None = None
        self._parts: list[bytes] = []
        self.buffered_bytes = 0
        self._complete = False
        self._error: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._quiet_since_s = self._loop.time()
        self._timer = self._loop.call_later(stall_timeout_s, self._check_silence)

    def __repr__(self) -> str:
        return (
            f"<UpstreamReply {self._where} status={self.status} buffered={self.buffered_bytes} B>"
        )

    async def head(self) -> None:
        """Return once the status and headers are there.

        Raises:
            EngineError: Connection lost or stalled.
        """
        while self.status == 0:
            if self._error is not None:
                raise self._error
            await self._something_happens()

    async def read(self) -> bytes:
        """The next bytes of the body as they came, or ``b""`` at its end.

        Raises:
            EngineError: Connection lost before the end, stalled, or closed by `close`.
        """
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            await self._something_happens()
        parts, self._parts, self.buffered_bytes = self._parts, [], 0
        if self._feed is not None:
            self._feed.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_all(self, bytes_max: int) -> bytes:
        """The whole body.

        Raises:
            EngineError: As `read`, or the body is longer than `bytes_max`.
        """
        parts: list[bytes] = []
        size = 0
        while piece := await self.read():
            parts.append(piece)
            size += len(piece)
            if size > bytes_max:
                self.abort()
                raise EngineError(
                    f"{self._where}: the answer is longer than {bytes_max} bytes",
                    code=FailureKind.ENGINE_ERROR,
                )
        return b"".join(parts)

    async def close(self) -> None:
        """Release the answer; where it is not complete, close the connection and so abort."""
        self.abort()

    def abort(self) -> None:
        """`close` without the wait. Idempotent."""
        if not self._complete:
            self.fail(FailureKind.ABORTED, "closed before the end of the answer")
        self._parts = []
        self.buffered_bytes = 0

    # -- the feeding side, for `Connection` -----------------------------------------------

    def bind(self, feed: "Feed") -> None:
        """Say what delivers this answer."""
        self._feed = feed

    def unbind(self) -> None:
        """Forget what delivers it: it is told nothing any more."""
        self._feed = None

    def push(self, body: bytes) -> None:
        """A piece of the body; `notify` follows once per read of the socket."""
        self._parts.append(body)
        self.buffered_bytes += len(body)

    def fail(self, kind: FailureKind, what: str) -> None:
        """End the answer as failed and its connection with it."""
        if self._complete or self._error is not None:
            return
        self._error = EngineError(f"{self._where}: {what}", code=kind)
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.drop()
        self.notify()
        self._timer.cancel()

    def finish(self) -> None:
        """The last byte of the body is here."""
        self._complete = True
        self._feed = None
        self._timer.cancel()
        self.notify()

    def notify(self) -> None:
        """Wake the reader, if one waits."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _something_happens(self) -> None:
        # Silence counts only while somebody waits for the engine, so that a slow reader
        # is never taken for a stalled engine.
        self._quiet_since_s = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _check_silence(self) -> None:
        """One timer per answer, re-armed when it fires: cheaper than one per read."""
        if self._error is not None or self._complete:
            return
        due_s = self._loop.time() + self._stall_timeout_s
        if self._waiter is not None:
            due_s = self._quiet_since_s + self._stall_timeout_s
            if due_s <= self._loop.time():
                self.fail(FailureKind.STALLED, f"no byte for {self._stall_timeout_s:g} s")
                return
        self._timer = self._loop.call_at(due_s, self._check_silence)


class Connection(asyncio.Protocol):
    """A keep-alive connection; carries one exchange at a time.

    Args:
        on_idle: Told when an exchange is over and the connection can carry another.
        on_lost: Told once when the connection is of no use any more.
    """

    def __init__(
        self,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: UpstreamReply | None = None
        self._paused = False
        self._head_bytes = 0
        self._framed = False
        self._keep_alive = False
        self._in_body = False
        self._unasked = False
        #: Whether any byte of the present exchange's answer has come.
        self.answered = False
        #: Loop time at which it became idle, seconds.
        self.idle_since_s = 0.0

    def send(self, reply: UpstreamReply, data: bytes) -> None:
        """Start an exchange: write a whole request, deliver its answer to `reply`."""
        self.answered = False
        self._head_bytes = 0
        self._in_body = False
        self._reply = reply
        reply.bind(self)
        if self._transport is None:
            reply.fail(FailureKind.CRASHED, "the connection is closed")
        else:
            self._transport.write(data)

    @property
    def usable(self) -> bool:
        """Whether the connection is open as far as this side knows."""
        return self._transport is not None and not self._transport.is_closing()

    def resume(self) -> None:
        """Read the socket again if a full buffer had stopped it."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def drop(self) -> None:
        """Close at once; what is under way on it is aborted by that."""
        self._reply = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._on_lost(self)

    def lose(self, what: str) -> None:
        """Close at once, as if the engine had: what is under way fails as crashed."""
        if self._reply is not None:
            self._reply.fail(FailureKind.CRASHED, what)
        self.drop()

    # -- asyncio.Protocol ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what one read brought and wake the reader once."""
        reply = self._reply
        if reply is None:  # nobody asked: the peer does not speak HTTP as we do
            self.drop()
            return
        self.answered = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            reply.fail(FailureKind.ENGINE_ERROR, f"not an HTTP answer ({type(problem).__name__})")
            self.drop()  # also where the answer itself was complete
            return
        if not self._in_body and self._head_bytes > HEAD_BYTES_MAX:
            reply.fail(FailureKind.ENGINE_ERROR, f"head longer than {HEAD_BYTES_MAX} bytes")
            return
        if self._unasked:  # more than one answer to one request
            self.drop()
            return
        reply.notify()
        if reply.buffered_bytes > BUFFER_BYTES_MAX and self._reply is reply:
            self._pause()

    def eof_received(self) -> bool:
        """Close our half too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone: the end of an unframed body, else of a broken answer."""
        transport, self._transport = self._transport, None
        reply, self._reply = self._reply, None
        if reply is not None:
            if self._in_body and not self._framed and exc is None:
                reply.finish()
            else:
                when = "in the middle of its answer" if self.answered else "without an answer"
                cause = f" ({type(exc).__name__})" if exc is not None else ""
                reply.fail(FailureKind.CRASHED, f"the engine closed the connection {when}{cause}")
        if transport is not None:
            self._on_lost(self)

    # -- httptools call-backs -----------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the few headers that matter, or all where they are wanted."""
        lower = name.lower()
        reply = self._reply
        if reply is not None and reply.headers is not None:
            reply.headers.append((lower, value))
        if lower == b"content-type" and reply is not None:
            reply.content_type = value.decode("latin-1")
        elif lower in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_message_begin(self) -> None:
        """Forget the head before (an interim 1xx answer, or the last exchange)."""
        self._framed = False
        self._unasked = self._reply is None
        if self._reply is not None and self._reply.headers:
            self._reply.headers.clear()

    def on_headers_complete(self) -> None:
        """The head is there, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status >= 200 and self._reply is not None:
            self._in_body = True
            self._keep_alive = self._parser.should_keep_alive()
            self._reply.status = status

    def on_body(self, body: bytes) -> None:
        """Buffer a piece of the body."""
        reply = self._reply
        if reply is not None:
            reply.push(body)

    def on_message_complete(self) -> None:
        """Hand the answer over and the connection back."""
        reply = self._reply
        if not self._in_body or reply is None:  # the end of an interim answer
            return
        self._reply = None
        reply.finish()
        if self._keep_alive and self.usable:
            self.resume()
            self._on_idle(self)
        else:
            self.drop()
