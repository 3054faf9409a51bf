"""A writer for protocols that are not the engines' own: it decodes, and a teller tells.

Owns what all translations share: cutting the engine's stream into events, its end mark, an end
that comes too early, errors inside the stream. Does not know any protocol. Used by each of them.
"""

from typing import Protocol

from slalom.errors import EngineError
from slalom.gateway.error_table import Failure, failure_of
from slalom.gateway.protocols.engine_stream import Answer, EventReader, read_answer

_END = b"[DONE]"


class Teller(Protocol):
    """One protocol's words for one answer."""

    #: Content type of a streamed answer.
    stream_type: bytes

    def piece(self, piece: Answer) -> bytes:
        """The next events, for one of the engine's."""
        ...

    def end(self) -> bytes:
        """The last events of an answer that is complete."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The document of an answer that is not streamed."""
        ...

    def sign_of_life(self, text: str) -> bytes:
        """What keeps a waiting client patient; `text` is one line for people."""
        ...

    def failed(self, failure: Failure) -> bytes:
        """The last events of an answer that cannot go on."""
        ...


class Translated:
    """Writes an answer by what a teller tells.

    Args:
        teller: Of this one answer.
    """

    __slots__ = ("_finished", "_reader", "_teller", "ended", "stream_type")

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._reader = EventReader()
        self.stream_type = teller.stream_type
        #: Whether the model has said why it stopped.
        self._finished = False
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Translate the events that these bytes complete.

        Raises:
            EngineError: One of them cannot be read.
        """
        return self._tell(self._reader.feed(data))

    def finish(self) -> bytes:
        """End the answer, if the engine's end mark did not."""
        told = self._tell(self._reader.finish())
        if self.ended:
            return told
        self.ended = True
        if self._finished:
            return told + self._teller.end()
        return told + self._teller.failed(
            failure_of("engine_error", "The engine's answer ended before it was complete.")
        )

    def whole(self, body: bytes) -> bytes:
        """Translate a whole answer.

        Raises:
            EngineError: It cannot be read.
        """
        answer = read_answer(body)
        if not answer.choices and answer.data is None:
            raise EngineError("The engine's answer has nothing in it.", code="engine_error")
        return self._teller.whole(answer)

    def sign_of_life(self, text: str) -> bytes:
        """As the protocol has it."""
        return self._teller.sign_of_life(text)

    def failed(self, failure: Failure) -> bytes:
        """As the protocol has it."""
        self.ended = True
        return self._teller.failed(failure)

    def _tell(self, events: list[bytes]) -> bytes:
        told: list[bytes] = []
        for event in events:
            if self.ended:
                break
            if event == _END:
                self.ended = True
                told.append(self._teller.end())
                continue
            piece = read_answer(event)
            if piece.error is not None:
                continue  # the runtime has seen it too, and ends the request with an error
            if piece.first.finish_reason:
                self._finished = True
            told.append(self._teller.piece(piece))
        return b"".join(told)
