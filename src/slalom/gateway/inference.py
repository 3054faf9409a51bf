"""The hot path: one inference request from its ASGI scope to the last byte of its answer.

Owns the order of the checks (method, key, room, body, work) and the life of a served request:
watch for the client leaving, serve, end. Raw ASGI, no framework in between. Called by `app` for
the inference routes of all protocols and for estimates, which share all checks.
"""

import asyncio
import logging
import time
import traceback

from slalom.core.actions import Outcome, Reason
from slalom.core.snapshot import ModelState
from slalom.errors import OverloadedError, RequestError, SlalomError
from slalom.gateway import estimates, request_body
from slalom.gateway.admin import pinned
from slalom.gateway.answer_notes import AnswerNotes, Silence
from slalom.gateway.asgi_sink import AnySink, StreamSink, WholeSink
from slalom.gateway.completion_cache import HIT
from slalom.gateway.departure import Departure
from slalom.gateway.empty_answer import LATE, SKIPPED, SUPERSEDED, EmptyAnswer
from slalom.gateway.error_table import (
    CLIENT_LEFT,
    Failure,
    failure_of,
    failure_of_end,
    failure_of_error,
)
from slalom.gateway.params import KeyEntry
from slalom.gateway.preparation import Arrival, Work, prepare
from slalom.gateway.protocols.frame import WireProtocol
from slalom.gateway.protocols.registry import Route
from slalom.gateway.records import Exchange
from slalom.gateway.replies import Headers, Receive, Scope, Send, send_failure, send_json
from slalom.gateway.request_body import ClientGoneError
from slalom.gateway.request_head import RequestHead, read_head
from slalom.gateway.resolution import CHAT_PATH
from slalom.gateway.shared import Shared
from slalom.runtime.sink import Served

_LOG = logging.getLogger("slalom.gateway")

#: Key in the ASGI scope: when a request arrived, where whoever passed it on held it for a while.
ARRIVED_NS = "slalom.arrived_ns"


