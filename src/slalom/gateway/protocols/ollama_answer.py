"""Ollama's words for an answer: documents line by line, with counts and durations.

Owns the documents of `/api/generate`, `/api/chat` and `/api/embed`, whole and streamed. A tool
call is told in one piece, as Ollama does, when it is complete. Used by `ollama`.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from slalom.errors import EngineError
from slalom.gateway.error_table import Failure
from slalom.gateway.protocols.engine_stream import Answer, Message, ToolPart, Usage
from slalom.gateway.protocols.stopwatch import Stopwatch

_encode = msgspec.json.encode

#: Done reasons that are not called like OpenAI's.
_REASONS = {"length": "length"}


def error_body(failure: Failure, _request_id: str) -> bytes:
    """The error as Ollama writes it, with our machine-readable code added."""
    return _encode({"error": failure.message, "code": failure.code})


def line(document: dict[str, Any]) -> bytes:
    """A document of a stream."""
    return _encode(document) + b"\n"


class OllamaTeller:
    """Tells one generated answer.

    Args:
        model: The model as the client called it.
        received_s: Unix time of the request, seconds.
        chat: Whether it is told as a message; else as a text.
        done_reason: Why it ended, where that is not the engine's to say: the request only loads.
    """

    stream_type = b"application/x-ndjson"

    def __init__(
        self, model: str, received_s: int, *, chat: bool = False, done_reason: str = ""
    ) -> None:
        self._head = {"model": model, "created_at": timestamp(received_s)}
        self._chat = chat
        self._only_loads = bool(done_reason)
        self._reason = done_reason or "stop"
        self._usage = Usage()
        self._watch = Stopwatch()
        self._tools: dict[int, _Call] = {}

    def piece(self, piece: Answer) -> bytes:
        """A line for the next piece, if there is anything in it."""
        self._note(piece)
        choice = piece.first
        if self._only_loads:
            return b""
        said = choice.said
        for part in said.tool_calls or ():
            self._tools.setdefault(part.index, _Call()).add(part)
        calls = self._calls() if choice.finish_reason else []
        logprobs = _logprobs(choice.logprobs)
        if not (said.content or said.refusal or said.thought or calls or logprobs):
            return b""
        self._watch.first()
        return line({**self._said(said, calls, logprobs), "done": False})

    def end(self) -> bytes:
        """The last line; calls that no finish reason followed come before it."""
        calls = self._calls()
        told = line({**self._said(Message(), calls, []), "done": False}) if calls else b""
        return told + line({**self._said(Message(), [], []), **self._done()})

    def whole(self, answer: Answer) -> bytes:
        """The document."""
        self._note(answer)
        choice = answer.first
        said = Message() if self._only_loads else choice.said
        for number, part in enumerate(said.tool_calls or ()):
            self._tools.setdefault(number, _Call()).add(part)
        told = self._said(said, self._calls(), _logprobs(choice.logprobs))
        return _encode({**told, **self._done()})

    def sign_of_life(self, text: str) -> bytes:
        """A line in which nothing is said: clients take no empty ones."""
        return line({**self._said(Message(), [], []), "done": False})

    def failed(self, failure: Failure) -> bytes:
        """A line with an error; the clients raise it."""
        return _encode({"error": failure.message, "code": failure.code}) + b"\n"

    def _note(self, answer: Answer) -> None:
        self._usage = answer.usage or self._usage
        self._watch.timings = answer.timings or self._watch.timings
        reason = answer.first.finish_reason
        if reason and not self._only_loads:
            self._reason = _REASONS.get(reason, "stop")

    def _said(
        self, said: Message, calls: list[dict[str, Any]], logprobs: list[Any]
    ) -> dict[str, Any]:
        text = said.content or said.refusal or ""
        more: dict[str, Any] = {"thinking": said.thought} if said.thought else {}
        if calls:
            more["tool_calls"] = calls
        found: dict[str, Any] = {"logprobs": logprobs} if logprobs else {}
        if self._chat:
            message = {"role": "assistant", "content": text, **more}
            return {**self._head, "message": message, **found}
        return {**self._head, "response": text, **more, **found}

    def _calls(self) -> list[dict[str, Any]]:
        """The calls that have come, once."""
        calls = [self._tools[index].document(index) for index in sorted(self._tools)]
        self._tools.clear()
        return calls

    def _done(self) -> dict[str, Any]:
        done = {"done": True, "done_reason": self._reason}
        prompt_ns, answer_ns, total_ns = self._watch.read()
        if self._only_loads:
            return {**done, "total_duration": total_ns, "load_duration": total_ns}
        return {
            **done,
            "total_duration": total_ns,
            "load_duration": max(total_ns - prompt_ns - answer_ns, 0),
            "prompt_eval_count": self._usage.prompt_tokens,
            "prompt_eval_duration": prompt_ns,
            "eval_count": self._usage.completion_tokens,
            "eval_duration": answer_ns,
        }


class EmbedTeller:
    """Tells embeddings.

    Args:
        model: The model as the client called it.
        single: Whether it is the old route's answer: one vector and nothing else.
    """

    stream_type = b"application/x-ndjson"

    def __init__(self, model: str, *, single: bool = False) -> None:
        self._model = model
        self._single = single
        self._watch = Stopwatch()

    def piece(self, piece: Answer) -> bytes:
        """Nothing: embeddings are not streamed."""
        return b""

    def end(self) -> bytes:
        """Nothing, as above."""
        return b""

    def whole(self, answer: Answer) -> bytes:
        """The vectors in the order of the texts.

        Raises:
            EngineError: There are none.
        """
        rows = sorted(answer.data or (), key=_index)
        vectors = [row.get("embedding") for row in rows]
        if not vectors:
            raise EngineError("The engine's answer has nothing in it.", code="engine_error")
        if self._single:
            return _encode({"embedding": vectors[0]})
        return _encode(
            {
                "model": self._model,
                "embeddings": vectors,
                "total_duration": self._watch.read()[2],
                "load_duration": 0,
                "prompt_eval_count": (answer.usage or Usage()).prompt_tokens,
            }
        )

    def sign_of_life(self, text: str) -> bytes:
        """Nothing."""
        return b""

    def failed(self, failure: Failure) -> bytes:
        """The error."""
        return error_body(failure, "")


class _Call:
    """A tool call that comes in pieces."""

    __slots__ = ("_arguments", "_id", "_name")

    def __init__(self) -> None:
        self._id = self._name = ""
        self._arguments: list[str] = []

    def add(self, part: ToolPart) -> None:
        self._id = self._id or part.id or ""
        self._name = self._name or part.function.name or ""
        self._arguments.append(part.function.arguments or "")

    def document(self, index: int) -> dict[str, Any]:
        """The call with its arguments as an object; what is none is not thrown away."""
        text = "".join(self._arguments)
        try:
            found = msgspec.json.decode(text or "{}")
        except (msgspec.DecodeError, RecursionError):
            found = None
        arguments = found if isinstance(found, dict) else {"arguments": text}
        function = {"index": index, "name": self._name, "arguments": arguments}
        return {"id": self._id, "function": function} if self._id else {"function": function}


def timestamp(unix_s: float) -> str:
    """A time as Ollama writes it."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def _logprobs(found: Any) -> list[dict[str, Any]]:
    """Log probabilities of the tokens, where the engine gives them token by token."""
    content = found.get("content") if isinstance(found, dict) else None
    return [_token(entry) for entry in content or () if isinstance(entry, dict)]


def _token(entry: dict[str, Any]) -> dict[str, Any]:
    told = {"token": str(entry.get("token", "")), "logprob": entry.get("logprob", 0.0)}
    more = entry.get("top_logprobs")
    if isinstance(more, list) and more:
        told["top_logprobs"] = [_token({**other, "top_logprobs": None}) for other in more]
    return told


def _index(row: dict[str, Any]) -> int:
    index = row.get("index")
    return index if isinstance(index, int) else 0
