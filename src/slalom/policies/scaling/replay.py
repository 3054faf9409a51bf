"""How many of some requests would be on time with so many replicas: a replay in one pass.

Owns the queueing model: places are servers, prompts of one replica are read one after another, and
all of its sequences advance at the pace of its average load. It is coarse on purpose: a scaling
policy compares it with itself for one replica more or fewer. Called by `forecast`.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.request import Request, StepCost

#: Rounds in which the average load is found.
_ROUNDS = 5
#: The most of an engine's time that reading may take.
_READING_MAX = 0.95


@dataclass(frozen=True, slots=True)
class Call:
    """A request in a replay; times in ns from its beginning."""

    at_ns: float
    reading_ns: float
    tokens: float
    #: Allowed until the first token, for each token after it, and until the end; None for as long
    #: as it takes.
    ttft_ns: int | None
    tpot_ns: int | None
    e2e_ns: int | None


def calls_of(requests: Sequence[Request], cost: StepCost, rate: float) -> list[Call]:
    """Requests as calls, arriving `rate` times as fast."""
    if not requests:
        return []
    begin_ns = requests[0].arrived_ns
    return [
        Call(
            at_ns=(one.arrived_ns - begin_ns) / rate,
            reading_ns=cost.reading_ns(one.prompt_tokens, 1.0, float(one.prefix_tokens)),
            tokens=float(max(one.predicted_tokens, 1)),
            ttft_ns=one.sla.ttft_ns,
            tpot_ns=one.sla.tpot_ns,
            e2e_ns=one.sla.e2e_ns,
        )
        for one in requests
    ]


def good_with(
    replicas: int, calls: Sequence[Call], cost: StepCost, places: int, span_ns: float
) -> int:
    """Calls that would meet their objectives.

    Args:
        replicas: That serve them.
        calls: In the order of their arrivals.
        cost: Of a replica's engine.
        places: Attempts that a replica runs at a time.
        span_ns: In which they arrive.
    """
    if replicas < 1 or not calls:
        return 0
    token_ns = _token_ns(replicas, calls, cost, places, max(span_ns, 1.0))
    servers, good = replicas * places, 0
    busy: list[float] = []
    readers = [0.0] * replicas
    for call in calls:
        while busy and busy[0] <= call.at_ns:
            heapq.heappop(busy)
        start_ns = call.at_ns if len(busy) < servers else busy[0]
        read_ns = max(start_ns, readers[0]) + call.reading_ns
        first_ns = read_ns + token_ns - call.at_ns
        end_ns = first_ns + (call.tokens - 1.0) * token_ns
        late = call.ttft_ns is not None and first_ns > call.ttft_ns
        late = late or (call.e2e_ns is not None and end_ns > call.e2e_ns)
        if late:  # it is not let in, so that nobody is late by it
            continue
        good += call.tpot_ns is None or call.tokens <= 1 or token_ns <= call.tpot_ns
        heapq.heapreplace(readers, read_ns)
        if len(busy) >= servers:
            heapq.heapreplace(busy, call.at_ns + end_ns)
        else:
            heapq.heappush(busy, call.at_ns + end_ns)
    return good


def _token_ns(
    replicas: int, calls: Sequence[Call], cost: StepCost, places: int, span_ns: float
) -> float:
    """Time of one token at the average load: what runs at a time is what arrives while one runs."""
    per_ns = len(calls) / span_ns / replicas
    reading_ns = sum(call.reading_ns for call in calls) / len(calls)
    tokens = sum(call.tokens for call in calls) / len(calls)
    slower = 1.0 / (1.0 - min(per_ns * reading_ns, _READING_MAX))
    running, found = 1.0, cost.of(1.0, 0.0, 0.0)
    for _ in range(_ROUNDS):
        found = cost.of(running, 0.0, 0.0) * slower
        running = min(max(per_ns * (reading_ns + tokens * found), 1.0), float(places))
    return found