class Inference:
    """Answers the inference routes.

    Args:
        shared: What all routes share.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._runtime = shared.runtime

    async def __call__(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises nothing but a foreign cancellation."""
        head = read_head(scope["headers"], self._shared.watched_headers)
        inside = self._shared.inside
        request_id = head.request_id
        if not request_id or request_id in inside:
            request_id = self._shared.new_id()
        exchange = Exchange(request_id, scope["path"])
        headers: Headers = [(b"x-request-id", request_id.encode())]
        if route.protocol.id_header:
            headers.append((route.protocol.id_header, headers[0][1]))
        arrival = Arrival(
            request_id, route.path, head, dry_run=route.dry_run, protocol=route.protocol
        )
        inside.add(request_id)
        departure = Departure(scope, receive)
        try:
            arrival.key = key = self._admit(scope, head)
            exchange.key = key.name if key is not None else ""
            arrival.peer = (scope.get("client") or ("",))[0]
            arrival.arrived_ns = scope.get(ARRIVED_NS) or self._runtime.now_ns()
            work = await self._work(receive, arrival, route, exchange)
            if route.dry_run:
                await self._estimate(work, send, exchange, headers)
            elif not await self._known(work, send, exchange, headers):
                await self._serve(work, send, exchange, headers, departure)
        except ClientGoneError:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError:
            exchange.status = CLIENT_LEFT
            if not departure.explains_cancellation():
                raise
        except SlalomError as problem:
            await _refuse(send, failure_of_error(problem), arrival.protocol, exchange, headers)
        except Exception as problem:  # noqa: BLE001 - a bug of ours must not look like silence
            _log_bug(exchange.request_id, problem)
            await _refuse(send, failure_of("internal"), arrival.protocol, exchange, headers)
        finally:
            departure.ignore()
            inside.discard(request_id)
            self._shared.bytes_inside -= exchange.bytes_received + exchange.bytes_besides
            self._shared.records.answered(exchange)

    def _admit(self, scope: Scope, head: RequestHead) -> KeyEntry | None:
        """Everything that can be refused before the body is read."""
        if scope["method"] != "POST":
            raise RequestError(
                f"{scope['path']} takes POST, not {scope['method']}.", code="method_not_allowed"
            )
        key = self._shared.keys.caller(head.authorization, head.api_key)
        if self._shared.draining:
            raise OverloadedError("The server is shutting down.", retry_after_s=5, code="draining")
        if len(self._shared.inside) > self._shared.params.inflight_max:
            raise OverloadedError(
                f"There are already {self._shared.params.inflight_max} requests in this server.",
                retry_after_s=1,
                code="too_many_requests",
            )
        request_body.check_media_type(head.content_type)
        return key

    async def _work(
        self, receive: Receive, arrival: Arrival, route: Route, exchange: Exchange
    ) -> Work:
        declared_bytes = arrival.head.content_length
        bytes_max = self._shared.params.body_bytes_max
        if 0 < declared_bytes <= bytes_max:
            self._take_room(exchange, declared_bytes)
        raw = await request_body.read_body(
            receive, declared_bytes=declared_bytes, bytes_max=bytes_max
        )
        self._take_room(exchange, len(raw))
        work = prepare(self._shared, arrival, raw, route.rivals)
        if work.more_bytes:
            self._shared.take_bytes(work.more_bytes)
            exchange.bytes_besides = work.more_bytes
        return work

    def _take_room(self, exchange: Exchange, body_bytes: int) -> None:
        """Count a body, by its declared size and then by its true one."""
        self._shared.take_bytes(body_bytes - exchange.bytes_received)
        exchange.bytes_received = body_bytes

    async def _known(self, work: Work, send: Send, exchange: Exchange, headers: Headers) -> bool:
        """Answer what needs no engine: a cached rest, or a warm-up that would be in the way."""
        question = work.question
        rest = self._shared.completions.find(question) if question is not None else None
        if rest is not None:
            exchange.cached = True
            answer = self._own(work, exchange, HIT, text=rest.text, finish=rest.finish)
        elif work.warm_up and self._busy(work.request.model):
            answer = self._own(work, exchange, SKIPPED)
        elif work.lets_go and not self._ready(work.request.model):
            answer = self._own(work, exchange, None)
        else:
            return False
        _head(work, headers)
        exchange.stream = work.stream
        sink = self._sink(send, headers, work)
        await sink.replace(answer)
        exchange.status, exchange.bytes_sent = sink.status, sink.bytes_sent
        return True

    def _busy(self, model: str) -> bool:
        """Whether to read a prompt ahead would be in somebody's way now."""
        snapshot = self._runtime.snapshot()
        return bool(snapshot.waiting or snapshot.running) or not self._ready(model)

    def _ready(self, model: str) -> bool:
        models = self._runtime.snapshot().models
        return any(one.id == model and one.state is ModelState.READY for one in models)

    async def _serve(
        self, work: Work, send: Send, exchange: Exchange, headers: Headers, departure: Departure
    ) -> None:
        """From here on the sink says how far the answer has got, so errors go through it."""
        request = work.request
        if request.link is not None:
            self._shared.chains.begin(request, work.place)
        done = False
        try:
            await self._serve_call(work, send, exchange, headers, departure)
            done = exchange.status == 200 and not exchange.code
        finally:
            if request.link is not None:
                self._shared.chains.left(request, self._runtime.now_ns(), done=done)

    async def _serve_call(
        self, work: Work, send: Send, exchange: Exchange, headers: Headers, departure: Departure
    ) -> None:
        if work.pin:
            work.notices += pinned(self._runtime, work.request.model, work.request.id)
        _head(work, headers)
        exchange.stream = work.stream
        exchange.scheduled = True
        sink = self._sink(send, headers, work)
        notes = AnswerNotes(sink, stream=work.stream) if work.question is not None else None
        departure.watch()
        try:
            served = await self._runtime.serve(
                work.request,
                work.outgoing.call,
                Silence() if work.warm_up else (notes or sink),
                stream=work.stream,
                strip_usage=work.strip_usage,
                make_gate=work.gate,
            )
            departure.ignore()
            instead = self._instead(work, served, exchange)
            if instead is not None:
                await sink.replace(instead)
            else:
                await _end(sink, served, exchange)
            if notes is not None and work.question is not None:
                self._shared.completions.learn(work.question, notes.rest())
        except SlalomError as problem:
            # Refused at the runtime's door: the scheduler never heard of it.
            at_door = isinstance(problem, OverloadedError) or problem.code == "duplicate_request_id"
            exchange.scheduled = not at_door
            await _fail(sink, failure_of_error(problem), exchange)
        except Exception as problem:  # noqa: BLE001 - as above
            _log_bug(exchange.request_id, problem)
            await _fail(sink, failure_of("internal"), exchange)
        finally:
            exchange.status = sink.status
            exchange.bytes_sent = sink.bytes_sent

    async def _estimate(self, work: Work, send: Send, exchange: Exchange, headers: Headers) -> None:
        forecast = self._runtime.estimate(work.request)
        document = estimates.document(work.request, forecast)
        exchange.status = 200
        await send_json(send, document, headers)

    def _instead(self, work: Work, served: Served, exchange: Exchange) -> EmptyAnswer | None:
        """The answer without a word that takes the place of what happened, where one does."""
        end = served.end
        if end is not None and end.outcome is Outcome.SUPERSEDED:
            exchange.code = end.outcome.value
            remark = "superseded by a newer request"
            return self._own(work, exchange, SUPERSEDED, remark=remark)
        if end is not None and end.reason == Reason.SLA_INFEASIBLE and work.empty_when_late:
            exchange.code = str(end.reason)
            return self._own(work, exchange, LATE)
        if work.warm_up and end is None and served.failure is None:
            return self._own(work, exchange, None)
        return None

    def _own(
        self,
        work: Work,
        exchange: Exchange,
        header: tuple[bytes, bytes] | None,
        *,
        remark: str = "",
        text: str = "",
        finish: str = "stop",
    ) -> EmptyAnswer:
        return EmptyAnswer(
            chat=work.outgoing.path == CHAT_PATH,
            model=work.request.model,
            answer_id=exchange.request_id,
            created_s=int(time.time()),
            header=header,
            remark=remark,
            text=text,
            finish=finish,
            usage=work.stream and not work.strip_usage,
        )

    def _sink(self, send: Send, headers: Headers, work: Work) -> AnySink:
        params, form = self._shared.params, work.form
        if not work.stream:
            return WholeSink(send, headers, form, params.answer_bytes_max)
        return StreamSink(
            send, headers, form, params.wait_comment_after_ns, params.wait_comment_every_ns
        )


