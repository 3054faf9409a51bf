"""The data plane of one attempt: engine to client, with the events the scheduler needs.

Owns the call to the engine and the relay of its bytes. Tokens never pass the scheduler: it hears
of the first token, of coarse progress and of the end. Called by `driver.Runtime.serve` in the
client's own task, so that a slow client slows its own stream and nobody else's.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    Event,
    FailureKind,
    FirstToken,
    Progress,
    Verdict,
)
from slalom.engines.protocol import Reply
from slalom.errors import EngineError
from slalom.runtime.holding import Hold
from slalom.runtime.sink import Assignment, MakeCall, Sink, Terms
from slalom.runtime.stream_watch import BodyWatch, StreamWatch
from slalom.runtime.transcript import Transcript

#: Silence between two `Progress` events of one attempt, ns.
PROGRESS_EVERY_NS = 500_000_000
#: How much of an engine's error body is kept for the message, bytes.
_ERROR_BYTES_MAX = 2_000


class PausedError(Exception):
    """The attempt has given its place back, and its client has all that it produced."""


@dataclass(slots=True)
class Relay:
    """Runs one attempt.

    Args:
        assignment: Where it runs.
        post: Takes events for the scheduler.
        now_ns: The clock.
        transcript: What the client has got, if the answer may be paused.
        tokens_max: Most tokens of the whole answer.
    """

    assignment: Assignment
    post: Callable[[Event], None]
    now_ns: Callable[[], int]
    transcript: Transcript | None = None
    tokens_max: int = 0
    #: Whether any byte reached the client's sink.
    delivered: bool = False
    #: Whether the end of the answer was seen and reported: nothing can fail any more.
    finished: bool = False
    #: Whether it gives its place back and its request goes on later.
    paused: bool = False
    output_tokens: int = 0
    _reply: Reply | None = None
    _streams: bool = False
    _delivering: bool = False
    _told: bool = False
    _closing: "asyncio.Task[None] | None" = None
    #: Holds the answer back, where another model could still take over.
    hold: Hold | None = None

    async def run(
        self, make_call: MakeCall, sink: Sink, *, stream: bool, strip_usage: bool
    ) -> None:
        """Call the engine and relay its answer to the end.

        Posts `AttemptFinished` on success. Whoever catches an error posts the failure.

        Raises:
            RequestError: The call cannot be built for this engine.
            EngineError: The engine failed, refused, or ended too early.
        """
        engine = self.assignment.engine
        reply = await engine.generate(make_call(engine, self._terms()))
        self._reply = reply
        try:
            if reply.status >= 500:
                raise await _engine_error(reply)
            if reply.status >= 400:
                await self._relay_refusal(reply, sink)
            elif stream and reply.content_type.startswith("text/event-stream"):
                await self._relay_stream(reply, sink, strip_usage=strip_usage)
            else:
                await self._relay_body(reply, sink)
        finally:
            await reply.close()

    def pause(self) -> bool:
        """Give the place back so that another attempt can go on behind what the client has.

        An attempt that cannot be continued, or that is about to end anyway, runs on. A write to
        the client is never broken off: nobody could tell whether it was made.

        Returns:
            Whether the task that runs it is to be interrupted.
        """
        if not self._can_pause():
            return False
        self.paused = True
        if not self._delivering:
            return True
        self._closing = asyncio.ensure_future(self._close_early())
        return False

    def fail(self, kind: FailureKind) -> None:
        """Report that it is over and was no success, unless its end was reported before."""
        if self._told or self.finished:
            return
        self._told = True
        assignment = self.assignment
        self.post(
            AttemptFailed(
                assignment.request_id,
                assignment.attempt,
                kind,
                delivered=self.delivered,
                output_tokens=self.output_tokens,
            )
        )

    def _can_pause(self) -> bool:
        if self.finished or self.paused or self.transcript is None:
            return False
        if self._reply is None:
            return True
        produced = self.assignment.resumed_tokens + self.output_tokens
        return self._streams and produced < self.tokens_max and self.transcript.can_go_on()

    async def _close_early(self) -> None:
        """Free the engine while a slow client still takes what was produced."""
        if self._reply is not None:
            await self._reply.close()
        self.fail(FailureKind.ABORTED)

    def _terms(self) -> Terms:
        assignment, kept = self.assignment, self.transcript
        return Terms(
            attempt=assignment.attempt,
            priority=assignment.priority,
            max_tokens=assignment.max_tokens,
            resumed_text=kept.text if kept is not None and kept.begun else "",
            resumed_tokens=assignment.resumed_tokens,
            judged=self.hold is not None,
        )

    async def _relay_stream(self, reply: Reply, sink: Sink, *, strip_usage: bool) -> None:
        assignment, watch = self.assignment, StreamWatch(strip_usage=strip_usage)
        transcript, self._streams = self.transcript, True
        goes_on = transcript is not None and transcript.begun
        said_first, progress_ns = False, self.now_ns() + PROGRESS_EVERY_NS
        while data := await reply.read():
            out = watch.feed(data)
            if not said_first and watch.first_token:
                said_first = True
                self.post(FirstToken(assignment.request_id, assignment.attempt))
            if said_first:
                self.output_tokens = watch.output_tokens
                now_ns = self.now_ns()
                if now_ns >= progress_ns:
                    progress_ns = now_ns + PROGRESS_EVERY_NS
                    tokens = self.output_tokens
                    self.post(Progress(assignment.request_id, assignment.attempt, tokens))
            done = watch.done and not watch.error
            if self.hold is not None:
                out = await self.hold.take(out, ended=done)
            if done:
                self._finish_stream(watch)
            if transcript is not None:
                out = self._kept(transcript, out, goes_on=goes_on)
            await self._deliver(reply, sink, out)
        out = watch.finish()
        if self.hold is not None and not watch.error:
            out = await self.hold.take(out, ended=True)
        if transcript is not None:
            out = self._kept(transcript, out, goes_on=goes_on)
        await self._deliver(reply, sink, out)
        if watch.error:
            raise EngineError(
                f"replica {assignment.replica_id} reported an error inside its stream",
                code=FailureKind.ENGINE_ERROR,
            )
        self._finish_stream(watch)

    def _kept(self, transcript: Transcript, events: bytes, *, goes_on: bool) -> bytes:
        """Events as they go to the client, noted in the transcript."""
        if goes_on:
            events = transcript.splice(events, self.assignment.resumed_tokens)
        transcript.keep(events)
        return events

    async def _relay_body(self, reply: Reply, sink: Sink) -> None:
        watch = BodyWatch()
        held = []
        while data := await reply.read():
            watch.feed(data)
            if self.hold is None:
                await self._deliver(reply, sink, data)
            else:
                held.append(data)
        if self.hold is not None:
            await self._deliver(reply, sink, await self.hold.take_body(b"".join(held)))
        prompt_tokens, output_tokens, cached_tokens = watch.usage()
        self._finish(output_tokens, prompt_tokens, cached_tokens, tool_calls=watch.tool_calls())

    async def _relay_refusal(self, reply: Reply, sink: Sink) -> None:
        """Pass the engine's own 4xx on: it says best what is wrong with the request."""
        while data := await reply.read():
            await self._deliver(reply, sink, data)
        raise EngineError(
            f"replica {self.assignment.replica_id} refused the request with status {reply.status}",
            code=FailureKind.REFUSED,
            retryable=False,
            status=reply.status,
        )

    async def _deliver(self, reply: Reply, sink: Sink, data: bytes) -> None:
        """Write to the client; the head goes with the first bytes, so that a retry stays open."""
        if not data:
            return
        self._delivering = True
        if not self.delivered:
            self.delivered = True
            if self.hold is not None and self.hold.verdict is not None:
                self.assignment = replace(self.assignment, judged=_words(self.hold.verdict))
            await sink.head(self.assignment, reply.status, reply.content_type)
        await sink.body(data)
        self._delivering = False
        if self.paused:
            raise PausedError

    def _finish_stream(self, watch: StreamWatch) -> None:
        self._finish(
            watch.output_tokens,
            watch.prompt_tokens,
            watch.cached_tokens,
            tool_calls=watch.tool_calls,
        )

    def _finish(
        self, output_tokens: int, prompt_tokens: int, cached_tokens: int, *, tool_calls: bool
    ) -> None:
        """Report success, once: at the end mark, so that a slow client keeps no place."""
        self.output_tokens = output_tokens
        if self.finished:
            return
        self.finished = True
        fence = (self.assignment.request_id, self.assignment.attempt)
        if prompt_tokens >= 0:  # it read what earlier attempts wrote as a part of its prompt
            prompt_tokens = max(prompt_tokens - self.assignment.resumed_tokens, 0)
        counts = (output_tokens, prompt_tokens, cached_tokens)
        self.post(AttemptFinished(*fence, *counts, tool_calls))


def _words(verdict: Verdict) -> str:
    return verdict.value if verdict is Verdict.TRUSTED else f"{verdict.value}; kept"


async def _engine_error(reply: Reply) -> EngineError:
    """The engine's 5xx as an error; its body is for the log's reader, not for clients."""
    body = b""
    while len(body) < _ERROR_BYTES_MAX and (data := await reply.read()):
        body += data
    return EngineError(
        f"the engine answered with status {reply.status}",
        code=FailureKind.ENGINE_ERROR,
        status=reply.status,
    )
