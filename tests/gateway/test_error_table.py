"""Every reason has a row, and every row an answer that clients can act on."""

import json

import pytest

from slalom.core.actions import EndRequest, Outcome, Reason
from slalom.core.events import FailureKind
from slalom.errors import ConfigError, EngineError, InvariantError, OverloadedError, RequestError
from slalom.gateway.asgi_sink import engine_failure
from slalom.gateway.error_table import (
    ERROR_TABLE,
    failure_of,
    failure_of_end,
    failure_of_error,
)
from slalom.gateway.replies import error_body, error_headers
from slalom.units import MS, SECOND


def end(reason: str, outcome: Outcome = Outcome.REJECTED, *, retry_after_ns: int = 0) -> EndRequest:
    return EndRequest(
        request_id="r",
        outcome=outcome,
        reason=reason,
        model="m",
        task="chat",
        key="",
        arrived_ns=0,
        first_dispatch_ns=-1,
        dispatch_ns=-1,
        first_token_ns=-1,
        ended_ns=3 * SECOND,
        prompt_tokens=1,
        output_tokens=0,
        attempts=0,
        replica_id="",
        good=False,
        retry_after_ns=retry_after_ns,
        detail="the file is gone",
    )


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason])
def test_every_reason_of_a_refusal_has_a_row(reason: Reason) -> None:
    assert reason in ERROR_TABLE
    assert 400 <= failure_of_end(end(reason)).status < 600


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_of_failure_has_a_row(kind: FailureKind) -> None:
    assert kind in ERROR_TABLE
    failure = failure_of_end(end(kind, Outcome.FAILED))
    assert failure.code == kind
    assert "the file is gone" in failure.message
    assert failure_of_error(EngineError("x", code=kind)).code == kind


@pytest.mark.parametrize("code", sorted(ERROR_TABLE))
def test_overload_says_when_to_come_again(code: str) -> None:
    failure = failure_of(code)
    headers = dict(error_headers(failure))
    if failure.status in (429, 503) and failure.retryable:
        assert int(headers[b"retry-after"]) >= 1
    if not failure.retryable and failure.status >= 500:
        assert headers[b"x-should-retry"] == b"false"
    assert set(json.loads(error_body(failure))["error"]) == {"message", "type", "param", "code"}


def test_the_schedulers_advice_wins_and_rounds_up() -> None:
    assert failure_of_end(end("queue_full", retry_after_ns=2_100 * MS)).retry_after_s == 3
    assert failure_of_end(end("queue_timeout")).message.count("3.00 s") == 1


def test_errors_by_whose_fault_they_are() -> None:
    assert failure_of_error(RequestError("x", param="y")).status == 400
    assert failure_of_error(RequestError("x", code="odd")).code == "odd"
    overloaded = failure_of_error(OverloadedError("x", retry_after_s=0.2, code="odd"))
    assert (overloaded.status, overloaded.code, overloaded.retry_after_s) == (503, "odd", 1)
    for inner in (InvariantError("secret detail"), ConfigError("secret detail")):
        failure = failure_of_error(inner)
        assert failure.status == 500
        assert "secret detail" not in failure.message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, 400),
        (422, 422),
        (429, 429),
        (401, 502),
        (403, 502),
        (404, 502),
        (500, 502),
        (503, 502),
    ],
)
def test_an_engines_refusal_keeps_its_words_not_its_keys(status: int, expected: int) -> None:
    body = b'{"error": {"message": "too long", "param": "prompt"}}'
    failure = engine_failure(status, body)
    assert (failure.status, failure.message, failure.param) == (expected, "too long", "prompt")
    assert failure_of_error(EngineError("x", status=status)).status == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 3}', b'{"error": null}', b"1"])
def test_an_engines_garbage_gets_our_words(body: bytes) -> None:
    assert engine_failure(400, body).message == ERROR_TABLE["engine_refused"].message


@pytest.mark.parametrize(
    ("body", "too_long"),
    [
        (b'{"error": {"type": "exceed_context_size_error", "message": "m"}}', True),
        (b'{"message": "This model\'s maximum context length is 8 tokens.", "code": 400}', True),
        (b'{"error": {"type": "invalid_request_error", "message": "m"}}', False),
    ],
)
def test_a_prompt_that_is_too_long_is_told_by_the_name_that_agents_know(
    body: bytes, *, too_long: bool
) -> None:
    assert (engine_failure(400, body).code == "context_length_exceeded") is too_long
    assert engine_failure(500, body).code == "engine_error"


def test_plain_text_errors_are_kept() -> None:
    assert engine_failure(400, b'{"error": "no"}').message == "no"