def _head(work: Work, headers: Headers) -> None:
    """What the client is told in any case."""
    headers.append((b"x-slalom-task", work.request.task.encode("ascii", "replace")))
    if (link := work.request.link) is not None:
        headers.append((b"x-slalom-chain", link.chain.encode()))
        headers.append((b"x-slalom-chain-step", b"%d" % link.step))
        if link.steps:
            headers.append((b"x-slalom-chain-steps", b"%d" % link.steps))
    if work.notices:
        notice = "; ".join(work.notices).encode("ascii", "replace")
        headers.append((b"x-slalom-notice", notice))


async def _end(sink: AnySink, served: Served, exchange: Exchange) -> None:
    """Write the end of an answer; an engine's own refusal is already in the sink."""
    if sink.refused or (served.end is None and served.failure is None):
        await sink.complete()
    elif served.failure is not None:
        await _fail(sink, failure_of_error(served.failure), exchange)
    elif served.end is not None:
        await _fail(sink, failure_of_end(served.end), exchange)


async def _fail(sink: AnySink, failure: Failure, exchange: Exchange) -> None:
    exchange.code = failure.code
    await sink.fail(failure)


async def _refuse(
    send: Send, failure: Failure, protocol: WireProtocol, exchange: Exchange, headers: Headers
) -> None:
    exchange.status = failure.status
    exchange.code = failure.code
    if failure.code == "method_not_allowed":
        headers.append((b"allow", b"POST"))
    await send_failure(send, failure, protocol.error_body(failure, exchange.request_id), headers)


def _log_bug(request_id: str, problem: Exception) -> None:
    """Where it happened, without the message: that could quote a prompt."""
    where = "".join(traceback.format_tb(problem.__traceback__))
    _LOG.error("request %s: %s (a bug)\n%s", request_id, type(problem).__name__, where)
