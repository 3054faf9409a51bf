"""OpenAI's protocol: the internal form itself, so that bytes pass through untouched.

Owns the three routes and the writer that changes nothing. On the hot path of every ordinary
request: nothing here copies, and a whole answer is only skimmed.
"""

import msgspec

from slalom.errors import EngineError
from slalom.gateway.empty_answer import END_MARK
from slalom.gateway.error_table import Failure
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols.frame import Asked, Internal, WireProtocol
from slalom.gateway.replies import error_event
from slalom.gateway.resolution import CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH

#: Looks whether something is JSON, and builds nothing of it.
_skim = msgspec.json.Decoder(msgspec.Raw).decode


class PassThrough:
    """Hands the engine's bytes on."""

    __slots__ = ("ended",)

    stream_type = b""

    def __init__(self) -> None:
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The same bytes; the end mark closes the answer, so that both go out in one write."""
        self.ended = data.endswith(END_MARK)
        return data

    def finish(self) -> bytes:
        """Nothing: the engine has said all."""
        return b""

    def whole(self, body: bytes) -> bytes:
        """The same bytes.

        Raises:
            EngineError: They are no JSON.
        """
        try:
            _skim(body)
        except (msgspec.DecodeError, RecursionError):
            raise EngineError("The engine's answer cannot be read.", code="engine_error") from None
        return body

    def sign_of_life(self, text: str) -> bytes:
        """A comment of the event stream."""
        return f": {text}\n\n".encode()

    def failed(self, failure: Failure) -> bytes:
        """An error event."""
        return error_event(failure)


def _read(asked: Asked) -> Internal:
    return Internal(asked.path, asked.body, PassThrough(), asked.raw)


OPENAI = WireProtocol("openai", {CHAT_PATH: _read, COMPLETIONS_PATH: _read, EMBEDDINGS_PATH: _read})


def protocol(_params: GatewayParams) -> WireProtocol:
    """The table."""
    return OPENAI
