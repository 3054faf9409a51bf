"""The load client against a scripted server: what it measures, and every way an answer can end."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from slalom.bench.load_client import ClientBounds, LoadClient, Progress, span_ns
from slalom.bench.load_client_answer import Answer
from slalom.core.request import Sla
from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.units import MS, SECOND
from slalom.workload.clients import Retries
from slalom.workload.plan import PlannedRequest

Answering = Callable[[web.Request, web.StreamResponse], Awaitable[None]]
PATH = "/v1/completions"
SLA = Sla(ttft_ns=60 * SECOND, e2e_ns=60 * SECOND)


def planned(number: int = 0, at_ms: int = 0, *, sla: Sla = SLA) -> PlannedRequest:
    return PlannedRequest(
        id=f"t-{number}",
        at_ns=at_ms * MS,
        task="completion",
        model="m",
        path=PATH,
        headers={"x-slalom-task": "completion"},
        body=b'{"model": "m", "prompt": "x"}',
        sla=sla,
        origin="test",
    )


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event(choices=[{"text": text}])


DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def serving(answer: Answering, status: int = 200) -> AsyncIterator[str]:
    """A server that answers every request like this."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        await answer(request, response)
        return response

    application = web.Application()
    application.router.add_post(PATH, respond)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")


async def ask(answer: Answering, status: int = 200) -> RequestRecord:
    async with serving(answer, status) as url, asyncio.timeout(20):
        (record,) = await LoadClient(url).open_loop([planned()])
    return record


async def test_a_whole_answer_is_measured() -> None:
    seen: list[web.Request] = []

    async def answer(request: web.Request, response: web.StreamResponse) -> None:
        seen.append(request)
        await response.write(b": waiting\n\n" + piece(""))
        await response.write(piece("a") + piece("b"))
        await response.write(event(choices=[], usage={"completion_tokens": 9}) + DONE)

    record = await ask(answer)
    assert (record.fate, record.good, record.status) == (Fate.DONE, True, 200)
    assert record.output_tokens == 9
    assert record.scheduled_ns <= record.sent_ns < record.first_token_ns <= record.ended_ns
    assert seen[0].headers["x-request-id"] == "t-0"
    assert seen[0].headers["x-slalom-task"] == "completion"


async def test_an_answer_that_misses_a_target_is_not_good() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a") + DONE)

    async with serving(answer) as url, asyncio.timeout(20):
        (record,) = await LoadClient(url).open_loop([planned(sla=Sla(ttft_ns=1))])
    assert (record.fate, record.good) == (Fate.DONE, False)


async def test_a_slow_answer_does_not_hold_the_next_request_back() -> None:
    arrived = [asyncio.Event(), asyncio.Event()]

    async def answer(request: web.Request, response: web.StreamResponse) -> None:
        number = int(request.headers["x-request-id"][-1])
        arrived[number].set()
        # The first one ends only when the second has come.
        await arrived[1].wait()
        await response.write(piece("a") + DONE)

    async with serving(answer) as url, asyncio.timeout(20):
        records = await LoadClient(url).open_loop([planned(0), planned(1, at_ms=30)])
    assert [record.request_id for record in records] == ["t-0", "t-1"]
    assert all(record.fate is Fate.DONE for record in records)
    # Sent at its time, and its latency counts from there.
    assert records[0].e2e_ns >= 30 * MS
    assert records[1].scheduled_ns == 30 * MS
    assert records[1].sent_ns >= 30 * MS


@pytest.mark.parametrize(
    ("status", "kind", "fate"),
    [
        (429, "rate_limit_error", Fate.REFUSED),
        (503, "overloaded_error", Fate.REFUSED),
        (503, "server_error", Fate.FAILED),
        (400, "invalid_request_error", Fate.FAILED),
    ],
)
async def test_a_refusal_is_told_from_a_failure(status: int, kind: str, fate: Fate) -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(json.dumps({"error": {"type": kind, "code": "why"}}).encode())

    record = await ask(answer, status)
    assert (record.fate, record.reason, record.status) == (fate, "why", status)
    assert not record.good


