"""The one table from reasons to HTTP: status, OpenAI error type, and whether to come again.

Owns every mapping of `EndRequest.reason`, `EngineError` and other `SlalomError` codes to a
status. Does not own how the answer is written (`replies`). Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from types import MappingProxyType

from slalom.core.actions import EndRequest, Outcome, Reason
from slalom.core.events import FailureKind
from slalom.errors import EngineError, OverloadedError, RequestError, SlalomError
from slalom.units import SECOND, format_duration


@dataclass(frozen=True, slots=True)
class Row:
    """How one reason is answered."""

    status: int
    type: str
    #: Sentence for people where the reason comes without one.
    message: str
    #: Advice in `Retry-After` where the reason comes without one, seconds; 0 sends none.
    retry_after_s: int = 0
    #: Whether the same request may succeed soon. False tells OpenAI's SDKs not to try again.
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """One answer that is an error, ready to be written."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_s: int = 0
    retryable: bool = True


_INVALID = "invalid_request_error"
_OVERLOADED = "overloaded_error"
_SERVER = "server_error"

#: Status 499 is what nginx logs for a client that left; nobody receives it.
CLIENT_LEFT = 499


def _final(status: int, kind: str, message: str) -> Row:
    return Row(status, kind, message, retryable=False)


_ROWS: dict[str, Row] = {
    # Refused by the scheduler.
    Reason.QUEUE_FULL: Row(429, "rate_limit_error", "The queue is full.", 1),
    Reason.QUEUE_TIMEOUT: Row(503, _OVERLOADED, "No place came free in time.", 2),
    Reason.DRAINING: Row(503, _OVERLOADED, "The server is shutting down.", 5),
    Reason.UNKNOWN_MODEL: _final(404, _INVALID, "This model is not served here."),
    Reason.DOES_NOT_FIT: _final(
        503, _SERVER, "The model is larger than the memory budget leaves room for."
    ),
    Reason.LOAD_BACKOFF: Row(503, _SERVER, "The model failed to load a moment ago.", 5),
    Reason.SWAP_NOT_ALLOWED: Row(
        503, _OVERLOADED, "Others would have to give way to this model, which is not allowed.", 2
    ),
    Reason.PINNED: _final(409, _INVALID, "The model is pinned."),
    Reason.NOT_READY: _final(409, _INVALID, "No replica of the model is ready."),
    Reason.NOT_ASLEEP: _final(409, _INVALID, "The model does not sleep."),
    Reason.CANNOT_SLEEP: _final(409, _INVALID, "The model cannot sleep."),
    Reason.MODEL_BUSY: Row(409, _INVALID, "The model is in the middle of a change.", 1),
    Reason.ASKED_OTHERWISE: _final(409, _INVALID, "A later word took it back."),
    Reason.SLA_INFEASIBLE: Row(429, "rate_limit_error", "The target cannot be met now.", 1),
    Reason.MODEL_REMOVED: _final(404, _INVALID, "The model was removed by a reload."),
    Reason.CHAIN_ABANDONED: _final(409, _INVALID, "The chain it belongs to was given up."),
    # Ran, or was to run, and failed.
    FailureKind.ABORTED: Row(503, _SERVER, "The request was ended by the server.", 1),
    FailureKind.CRASHED: Row(502, _SERVER, "The engine went away while it answered.", 1),
    FailureKind.ENGINE_ERROR: Row(502, _SERVER, "The engine failed to answer.", 1),
    FailureKind.REFUSED: _final(400, _INVALID, "The engine refused the request."),
    # OpenAI's own name: agents that see it make their conversation shorter.
    "context_length_exceeded": _final(400, _INVALID, "The prompt is longer than the context."),
    FailureKind.STALLED: Row(504, _SERVER, "The engine stopped answering.", 1),
    FailureKind.MODEL_UNUSABLE: _final(503, _SERVER, "The model cannot be loaded."),
    FailureKind.OUT_OF_MEMORY: Row(503, _SERVER, "The model ran out of memory.", 5),
    FailureKind.START_FAILED: Row(503, _SERVER, "The engine did not start.", 5),
    FailureKind.LOAD_TIMEOUT: Row(503, _SERVER, "The model was not ready in time.", 5),
    FailureKind.LOAD_STALLED: Row(503, _SERVER, "The model's load stood still.", 5),
    # Raised on this side of the scheduler.
    "invalid_request": _final(400, _INVALID, "The request is wrong."),
    "invalid_chain": _final(400, _INVALID, "This is no proper chain."),
    "chain_step_after_end": _final(409, _INVALID, "The chain has no such call any more."),
    "impossible_chain": _final(409, _INVALID, "The steps of the chain contradict each other."),
    "task_not_found": _final(404, _INVALID, "There is no such task."),
    "chain_template_not_found": _final(404, _INVALID, "There is no such chain template."),
    "chain_step_not_found": _final(404, _INVALID, "The chain has no such step."),
    "chain_not_found": _final(404, _INVALID, "There is no such chain."),
    "chain_taken": _final(409, _INVALID, "The chain's id is another client's."),
    "chain_over": _final(409, _INVALID, "The chain is over."),
    "too_many_chains": Row(429, "rate_limit_error", "There are too many chains.", 30),
    "invalid_http": _final(400, _INVALID, "This is not an HTTP request."),
    "invalid_json": _final(400, _INVALID, "The body is not JSON."),
    "invalid_number": _final(400, _INVALID, "A number is malformed."),
    "unsupported_by_model": _final(400, _INVALID, "The model cannot do this."),
    "invalid_api_key": _final(401, "authentication_error", "The API key is wrong."),
    "duplicate_request_id": Row(409, _INVALID, "A request with this id is under way.", 1),
    "missing_api_key": _final(401, "authentication_error", "An API key is needed."),
    "admin_key_needed": _final(403, "permission_error", "An admin key is needed."),
    "configured_models_only": _final(
        403, "permission_error", "Which models there are is decided by the configuration."
    ),
    "reload_refused": _final(400, _INVALID, "The configuration is wrong."),
    "not_reloadable": _final(409, _INVALID, "The configuration cannot be read anew."),
    "not_found": _final(404, _INVALID, "There is nothing here."),
    "method_not_allowed": _final(405, _INVALID, "This method is not allowed here."),
    "body_timeout": Row(408, _INVALID, "The body did not arrive in time."),
    "body_too_large": _final(413, _INVALID, "The body is too large."),
    "unsupported_media_type": _final(415, _INVALID, "The body is not JSON."),
    "headers_too_large": _final(431, _INVALID, "The request's head is too large."),
    "invalid_form": _final(400, _INVALID, "The body is not a proper form."),
    "file_too_large": _final(413, _INVALID, "The file is too large."),
    "file_in_use": _final(409, _INVALID, "The file is in use."),
    "batch_ended": _final(409, _INVALID, "The batch has ended."),
    "too_many_files": _final(429, "rate_limit_error", "The key has too many files."),
    "too_many_batches": _final(429, "rate_limit_error", "The key has too many batches."),
    "storage_full": _final(507, _SERVER, "The server's disk is full."),
    "storage_busy": Row(503, _SERVER, "Another process has the files.", 10),
    "storage_broken": _final(500, _SERVER, "The server cannot store files."),
    "overloaded": Row(503, _OVERLOADED, "The server is overloaded.", 1),
    "too_many_requests": Row(503, _OVERLOADED, "Too many requests at a time.", 1),
    "too_many_bytes": Row(503, _OVERLOADED, "Too many bytes of requests at a time.", 1),
    "model_not_loaded": Row(503, _OVERLOADED, "No engine of this model runs.", 1),
    "core_away": Row(503, _OVERLOADED, "The scheduler is being restarted.", 1),
    "core_lost": Row(502, _SERVER, "The scheduler went away while it answered.", 1),
    "too_many_connections": Row(503, _OVERLOADED, "Too many connections.", 1),
    "no_prediction": _final(501, _INVALID, "Nothing here predicts."),
    "answer_too_large": _final(502, _SERVER, "The engine's answer is too large."),
}

