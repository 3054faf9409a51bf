"""The data plane of one attempt: engine to client, with the events the scheduler needs.

Owns the call to the engine and the relay of its bytes. Tokens never pass the scheduler: it hears
of the first token, of coarse progress and of the end. Called by `driver.Runtime.serve` in the
client's own task, so that a slow client slows its own stream and nobody else's.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slalom.core.events import AttemptFinished, Event, FailureKind, FirstToken, Progress
from slalom.engines.protocol import Reply
from slalom.errors import EngineError
from slalom.runtime.sink import Assignment, MakeCall, Sink
from slalom.runtime.stream_watch import BodyWatch, StreamWatch

#: Silence between two `Progress` events of one attempt, ns.
PROGRESS_EVERY_NS = 500_000_000
#: How much of an engine's error body is kept for the message, bytes.
_ERROR_BYTES_MAX = 2_000


@dataclass(slots=True)
class Relay:
    """Runs one attempt.

    Args:
        assignment: Where it runs.
        post: Takes events for the scheduler.
        now_ns: The clock.
    """

    assignment: Assignment
    post: Callable[[Event], None]
    now_ns: Callable[[], int]
    #: Whether any byte reached the client's sink.
    delivered: bool = False
    #: Whether the end of the answer was seen and reported: nothing can fail any more.
    finished: bool = False
    output_tokens: int = 0

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
        reply = await engine.generate(make_call(engine))
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

    async def _relay_stream(self, reply: Reply, sink: Sink, *, strip_usage: bool) -> None:
        assignment, watch = self.assignment, StreamWatch(strip_usage=strip_usage)
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
            if watch.done and not watch.error:
                self._finish(watch.output_tokens, watch.prompt_tokens)
            await self._deliver(reply, sink, out)
        await self._deliver(reply, sink, watch.finish())
        if watch.error:
            raise EngineError(
                f"replica {assignment.replica_id} reported an error inside its stream",
                code=FailureKind.ENGINE_ERROR,
            )
        self._finish(watch.output_tokens, watch.prompt_tokens)

    async def _relay_body(self, reply: Reply, sink: Sink) -> None:
        watch = BodyWatch()
        while data := await reply.read():
            watch.feed(data)
            await self._deliver(reply, sink, data)
        prompt_tokens, output_tokens = watch.usage()
        self._finish(output_tokens, prompt_tokens)

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
        if not self.delivered:
            self.delivered = True
            await sink.head(self.assignment, reply.status, reply.content_type)
        await sink.body(data)

    def _finish(self, output_tokens: int, prompt_tokens: int) -> None:
        """Report success, once: at the end mark, so that a slow client keeps no place."""
        self.output_tokens = output_tokens
        if self.finished:
            return
        self.finished = True
        assignment = self.assignment
        self.post(
            AttemptFinished(assignment.request_id, assignment.attempt, output_tokens, prompt_tokens)
        )


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
