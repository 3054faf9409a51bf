"""How many of some requests would be on time with so many replicas: a replay in one pass.

Owns the queueing model: places are servers, prompts of one replica are read one after another, and
all of its sequences advance at the pace of its average load. It is coarse on purpose: a scaling
policy compares it with itself for one replica more or fewer. Called by `forecast` and `fill`.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

from slalom.core.request import Request, StepCost
from slalom.core.sizing import SizeView, Sizing
from slalom.policies.outlook import paced

#: Rounds in which the average load is found.
_ROUNDS = 5
#: The most of an engine's time that reading may take.
_READING_MAX = 0.95
#: How quickly an answer's worth falls where it comes near its limit: at nine tenths of the time it
#: has, it is worth two thirds.
_SHARPNESS = 8.0


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


def cost_of(model: SizeView) -> StepCost | None:
    """Step times of a model, at the mean speed of the devices that its ready replicas have."""
    cost, speeds = model.spec.step_cost, [one.speed for one in model.ready()]
    return paced(cost, sum(speeds) / len(speeds)) if cost is not None and speeds else cost


def calls_of(
    requests: Sequence[Request], cost: StepCost, rate: float, sizing: Sizing
) -> list[Call]:
    """Requests as calls, arriving `rate` times as fast, with answers as long as they were."""
    if not requests:
        return []
    begin_ns = requests[0].arrived_ns
    return [
        Call(
            at_ns=(one.arrived_ns - begin_ns) / rate,
            reading_ns=cost.reading_ns(one.prompt_tokens, 1.0, float(one.prefix_tokens)),
            tokens=max(sizing.tokens_of(one), 1.0),
            ttft_ns=one.sla.ttft_ns,
            tpot_ns=one.sla.tpot_ns,
            e2e_ns=one.sla.e2e_ns,
        )
        for one in requests
    ]


def mean_ns(calls: Sequence[Call], cost: StepCost, running: int) -> float:
    """What one of some calls takes on average where so many run on a replica, without waiting."""
    token_ns = cost.of(float(running), 0.0, 0.0)
    return sum(call.reading_ns + call.tokens * token_ns for call in calls) / len(calls)


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
    good = 0
    for call, _, _, token_ns in _replay(replicas, calls, cost, places, span_ns):
        good += call.tpot_ns is None or call.tokens <= 1 or token_ns <= call.tpot_ns
    return good


def worth_with(
    replicas: int, calls: Sequence[Call], cost: StepCost, places: int, span_ns: float
) -> float:
    """The same, but each answer counts for as much as it keeps away from its limits, up to 1.

    So that what is on time with little to spare gains by another replica, if by less than what is
    late.
    """
    worth = 0.0
    for call, first_ns, end_ns, token_ns in _replay(replicas, calls, cost, places, span_ns):
        share = 0.0
        if call.ttft_ns:
            share = first_ns / call.ttft_ns
        if call.e2e_ns:
            share = max(share, end_ns / call.e2e_ns)
        if call.tpot_ns and call.tokens > 1:
            share = max(share, token_ns / call.tpot_ns)
        worth += 1.0 / (1.0 + exp(_SHARPNESS * (min(share, 2.0) - 1.0)))
    return worth


def _replay(
    replicas: int, calls: Sequence[Call], cost: StepCost, places: int, span_ns: float
) -> Iterator[tuple[Call, float, float, float]]:
    """Calls that are let in; their first token and end, ns after each arrival; a token's time.

    At the beginning as many run as do on average, and end one after the other: a span that is short
    in view of a call does not begin with empty replicas.
    """
    if replicas < 1 or not calls:
        return
    token_ns = _token_ns(replicas, calls, cost, places, max(span_ns, 1.0))
    servers = replicas * places
    mean_ns = sum(call.reading_ns + call.tokens * token_ns for call in calls) / len(calls)
    before = min(int(len(calls) * mean_ns / max(span_ns, 1.0)), servers)
    busy = [mean_ns * (place + 1) / (before + 1) for place in range(before)]
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
        yield call, first_ns, end_ns, token_ns
        heapq.heapreplace(readers, read_ns)
        if len(busy) >= servers:
            heapq.heapreplace(busy, call.at_ns + end_ns)
        else:
            heapq.heappush(busy, call.at_ns + end_ns)


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
