"""From an answer to a line of a result file, in OpenAI's form.

Owns that form, and the counting of tokens. Pure apart from the ids it gives. Called by the runner.
"""

from typing import Any

import msgspec

from slalom.batches.answering import Answer
from slalom.batches.desk import new_id
from slalom.batches.objects import Result, Status, Usage

_encode = msgspec.json.encode
#: Why a line has no answer, by how its batch ended.
_UNANSWERED = {
    Status.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Status.CANCELLED: (
        "batch_cancelled",
        "This request was not executed before the batch was cancelled.",
    ),
}


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    """In the words of chat completions, and of responses."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    usage: _Usage | None = None


_usage = msgspec.json.Decoder(_Body).decode


def answered(batch_id: str, line: int, custom_id: str, answer: Answer) -> Result:
    """The result of a line that was answered, well or with an error."""
    good = 200 <= answer.status < 300
    try:
        body: Any = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _failed(batch_id, line, custom_id, "invalid_answer", "The answer is not JSON.")
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": body}
    text = _text(custom_id, response, None)
    return Result(batch_id, line, good, text, _counted(answer.body) if good else Usage())


def unanswered(batch_id: str, line: int, custom_id: str, status: Status) -> Result:
    """The result of a line that its batch never came to."""
    code, message = _UNANSWERED[status]
    return _failed(batch_id, line, custom_id, code, message)


def _failed(batch_id: str, line: int, custom_id: str, code: str, message: str) -> Result:
    text = _text(custom_id, None, {"code": code, "message": message})
    return Result(batch_id, line, good=False, text=text)


def _text(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    document = {
        "id": new_id("batch_req_"),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return _encode(document) + b"\n"


def _counted(body: bytes) -> Usage:
    """The tokens an answer reports; none where it reports them in another form."""
    try:
        usage = _usage(body).usage or _Usage()
    except msgspec.DecodeError:
        return Usage()
    reading = usage.prompt_tokens_details or usage.input_tokens_details or _Details()
    writing = usage.completion_tokens_details or usage.output_tokens_details or _Details()
    return Usage(
        input_tokens=usage.prompt_tokens or usage.input_tokens or 0,
        cached_tokens=reading.cached_tokens or 0,
        output_tokens=usage.completion_tokens or usage.output_tokens or 0,
        reasoning_tokens=writing.reasoning_tokens or 0,
    )