async def test_a_refusal_after_comments_is_one() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(b": waiting 2000 ms\n\n")
        await response.write(event(error={"type": "rate_limit_error", "code": "late"}) + DONE)

    record = await ask(answer)
    assert (record.fate, record.reason) == (Fate.REFUSED, "late")


async def test_an_error_after_the_first_token_is_a_failure() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a"))
        await response.write(event(error={"type": "overloaded_error", "code": "crashed"}) + DONE)

    record = await ask(answer)
    assert (record.fate, record.reason, record.good) == (Fate.FAILED, "crashed", False)
    assert record.first_token_ns != NEVER


async def test_a_stream_without_its_end_is_a_failure() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a"))

    record = await ask(answer)
    assert (record.fate, record.reason) == (Fate.FAILED, "stream_cut")


async def test_a_broken_connection_is_a_failure() -> None:
    async def answer(request: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a"))
        assert request.transport is not None
        request.transport.abort()

    record = await ask(answer)
    assert record.fate is Fate.FAILED
    assert record.reason


async def test_nobody_listening_is_a_failure() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(DONE)

    async with serving(answer) as url:
        pass
    (record,) = await LoadClient(url).open_loop([planned()])
    assert (record.fate, record.status, record.first_token_ns) == (Fate.FAILED, 0, NEVER)


async def never(_: web.Request, response: web.StreamResponse) -> None:
    await response.write(piece("a"))
    await asyncio.Event().wait()


async def test_a_client_that_gives_up_is_no_failure() -> None:
    request = replace(planned(), give_up_after_ns=50 * MS)
    async with serving(never) as url, asyncio.timeout(20):
        (record,) = await LoadClient(url).open_loop([request])
    assert (record.fate, record.good) == (Fate.CANCELLED, False)
    assert record.e2e_ns >= 50 * MS


REFUSAL = json.dumps({"error": {"type": "rate_limit_error", "code": "queue_full"}}).encode()


@asynccontextmanager
async def refusing(times: int, seen: list[str], **headers: str) -> AsyncIterator[str]:
    """A server that refuses so often before it answers; `seen` has the ids it was asked by."""

    async def respond(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["x-request-id"])
        if len(seen) <= times:
            return web.Response(status=429, body=REFUSAL, headers=headers)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(piece("a") + DONE)
        return response

    application = web.Application()
    application.router.add_post(PATH, respond)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_refused_client_comes_again_and_leaves_one_record() -> None:
    seen: list[str] = []
    rule = Retries(tries=3, backoff_ns=20 * MS, jitter=0)
    async with refusing(2, seen) as url, asyncio.timeout(20):
        (record,) = await LoadClient(url).open_loop([replace(planned(), retries=rule)])
    assert seen == ["t-0", "t-0~1", "t-0~2"]
    assert (record.request_id, record.fate, record.good) == ("t-0", Fate.DONE, True)
    assert record.e2e_ns >= (20 + 40) * MS


async def test_who_was_refused_too_often_or_for_good_stays_refused() -> None:
    rule = Retries(tries=1, backoff_ns=1 * MS, jitter=0)
    cases: list[tuple[dict[str, str], int]] = [
        ({}, 2),
        ({"x-should-retry": "false"}, 1),
        ({"retry-after": "0"}, 2),
    ]
    for headers, tries in cases:
        seen: list[str] = []
        async with refusing(9, seen, **headers) as url, asyncio.timeout(20):
            (record,) = await LoadClient(url).open_loop([replace(planned(), retries=rule)])
        assert (record.fate, record.reason, len(seen)) == (Fate.REFUSED, "queue_full", tries)


async def test_a_client_does_not_come_again_once_nobody_wants_the_answer() -> None:
    rule = Retries(tries=1, backoff_ns=1 * MS, jitter=0)
    patient = replace(planned(), retries=rule)
    for request in (
        replace(patient, give_up_after_ns=10 * SECOND),
        replace(patient, stale_after_ns=10 * SECOND),
    ):
        seen: list[str] = []
        async with refusing(9, seen, **{"retry-after": "60"}) as url, asyncio.timeout(20):
            (record,) = await LoadClient(url).open_loop([request])
        assert (record.fate, seen) == (Fate.REFUSED, ["t-0"])


async def test_an_answer_that_was_replaced_meanwhile_is_superseded() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a") + DONE)

    async with serving(answer) as url, asyncio.timeout(20):
        stale, wanted = (replace(planned(n), stale_after_ns=n * 60 * SECOND) for n in (0, 1))
        records = await LoadClient(url).open_loop([stale, wanted])
    assert [record.fate for record in records] == [Fate.SUPERSEDED, Fate.DONE]
    assert [record.good for record in records] == [False, True]


async def test_a_server_that_replaces_what_is_still_wanted_has_failed() -> None:
    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(piece("a") + b": superseded by a newer request\n\n" + DONE)

    record = await ask(answer)
    assert (record.fate, record.reason, record.good) == (Fate.FAILED, "superseded", False)
    async with serving(answer) as url, asyncio.timeout(20):
        stale = replace(planned(), stale_after_ns=0)
        (record,) = await LoadClient(url).open_loop([stale])
    assert record.fate is Fate.SUPERSEDED


async def test_what_is_not_over_after_the_drain_is_cut_and_counted() -> None:
    progress = Progress()
    bounds = ClientBounds(drain_s=0.05)
    async with serving(never) as url, asyncio.timeout(20):
        client = LoadClient(url, bounds=bounds, progress=progress)
        records = await client.open_loop([planned(0), planned(1)])
    assert [record.reason for record in records] == ["unfinished"] * 2
    assert (progress.sent, progress.in_flight, progress.ended[Fate.FAILED]) == (2, 0, 2)


async def test_beyond_its_bound_requests_fail_unsent() -> None:
    bounds = ClientBounds(in_flight_max=1, drain_s=0.05)
    async with serving(never) as url, asyncio.timeout(20):
        records = await LoadClient(url, bounds=bounds).open_loop([planned(0), planned(1)])
    assert [record.reason for record in records] == ["unfinished", "client_full"]


async def test_a_closed_loop_keeps_its_width_and_leaves_no_record_of_what_it_cuts() -> None:
    running, most = 0, 0

    async def answer(_: web.Request, response: web.StreamResponse) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await response.write(piece("a") + DONE)
        running -= 1

    async with serving(answer) as url, asyncio.timeout(20):
        requests = [planned(number) for number in range(40)]
        records = await LoadClient(url).closed_loop(requests, width=3, duration_s=10)
    assert len(records) == 40
    assert 1 <= most <= 3
    async with serving(never) as url, asyncio.timeout(20):
        records = await LoadClient(url).closed_loop(requests, width=3, duration_s=0.05)
    assert records == []


def test_events_may_be_cut_anywhere() -> None:
    whole = piece("") + piece("a") + event(choices=[], usage={"completion_tokens": 4}) + DONE
    for size in range(1, len(whole) + 1):
        answer = Answer(200)
        for number, start in enumerate(range(0, len(whole), size)):
            answer.feed(whole[start : start + size], number)
        answer.end()
        assert (answer.error_code, answer.tokens, answer.complete) == ("", 4, True)
        # The token came with the piece of bytes that ended its event.
        assert answer.first_token_ns == (len(piece("") + piece("a")) - 1) // size


def test_chat_pieces_count_and_garbage_is_an_error() -> None:
    answer = Answer(200)
    answer.feed(event(choices=[{"delta": {"role": "assistant", "content": ""}}]), 1)
    answer.feed(event(choices=[{"delta": {"content": "x"}}]), 2)
    assert (answer.first_token_ns, answer.tokens) == (2, 1)
    answer.feed(b"data: {nonsense\n\n", 3)
    assert answer.error_code == "garbage"


def test_the_span_of_a_load_is_its_count_over_its_rate() -> None:
    assert span_ns([planned(number) for number in range(30)], 6.0) == 5 * SECOND
