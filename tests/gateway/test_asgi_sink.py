"""What a client that waits for a stream is told, and when."""

from typing import Any

from slalom.gateway.answer_form import AnswerForm
from slalom.gateway.asgi_sink import StreamSink
from slalom.gateway.protocols.openai import OPENAI, PassThrough
from slalom.runtime.sink import Waiting
from slalom.units import MS


class Sent:
    """ASGI's send, kept."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


def form() -> AnswerForm:
    return AnswerForm(OPENAI, PassThrough(), "r")


def waiting(waited_ms: int, starts_in_ms: int = -1) -> Waiting:
    starts_in_ns = starts_in_ms * MS if starts_in_ms >= 0 else -1
    return Waiting(waited_ms * MS, "loading", 0.25, starts_in_ns)


async def test_nothing_is_said_before_the_patience_of_clients_is_at_stake() -> None:
    sent = Sent()
    sink = StreamSink(sent, [], form(), comment_after_ns=100 * MS, comment_every_ns=50 * MS)
    await sink.waiting(waiting(99))
    assert not sent.messages


async def test_the_predicted_start_is_in_the_head_and_in_each_comment() -> None:
    sent = Sent()
    sink = StreamSink(sent, [], form(), comment_after_ns=100 * MS, comment_every_ns=50 * MS)
    await sink.waiting(waiting(100, starts_in_ms=420))
    await sink.waiting(waiting(149, starts_in_ms=371))
    await sink.waiting(waiting(150, starts_in_ms=370))
    assert sent.headers[b"x-slalom-predicted-start-ms"] == b"420"
    assert sent.body.count(b"\n\n") == 2
    assert b"loading 25%; expected to start in 420 ms" in sent.body
    assert b"expected to start in 370 ms" in sent.body


async def test_an_unknown_start_is_not_invented() -> None:
    sent = Sent()
    sink = StreamSink(sent, [], form(), comment_after_ns=0, comment_every_ns=50 * MS)
    await sink.waiting(waiting(5))
    assert b"x-slalom-predicted-start-ms" not in sent.headers
    assert b"expected" not in sent.body
