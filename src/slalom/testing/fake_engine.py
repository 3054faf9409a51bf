"""A scripted engine without a model: every time, length and fault is given by the test.

Owns an engine's behaviour as the runtime sees it: places and the FIFO behind them, prefill, one
token after the other, aborts, crashes, hangs. Takes time only from the running event loop, so it
runs in virtual time too. It passes `check_engine`. Called by tests and by `fake_server`.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import dataclass

from slalom.core.events import FailureKind
from slalom.engines.memory_use import MemoryUse
from slalom.engines.protocol import Call, EngineMetrics
from slalom.engines.upstream_connection import UpstreamReply
from slalom.errors import EngineError
from slalom.testing import fake_wire
from slalom.testing.fake_script import FakeScript, Fault, FaultKind
from slalom.testing.fake_wire import Asked
from slalom.twin.engine_model import EngineModel, StepLaw
from slalom.units import SECOND

#: How long a frozen one keeps a health check waiting, seconds.
PROBE_TIMEOUT_S = 5.0
#: Resident memory by sleep level: all, a fifth, a twentieth.
_SLEEP_SHARE = {0: 1, 1: 5, 2: 20}


@dataclass(eq=False, slots=True)
class _Job:
    """A call inside the engine; the feed of its reply."""

    engine: "FakeEngine"
    reply: UpstreamReply
    asked: Asked
    call_id: str
    fault: Fault | None
    prompt_tokens: int
    length: int
    produced: int = 0
    text: str = ""
    #: Tokens produced before the engine was last frozen.
    skipped: int = 0
    timer: asyncio.TimerHandle | None = None

    def drop(self) -> None:
        """The reader has gone."""
        self.engine.abort(self)

    def resume(self) -> None:
        """The reader is ready for more: nothing was held back."""


class FakeEngine:
    """An `Engine` that follows a script."""

    def __init__(self, script: FakeScript | None = None, *, model_name: str = "fake") -> None:
        self.script = script or FakeScript()
        self.model_name = model_name
        self.capabilities = self.script.capabilities
        #: Every call it was given.
        self.calls: list[Call] = []
        #: Calls whose reader left early, and calls answered to the end.
        self.aborted = 0
        self.finished = 0
        #: Most calls that ran at the same time.
        self.running_max = 0
        self._loop = asyncio.get_running_loop()
        self._active: list[_Job] = []
        self._queue: deque[_Job] = deque()
        #: The twin's own law, so that its journals and ours can be compared.
        self._law: EngineModel[_Job] = _law(self.script)
        self._numbers = itertools.count(1)
        self._generated = 0
        self._sleep_level = 0
        self._frozen = False
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._thawed = asyncio.Event()
        self._thawed.set()

    def __repr__(self) -> str:
        return (
            f"<FakeEngine {self.model_name!r} running={len(self._active)} "
            f"waiting={len(self._queue)} generated={self._generated}>"
        )

    # -- what a test does to it ---------------------------------------------------------

    def crash(self, said: str = "killed by the test") -> None:
        """Die: every connection breaks, `wait_closed` returns."""
        if self._closed.done():
            return
        self._closed.set_result(said)
        for job in (*self._active, *self._queue):
            self._end(job, FailureKind.CRASHED, "the engine closed the connection")
        self._thawed.set()

    def freeze(self) -> None:
        """Stop answering without dying, as a process that got SIGSTOP."""
        self._frozen = True
        self._thawed.clear()
        for job in self._active:
            if job.timer is not None:
                job.timer.cancel()

    def thaw(self) -> None:
        """Go on where `freeze` stopped it."""
        self._frozen = False
        self._thawed.set()
        self._law, now_ns = _law(self.script), self._now_ns()
        for job in list(self._active):
            job.skipped = job.produced
            self._law.start(job, 0, job.length - job.produced, now_ns)
            self._set_timer(job)

    # -- Engine -------------------------------------------------------------------------

    async def generate(self, call: Call) -> UpstreamReply:
        """Queue the call; returns with its first token, as llama.cpp does."""
        self._require_alive()
        self.calls.append(call)
        reply = UpstreamReply("fake engine", call.stall_timeout_s)
        try:
            self._begin(call, reply)
            await reply.head()
        except BaseException:
            reply.abort()
            raise
        return reply

    async def health(self) -> bool:
        """Whether it lives and is not frozen."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._thawed.wait()
        return not self._closed.done() and not self._frozen

    async def metrics(self) -> EngineMetrics | None:
        """Its gauges, or None when it does not answer."""
        if not await self.health():
            return None
        return EngineMetrics(len(self._active), len(self._queue), self._generated)

    async def memory_bytes(self) -> int:
        """What the script says, less when asleep, nothing when ended."""
        if self._closed.done():
            return 0
        return self.script.memory_bytes // _SLEEP_SHARE.get(self._sleep_level, 1)

    async def memory_use(self) -> MemoryUse | None:
        """Half of it weights, half its own; None when ended."""
        total = await self.memory_bytes()
        half = total // 2
        return MemoryUse(half, total - half, 0, total) if total else None

    async def sleep(self, level: int) -> None:
        """Give memory back.

        Raises:
            EngineError: Unknown level, or requests are running.
        """
        self._require_alive()
        if level not in self.capabilities.sleep_levels or self._active or self._queue:
            raise EngineError(
                f"fake engine: cannot sleep at level {level} with {len(self._active)} running",
                code=FailureKind.REFUSED,
                retryable=False,
            )
        await asyncio.sleep(self.script.timings.sleep_ns / SECOND)
        self._sleep_level = level

    async def wake(self) -> None:
        """Undo `sleep`.

        Raises:
            EngineError: It is not asleep.
        """
        self._require_alive()
        if self._sleep_level == 0:
            raise EngineError("fake engine: not asleep", code=FailureKind.REFUSED, retryable=False)
        await asyncio.sleep(self.script.timings.wake_ns / SECOND)
        self._sleep_level = 0

    async def wait_closed(self) -> str:
        """Return when it has crashed or was stopped."""
        return await asyncio.shield(self._closed)

    async def stop(self, grace_s: float) -> None:
        """End it. Idempotent."""
        self.crash("stopped")

    # -- inside -------------------------------------------------------------------------

    def abort(self, job: _Job) -> None:
        """Free what a call holds, because its reader has gone."""
        self.aborted += 1
        self._leave(job)

    def _begin(self, call: Call, reply: UpstreamReply) -> None:
        try:
            asked = Asked.read(call.path, call.body)
        except ValueError as problem:
            _answer(reply, 400, fake_wire.error(400, str(problem), "invalid_request_error"))
            return
        number = next(self._numbers)
        fault = self.script.fault(number, asked)
        if fault is not None and fault.kind is FaultKind.STATUS:
            _answer(reply, fault.status, fake_wire.error(fault.status, "scripted"))
        elif asked.path == fake_wire.EMBEDDINGS and not self.capabilities.embeddings:
            _answer(reply, 501, fake_wire.error(501, "no embeddings", "not_supported_error"))
        elif self._sleep_level:
            _answer(reply, 503, fake_wire.error(503, "asleep"))
        else:
            length = self.script.output_tokens(asked) - asked.behind
            if asked.max_tokens is not None:
                length = min(length, asked.max_tokens)
            prompt_tokens = self.script.prompt_tokens(asked)
            job = _Job(self, reply, asked, f"call-{number}", fault, prompt_tokens, max(1, length))
            reply.bind(job)
            self._queue.append(job)
            self._fill_places()

    def _fill_places(self) -> None:
        while self._queue and len(self._active) < self.script.places:
            job = self._queue.popleft()
            self._active.append(job)
            self.running_max = max(self.running_max, len(self._active))
            self._law.start(job, job.prompt_tokens, job.length, self._now_ns())
            self._set_timer(job)

    def _now_ns(self) -> int:
        return round(self._loop.time() * SECOND)

    def _set_timer(self, job: _Job) -> None:
        if not self._frozen:
            due_ns = self._law.token_ns(job, job.produced - job.skipped + 1)
            job.timer = self._loop.call_at(due_ns / SECOND, self._produce, job)

    def _produce(self, job: _Job) -> None:
        """One token of one call, or what goes wrong instead of it."""
        if job.fault is not None and job.produced >= job.fault.after_tokens:
            self._go_wrong(job, job.fault)
            return
        if job.asked.path == fake_wire.EMBEDDINGS:
            self._finish(job, fake_wire.embeddings(job.asked, job.prompt_tokens))
            return
        piece = self.script.text(job.asked.behind + job.produced)
        job.produced += 1
        self._generated += 1
        stopped = next((word for word in job.asked.stop if word in job.text + piece), None)
        if stopped is not None:
            piece = (job.text + piece)[: (job.text + piece).index(stopped)][len(job.text) :]
        job.text += piece
        if stopped is None and job.produced < job.length:
            if job.asked.stream:
                self._push(
                    job, fake_wire.event(job.asked, job.call_id, piece, None, self.script.logprob)
                )
            self._set_timer(job)
            return
        cut = job.asked.max_tokens is not None and job.produced >= job.asked.max_tokens
        self._finish(job, self._ending(job, piece, "length" if cut and not stopped else "stop"))

    def _ending(self, job: _Job, piece: str, finish: str) -> bytes:
        asked, counts = job.asked, (job.prompt_tokens, job.produced)
        if not asked.stream:
            logprob = self.script.logprob
            return fake_wire.whole(asked, job.call_id, job.text, finish, counts, logprob)
        events = [
            fake_wire.event(asked, job.call_id, piece, None, self.script.logprob),
            fake_wire.event(asked, job.call_id, "", finish),
        ]
        if asked.include_usage:
            events.append(fake_wire.usage_event(asked, job.call_id, *counts))
        return b"".join((*events, fake_wire.DONE))

    def _push(self, job: _Job, body: bytes) -> None:
        if job.reply.status == 0:
            streams = job.asked.stream and job.asked.path != fake_wire.EMBEDDINGS
            job.reply.content_type = "text/event-stream" if streams else "application/json"
            job.reply.status = 200
        job.reply.push(body)
        job.reply.notify()

    def _finish(self, job: _Job, body: bytes) -> None:
        self._push(job, body)
        self.finished += 1
        job.reply.finish()
        self._leave(job)

    def _go_wrong(self, job: _Job, fault: Fault) -> None:
        if fault.kind is FaultKind.CRASH:
            self.crash("terminated by a scripted fault")
        elif fault.kind is FaultKind.CUT:
            self._end(job, FailureKind.CRASHED, "the connection broke")
        elif fault.kind is FaultKind.HANG:
            self.freeze()
        else:
            self._finish(job, b"\x00\xff{ this is [no event \n\n")

    def _end(self, job: _Job, kind: FailureKind, what: str) -> None:
        """Break a call from our side: not an abort."""
        self._leave(job)
        job.reply.unbind()
        job.reply.fail(kind, what)

    def _leave(self, job: _Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        if job in self._active:
            self._active.remove(job)
            self._law.stop(job, self._now_ns())
        elif job in self._queue:
            self._queue.remove(job)
        if not self._closed.done() and not self._frozen:
            self._fill_places()

    def _require_alive(self) -> None:
        if self._closed.done():
            raise EngineError("fake engine: cannot connect, it has ended", code=FailureKind.CRASHED)


def _law(script: FakeScript) -> EngineModel[_Job]:
    timings = script.timings
    return EngineModel(
        StepLaw(timings.prefill_ns_per_token, timings.token_ns, timings.neighbour_ns)
    )


def _answer(reply: UpstreamReply, status: int, body: bytes) -> None:
    reply.content_type = "application/json"
    reply.status = status
    reply.push(body)
    reply.finish()
