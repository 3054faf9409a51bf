"""Writing engine answers to clients: the gateway's two sinks, whole and streamed.

Owns when the response head is committed, when a waiting client hears something, and how a failure
reaches the client at each stage: a proper status before the head, the end of a stream after it.
The words are the protocol's (`answer_form`). Driven by `Runtime.serve`, ended by `inference`.
"""

from dataclasses import replace
from typing import Any

import msgspec

from slalom.errors import SlalomError
from slalom.gateway.answer_form import AnswerForm
from slalom.gateway.empty_answer import EmptyAnswer
from slalom.gateway.error_table import Failure, engine_status, failure_of
from slalom.gateway.replies import (
    JSON,
    Headers,
    Send,
    send_body,
    send_failure,
)
from slalom.runtime.sink import Assignment, Waiting
from slalom.units import MS

EVENT_STREAM = b"text/event-stream; charset=utf-8"
#: Longest error body read from an engine, bytes.
ERROR_BYTES_MAX = 64 << 10


class AnswerTooLargeError(SlalomError):
    """The engine sent more than the gateway holds back for one answer."""

    code = "answer_too_large"


class WholeSink:
    """Holds an answer back until it is complete, so that a failure has its proper status.

    Args:
        send: ASGI's send.
        headers: Headers of every answer to this request.
        form: How the answer is written.
        bytes_max: Largest answer held.
    """

    def __init__(self, send: Send, headers: Headers, form: AnswerForm, bytes_max: int) -> None:
        self._send = send
        self.headers = headers
        self._form = form
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._content_type = JSON
        self.status = 0
        self.bytes_sent = 0

    @property
    def refused(self) -> bool:
        """Whether the engine answered with an error of its own."""
        return self.status >= 400

    async def waiting(self, waiting: Waiting) -> None:
        """Nothing can be said before the answer is complete."""

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        """Note the head; another attempt starts over."""
        self._parts.clear()
        self.bytes_sent = 0
        self.status = status
        self._content_type = content_type.encode("latin-1") or JSON
        self.headers += assignment_headers(assignment)

    async def body(self, data: bytes) -> None:
        """Keep a piece.

        Raises:
            AnswerTooLargeError: There is too much of it.
        """
        self.bytes_sent += len(data)
        if self.bytes_sent > self._bytes_max:
            raise AnswerTooLargeError(
                f"The engine's answer is larger than {self._bytes_max} bytes: use streaming."
            )
        self._parts.append(data)

    async def complete(self) -> None:
        """Send the answer."""
        body = b"".join(self._parts)
        if self.refused:
            await self.fail(engine_failure(self.status, body))
            return
        told = self._form.writer.whole(body)
        kind = self._content_type if told is body else JSON
        await send_body(self._send, self.status, told, self.headers, content_type=kind)

    async def replace(self, answer: EmptyAnswer) -> None:
        """Send a finished answer of ours instead."""
        self.status = 200
        told = self._form.writer.whole(answer.whole())
        if answer.header is not None:
            self.headers.append(answer.header)
        await send_body(self._send, 200, told, self.headers)

    async def fail(self, failure: Failure) -> None:
        """Send an error instead."""
        self.status = failure.status
        await send_failure(self._send, failure, self._form.error_body(failure), self.headers)


class StreamSink:
    """Relays a stream.

    Args:
        send: ASGI's send.
        headers: Headers of every answer to this request.
        form: How the answer is written.
        comment_after_ns: A client that waits this long gets its head and signs of life.
        comment_every_ns: Time between them.
    """

    def __init__(
        self,
        send: Send,
        headers: Headers,
        form: AnswerForm,
        comment_after_ns: int,
        comment_every_ns: int,
    ) -> None:
        self._send = send
        self.headers = headers
        self._form = form
        self._writer = form.writer
        self._next_comment_ns = comment_after_ns
        self._comment_every_ns = comment_every_ns
        self._content_type = self._writer.stream_type or EVENT_STREAM
        self._started = self._ended = False
        self._refusal: list[bytes] = []
        self._first = b""
        self.status = 0
        self.bytes_sent = 0

    @property
    def refused(self) -> bool:
        """Whether the engine answered with an error of its own."""
        return self.status >= 400

    async def waiting(self, waiting: Waiting) -> None:
        """Tell a client that has waited for long that it is not forgotten."""
        if waiting.waited_ns < self._next_comment_ns:
            return
        self._next_comment_ns = waiting.waited_ns + self._comment_every_ns
        text = f"waiting {waiting.waited_ns // MS} ms; model {waiting.model_state}"
        if waiting.model_state == "loading":
            text += f" {waiting.load_fraction:.0%}"
        if waiting.starts_in_ns >= 0:
            starts_ms = waiting.starts_in_ns // MS
            text += f"; expected to start in {starts_ms} ms"
            if not self._started:
                self.headers.append((b"x-slalom-predicted-start-ms", b"%d" % starts_ms))
        if waiting.model and not self._started:
            self.headers.append((b"x-slalom-model", model_name(waiting.model)))
        await self._write(self._writer.sign_of_life(text))

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        """Note the head; it goes out with the first bytes of the body."""
        self.status = status
        self._refusal.clear()
        if not self._started:
            if not self._writer.stream_type:
                self._content_type = content_type.encode("latin-1") or EVENT_STREAM
            self.headers += assignment_headers(assignment)

    async def body(self, data: bytes) -> None:
        """Relay bytes; they come as whole events, so that an error event can always follow."""
        if self.refused:
            if sum(map(len, self._refusal)) < ERROR_BYTES_MAX:
                self._refusal.append(data)
            return
        if self._ended:
            return
        self._first = self._first or data
        told = self._writer.feed(data)
        if told or self._writer.ended:
            await self._write(told, more=not self._writer.ended)

    async def complete(self) -> None:
        """End the stream."""
        if self.refused:
            await self.fail(engine_failure(self.status, b"".join(self._refusal)))
            return
        if not self._ended:
            await self._write(self._writer.finish(), more=False)

    async def replace(self, answer: EmptyAnswer) -> None:
        """End the stream as if its last token had come."""
        if self._ended:
            return
        self.status = 200
        writer = self._writer
        if not self._started:
            self._content_type = writer.stream_type or EVENT_STREAM
            if answer.header is not None:
                self.headers.append(answer.header)
        comment = writer.sign_of_life(answer.remark) if answer.remark else b""
        told = writer.feed(answer.events(self._first)) + writer.finish()
        await self._write(comment + told, more=False)

    async def fail(self, failure: Failure) -> None:
        """Send an error: with its status while that is possible, else as an event.

        After the end mark there is nobody left to tell.
        """
        if self._ended:
            return
        if not self._started:
            self.status = failure.status
            body = self._form.error_body(failure)
            await send_failure(self._send, failure, body, self.headers)
            return
        self.status = 200
        await self._write(self._writer.failed(failure), more=False)

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": self.status or 200,
                    "headers": [
                        (b"content-type", self._content_type),
                        (b"cache-control", b"no-cache"),
                        (b"x-accel-buffering", b"no"),
                        *self.headers,
                    ],
                }
            )
        self._ended = not more
        self.bytes_sent += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