#: Every reason this gateway can give.
ERROR_TABLE: Mapping[str, Row] = MappingProxyType({str(code): row for code, row in _ROWS.items()})

_UNKNOWN = _final(500, _SERVER, "Something went wrong inside the server.")


def failure_of(code: str, message: str = "", *, param: str | None = None) -> Failure:
    """The answer for a reason of the table; an unknown one is our own fault (500)."""
    row = ERROR_TABLE.get(code, _UNKNOWN)
    return Failure(
        status=row.status,
        type=row.type,
        code=code,
        message=message or row.message,
        param=param,
        retry_after_s=row.retry_after_s,
        retryable=row.retryable,
    )


def failure_of_error(error: SlalomError) -> Failure:
    """The answer for an error raised on purpose."""
    if isinstance(error, RequestError):
        code = error.code if error.code in ERROR_TABLE else "invalid_request"
        base = failure_of(code, str(error), param=error.param)
        return replace(base, code=error.code)
    if isinstance(error, OverloadedError):
        code = error.code if error.code in ERROR_TABLE else "overloaded"
        base = replace(failure_of(code, str(error)), code=error.code)
        return replace(base, retry_after_s=max(1, ceil(error.retry_after_s)))
    if isinstance(error, EngineError):
        code = error.code if error.code in ERROR_TABLE else FailureKind.ENGINE_ERROR.value
        base = replace(failure_of(code, str(error)), code=error.code)
        return base if error.status is None else replace(base, status=engine_status(error.status))
    known = error.code in ERROR_TABLE
    return failure_of(error.code, str(error) if known else "")


def engine_status(status: int) -> int:
    """What the client is told when the engine answered with this status.

    Most 4xx are the client's business. That the engine does not know us, or not its model, is
    not: it would send the reader to the wrong key or name.
    """
    return 502 if status in {401, 403, 404, 407} or not 400 <= status < 500 else status


def failure_of_end(end: EndRequest) -> Failure:
    """The answer for a request that the scheduler ended without one."""
    if end.outcome is Outcome.CANCELLED and end.reason != Reason.CHAIN_ABANDONED:
        return replace(failure_of(FailureKind.ABORTED), status=CLIENT_LEFT)
    row = ERROR_TABLE.get(end.reason, _UNKNOWN)
    message = row.message
    if end.reason == Reason.QUEUE_TIMEOUT:
        message += f" It waited {format_duration(end.ended_ns - end.arrived_ns)}."
    if end.detail:
        message = f"{message} {end.detail}"
    failure = failure_of(end.reason or "internal", f"{message} (model {end.model})")
    if end.retry_after_ns > 0:
        failure = replace(failure, retry_after_s=max(1, ceil(end.retry_after_ns / SECOND)))
    return failure
