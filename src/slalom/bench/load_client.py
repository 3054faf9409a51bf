"""An open-loop HTTP load client: every request leaves at its time, whatever became of others.

Owns sending, measuring and the bounds on both. Latency counts from the scheduled arrival, so
neither a slow server nor a late client makes a request look quicker. Judges answers by the plan's
targets. Called by the demo; the records go to `slalom.metrics`.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from slalom.bench.load_client_answer import Answer
from slalom.clock import Clock, MonotonicClock
from slalom.metrics.records import Fate, RequestRecord
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.plan import PlannedRequest
from slalom.workload.streams import stream

#: Time to set up before the first request, ns.
_LEAD_NS = SECOND // 20


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """What a load client takes on."""

    #: Requests under way at a time; one beyond it fails unsent.
    in_flight_max: int = 4096
    #: How long after the last arrival answers are still waited for, seconds.
    drain_s: float = 30.0


@dataclass(slots=True)
class Progress:
    """What a display may look at while a load runs."""

    total: int = 0
    sent: int = 0
    good: int = 0
    ended: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self.sent - sum(self.ended.values())

    def note(self, record: RequestRecord) -> None:
        """Count an ended request."""
        self.ended[record.fate] += 1
        self.good += record.good


class LoadClient:
    """Sends planned requests to one server.

    Args:
        base_url: The server, without a path.
        bounds: What it takes on.
        progress: Kept up to date while it works.
        clock: For tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        bounds: ClientBounds | None = None,
        progress: Progress | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._base_url = base_url
        self._bounds = bounds or ClientBounds()
        self.progress = progress or Progress()
        self._clock = clock or MonotonicClock()
        self._start_ns = 0
        self._records: list[RequestRecord] = []

    async def open_loop(self, planned: Sequence[PlannedRequest]) -> list[RequestRecord]:
        """Send each request at its time; returns when all have ended or the drain is over.

        Args:
            planned: In the order of their times.

        Returns:
            One record for each, in the order of the plan. Steps of a session whose step before
            was not answered in whole are never sent and leave none.
        """
        self._begin(sum(1 for request in planned for _ in _steps(request)))
        async with self._session() as session:
            tasks: set[asyncio.Task[None]] = set()
            for request in planned:
                await self._until(request.at_ns)
                self.progress.sent += 1
                if len(tasks) >= self._bounds.in_flight_max:
                    self._unsent(request)
                    continue
                task = asyncio.create_task(self._send_steps(session, request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await self._drain(tasks)
        steps = (step for request in planned for step in _steps(request))
        places = {step.id: place for place, step in enumerate(steps)}
        return sorted(self._records, key=lambda record: places[record.request_id])

    async def closed_loop(
        self, planned: Iterable[PlannedRequest], *, width: int, duration_s: float
    ) -> list[RequestRecord]:
        """Keep `width` requests under way for a time: what the server can do, not what it is asked.

        Each counts as scheduled when it is sent. What is under way at the end is cut and leaves
        no record.
        """
        self._begin(0)
        source = iter(planned)
        async with self._session() as session:
            workers = [asyncio.create_task(self._repeat(session, source)) for _ in range(width)]
            await asyncio.wait(workers, timeout=duration_s)
            await _cut(workers)
        return [record for record in self._records if record.reason != _CUT]

    def _begin(self, total: int) -> None:
        self._records = []
        self.progress.total = total
        self._start_ns = self._clock.now_ns() + _LEAD_NS

    def _now_ns(self) -> int:
        """Ns since the start of the load."""
        return self._clock.now_ns() - self._start_ns

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            self._base_url, connector=connector, timeout=timeout
        ) as session:
            yield session

    async def _until(self, at_ns: int) -> None:
        wait_ns = at_ns - self._now_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / SECOND)

    async def _repeat(
        self, session: aiohttp.ClientSession, source: Iterator[PlannedRequest]
    ) -> None:
        for request in source:
            self.progress.sent += 1
            await self._send(session, request, self._now_ns())

    async def _drain(self, tasks: set[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=self._bounds.drain_s)
        await _cut(list(tasks))

    async def _send_steps(self, session: aiohttp.ClientSession, first: PlannedRequest) -> None:
        """Send a request and the steps that follow from its answer."""
        record = await self._send(session, first, first.at_ns)
        step = first
        while step.then is not None and record.fate is Fate.DONE:
            scheduled_ns, step = record.ended_ns + step.gap_ns, step.then
            await self._until(scheduled_ns)
            self.progress.sent += 1
            record = await self._send(session, step, scheduled_ns)

    async def _send(
        self, session: aiohttp.ClientSession, request: PlannedRequest, scheduled_ns: int
    ) -> RequestRecord:
        """Send one request and leave its record, whatever happens; also when cancelled."""
        sent_ns = self._now_ns()
        answer = Answer(0)
        fate, reason = Fate.FAILED, _CUT
        patience_s = None
        if request.give_up_after_ns is not None:
            patience_s = (scheduled_ns + request.give_up_after_ns - sent_ns) / SECOND
        try:
            async with asyncio.timeout(patience_s):
                for tries in itertools.count():
                    answer, fate, reason = Answer(0), Fate.FAILED, _CUT
                    await self._read(session, request, answer, tries)
                    fate, reason = _fate(answer)
                    wait_ns = self._wait_ns(request, answer, tries, scheduled_ns)
                    if wait_ns is None:
                        break
                    await asyncio.sleep(wait_ns / SECOND)
        except TimeoutError:
            cancelled = patience_s is not None and self._now_ns() >= (
                scheduled_ns + (request.give_up_after_ns or 0)
            )
            fate, reason = (Fate.CANCELLED, "") if cancelled else (Fate.FAILED, "timeout")
        except (aiohttp.ClientError, OSError) as problem:
            fate, reason = Fate.FAILED, type(problem).__name__
        finally:
            record = self._record(request, answer, (scheduled_ns, sent_ns), (fate, reason))
        return record

    def _wait_ns(
        self, request: PlannedRequest, answer: Answer, tries: int, scheduled_ns: int
    ) -> int | None:
        """How long a client waits before it comes again; None if it does not."""
        rule = request.retries
        if rule is None or tries >= rule.tries or not answer.refused or not answer.may_return:
            return None
        point = stream(0, "retry", request.id, tries).random()
        wait_ns = rule.wait_ns(tries, answer.retry_after_ns, point)
        limits = (request.give_up_after_ns, request.stale_after_ns)
        at_ns = self._now_ns() + wait_ns - scheduled_ns
        return None if any(ns is not None and at_ns >= ns for ns in limits) else wait_ns

    async def _read(
        self, session: aiohttp.ClientSession, request: PlannedRequest, answer: Answer, tries: int
    ) -> None:
        headers = {
            **request.headers,
            "content-type": "application/json",
            "x-request-id": f"{request.id}~{tries}" if tries else request.id,
        }
        async with session.post(request.path, data=request.body, headers=headers) as response:
            answer.begin(response.status, response.headers)
            async for data in response.content.iter_any():
                answer.feed(data, self._now_ns())
            answer.end()

    def _record(
        self,
        request: PlannedRequest,
        answer: Answer,
        times_ns: tuple[int, int],
        end: tuple[Fate, str],
    ) -> RequestRecord:
        scheduled_ns, sent_ns = times_ns
        ended_ns = self._now_ns()
        fate, reason = _wanted(request, answer, ended_ns - scheduled_ns, end)
        good = fate is Fate.DONE and request.was_good(
            scheduled_ns, answer.first_token_ns, ended_ns, answer.tokens
        )
        link = request.link
        record = RequestRecord(
            request_id=request.id,
            task=request.task,
            model=request.model,
            scheduled_ns=scheduled_ns,
            sent_ns=sent_ns,
            first_token_ns=answer.first_token_ns,
            ended_ns=ended_ns,
            output_tokens=answer.tokens,
            fate=fate,
            good=good,
            status=answer.status,
            reason=reason,
            chain=link.chain if link is not None else "",
            step=link.step if link is not None else 0,
            steps=link.steps if link is not None else 0,
        )
        self._records.append(record)
        self.progress.note(record)
        return record

    def _unsent(self, request: PlannedRequest) -> None:
        at_ns = (request.at_ns, self._now_ns())
        self._record(request, Answer(0), at_ns, (Fate.FAILED, "client_full"))


#: Reason of a request that was under way when the client stopped waiting.
_CUT = "unfinished"


def _fate(answer: Answer) -> tuple[Fate, str]:
    if not answer.error_code:
        return Fate.DONE, ""
    return (Fate.REFUSED if answer.refused else Fate.FAILED), answer.error_code


def _wanted(
    request: PlannedRequest, answer: Answer, took_ns: int, end: tuple[Fate, str]
) -> tuple[Fate, str]:
    """How a request ended in the eyes of a client that may have asked anew meanwhile.

    A server that replaces what its client still wants has failed.
    """
    if request.stale_after_ns is not None and took_ns > request.stale_after_ns:
        return Fate.SUPERSEDED, ""
    if not answer.replaced or end[0] is Fate.CANCELLED:
        return end
    gone = request.give_up_after_ns is not None and took_ns >= request.give_up_after_ns
    return (Fate.CANCELLED, "") if gone else (Fate.FAILED, "superseded")


def _steps(first: PlannedRequest) -> Iterator[PlannedRequest]:
    """A request and those that follow from it."""
    step: PlannedRequest | None = first
    while step is not None:
        yield step
        step = step.then


async def _cut(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def span_ns(planned: Sequence[PlannedRequest], rate_per_s: float) -> int:
    """The time over which a load arrives, ns: its number of requests over its mean rate."""
    return seconds_to_ns(len(planned) / rate_per_s)