#: What `Runtime.serve` writes to, and the gateway ends.
AnySink = WholeSink | StreamSink


def assignment_headers(assignment: Assignment) -> Headers:
    """Who serves this, how long it waited, what is expected, and what was cut."""
    headers = [
        (b"x-slalom-queue-ms", b"%.1f" % (assignment.queued_ns / MS)),
        (b"x-slalom-model", model_name(assignment.replica_id.rpartition("#")[0])),
        (b"x-slalom-replica", assignment.replica_id.encode()),
        (b"x-slalom-attempt", b"%d" % assignment.attempt),
        (b"x-slalom-estimate-ms", _estimate(assignment)),
    ]
    if assignment.judged:
        headers.append((b"x-slalom-judged", model_name(assignment.judged)))
    if assignment.max_tokens:
        headers.append((b"x-slalom-max-tokens", b"%d" % assignment.max_tokens))
    if assignment.predicted_first_ns >= 0:
        predicted = b"%.1f" % (assignment.predicted_first_ns / MS)
        headers.append((b"x-slalom-predicted-ttft-ms", predicted))
    if assignment.predicted_end_ns >= 0:
        predicted = b"%.1f" % (assignment.predicted_end_ns / MS)
        headers.append((b"x-slalom-predicted-e2e-ms", predicted))
    if assignment.chance >= 0:
        headers.append((b"x-slalom-chance", b"%.3f" % assignment.chance))
    if assignment.chain_slack_ns is not None:
        headers.append((b"x-slalom-chain-slack-ms", b"%.1f" % (assignment.chain_slack_ns / MS)))
    return headers


def model_name(model: str) -> bytes:
    """A model's name in a header, whose bytes are printable ones."""
    return model.encode("ascii", "replace")


def _estimate(assignment: Assignment) -> bytes:
    """Queue, execution, and what remains of its chain, ms; what nobody predicts is left out."""
    queued_ns, end_ns = assignment.queued_ns, assignment.predicted_end_ns
    parts = [b"queue=%.1f" % (queued_ns / MS)]
    if end_ns >= 0:
        parts.append(b"execution=%.1f" % (max(end_ns - queued_ns, 0) / MS))
    if assignment.predicted_rest_ns >= 0:
        parts.append(b"remaining=%.1f" % (assignment.predicted_rest_ns / MS))
    return b", ".join(parts)


#: By which llama.cpp and vLLM say that a prompt is longer than the context.
_TOO_LONG = (b"exceed_context_size_error", b"maximum context length")


def engine_failure(status: int, body: bytes) -> Failure:
    """An engine's refusal in OpenAI's shape: its own words where it speaks them."""
    answered = engine_status(status)
    base = failure_of("engine_refused" if answered < 500 else "engine_error")
    if answered < 500 and any(words in body for words in _TOO_LONG):
        base = failure_of("context_length_exceeded")
    message, param = base.message, None
    try:
        document: Any = msgspec.json.decode(body)
        error = document.get("error", document)
        if isinstance(error, str):
            message = error
        elif isinstance(error.get("message"), str):
            message = error["message"]
            param = error.get("param") if isinstance(error.get("param"), str) else None
    except (msgspec.DecodeError, AttributeError, RecursionError):
        pass  # garbage: our own sentence has to do
    return replace(base, status=answered, message=message, param=param)
