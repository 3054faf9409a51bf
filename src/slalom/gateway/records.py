"""What is known of each request when it is over: one record, one wide log line, a bounded ring.

Owns the meeting of the two halves of a record: HTTP's (status, bytes) and the scheduler's
(`EndRequest`), whichever comes last. Records hold ids, names, sizes and times; never a prompt,
an answer or a secret. Fed by `inference` and by the runtime's `on_end`.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from slalom.core.actions import EndRequest, Outcome
from slalom.units import MS

_LOG = logging.getLogger("slalom.requests")


@dataclass(slots=True)
class Exchange:
    """HTTP's half of a record."""

    request_id: str
    path: str
    stream: bool = False
    key: str = ""
    #: Status the client saw; 0 before there is one, 499 if it left.
    status: int = 0
    #: Machine-readable reason of an error answered by the gateway.
    code: str = ""
    bytes_received: int = 0
    bytes_sent: int = 0
    #: What its body brought along from what the server keeps.
    bytes_besides: int = 0
    #: Whether the scheduler knows the request, so that its half will come.
    scheduled: bool = False
    #: Whether the answer came out of the completion cache.
    cached: bool = False


class Records:
    """Puts the halves together.

    Args:
        records_max: Ended requests kept.
        open_max: Requests under way; the oldest is given up beyond it.
    """

    def __init__(self, records_max: int, open_max: int) -> None:
        self._records_max = records_max
        self._open_max = open_max
        self._exchanges: OrderedDict[str, Exchange] = OrderedDict()
        self._ends: OrderedDict[str, EndRequest] = OrderedDict()
        self._ring: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: Told of every record.
        self.on_record: list[Callable[[dict[str, Any]], None]] = []

    def __repr__(self) -> str:
        return f"<Records kept={len(self._ring)} halves={len(self._exchanges) + len(self._ends)}>"

    def answered(self, exchange: Exchange) -> None:
        """The HTTP exchange is over."""
        if not exchange.scheduled:
            self._emit(_http_fields(exchange))
            return
        end = self._ends.pop(exchange.request_id, None)
        if end is None:
            self._exchanges[exchange.request_id] = exchange
            if len(self._exchanges) > self._open_max:
                self._emit(_http_fields(self._exchanges.popitem(last=False)[1]))
            return
        self._emit(_http_fields(exchange) | _end_fields(end))

    def ended(self, end: EndRequest) -> None:
        """The scheduler is done with the request."""
        exchange = self._exchanges.pop(end.request_id, None)
        if exchange is None:
            self._ends[end.request_id] = end
            if len(self._ends) > self._open_max:
                self._ends.popitem(last=False)
            return
        self._emit(_http_fields(exchange) | _end_fields(end))

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The record of an ended request, while it is kept."""
        return self._ring.get(request_id)

    def latest(self, count: int) -> list[dict[str, Any]]:
        """The last records, newest first."""
        newest = reversed(self._ring.values())
        return [record for record, _ in zip(newest, range(count), strict=False)]

    def _emit(self, record: dict[str, Any]) -> None:
        self._ring[record["request_id"]] = record
        if len(self._ring) > self._records_max:
            self._ring.popitem(last=False)
        if _LOG.isEnabledFor(logging.INFO):
            # Built by hand: looking for the calling line would cost as much as the rest.
            line = logging.LogRecord(
                _LOG.name, logging.INFO, __file__, 0, wide_line(record), None, None, "_emit"
            )
            _LOG.handle(line)
        for tell in self.on_record:
            tell(record)


def wide_line(record: dict[str, Any]) -> str:
    """A record as one line of JSON."""
    return msgspec.json.encode(record).decode()


def _http_fields(exchange: Exchange) -> dict[str, Any]:
    fields: dict[str, Any] = {"cache": "hit"} if exchange.cached else {}
    return fields | {
        "request_id": exchange.request_id,
        "path": exchange.path,
        "status": exchange.status,
        "code": exchange.code,
        "stream": exchange.stream,
        "key": exchange.key,
        "bytes_received": exchange.bytes_received,
        "bytes_sent": exchange.bytes_sent,
    }


def _end_fields(end: EndRequest) -> dict[str, Any]:
    output_tokens = end.output_tokens
    first_ns = end.first_token_ns
    fields = {
        "model": end.model,
        "task": end.task,
        "outcome": end.outcome.value,
        "reason": str(end.reason),
        "good": end.good,
        "queue_ms": _ms(end.first_dispatch_ns, end.arrived_ns),
        "ttft_ms": _ms(first_ns, end.arrived_ns),
        "e2e_ms": _ms(end.ended_ns, end.arrived_ns),
        "tpot_ms": None,
        "prompt_tokens": end.prompt_tokens,
        "output_tokens": output_tokens,
        "attempts": end.attempts,
        "replica": end.replica_id,
    }
    if end.outcome is Outcome.DONE and output_tokens > 1 and first_ns >= 0:
        fields["tpot_ms"] = round((end.ended_ns - first_ns) / (output_tokens - 1) / MS, 3)
    if end.chain:
        fields["chain"], fields["chain_step"] = end.chain, end.step
        fields["chain_steps"] = end.steps or None
        fields["chain_left_ms"] = round(end.chain_left_ns / MS, 3)
    if end.detail:
        fields["detail"] = end.detail
    fields.update(_planned_fields(end))
    return fields


def _planned_fields(end: EndRequest) -> dict[str, Any]:
    """What a planner did and expected; nothing where none did."""
    fields: dict[str, Any] = {}
    if end.pauses:
        fields["pauses"] = end.pauses
    if end.clamped_tokens:
        fields["clamped_tokens"] = end.clamped_tokens
    if end.demoted_ns >= 0:
        fields["demoted_ms"] = _ms(end.demoted_ns, end.arrived_ns)
    if end.expected_first_ns >= 0:
        fields["predicted_ttft_ms"] = _ms(end.expected_first_ns, end.arrived_ns)
    if end.expected_end_ns >= 0:
        fields["predicted_e2e_ms"] = _ms(end.expected_end_ns, end.arrived_ns)
    if end.chance >= 0:
        fields["chance"] = round(end.chance, 3)
    return fields


def _ms(at_ns: int, since_ns: int) -> float | None:
    """Milliseconds since the arrival, or None for what never happened."""
    return None if at_ns < 0 else round((at_ns - since_ns) / MS, 3)
