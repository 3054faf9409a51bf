"""What becomes of a request on a replica, and of those that run there: l = queue + execution.

Owns the estimate from the step times that a calibration told, with a token clock: all sequences of
an engine gain one token a step, and none while a prompt is read. What comes after an answer in its
chain is the same on every replica and no part of it. Called by routing and scaling policies.

Source: the terms are those of CATO (arXiv 2503.19876); the clock is ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from slalom.core.planning import ActiveView, RunningView
from slalom.core.request import Request, StepCost

_FAR_NS = float(1 << 62)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of a request on one replica, ns from now."""

    #: Until its prompt's turn to be read comes.
    queue_ns: float
    #: Until its first token, and its last.
    first_ns: float
    end_ns: float
    #: Whether it would meet its objectives.
    is_good: bool
    #: Attempts there that would be late by it and are not without it.
    harmed: int


@dataclass(slots=True)
class _Row:
    """One sequence on the clock."""

    left: float
    context: float
    #: When its end is due, and its first token; far ahead where nothing says.
    end_due_ns: float
    first_due_ns: float
    is_new: bool = False


def paced(cost: StepCost, speed: float) -> StepCost:
    """Step times on a device so many times as fast."""
    return cost if speed == 1.0 else cost.scaled(1.0 / speed)


def outlook(
    request: Request, replica: RunningView, cost: StepCost, now_ns: int, cached_tokens: float = 0.0
) -> Outlook:
    """Put a request beside what runs on a replica, and see.

    Args:
        request: Which.
        replica: Where.
        cost: Of its engine.
        now_ns: Now.
        cached_tokens: Of its prompt that the replica has read before.
    """
    rows, unread_ns = _running(replica.active(), cost, now_ns)
    count = len(rows)
    reading_ns = cost.reading_ns(request.prompt_tokens, count, cached_tokens)
    late_before = _late(rows, unread_ns, 0.0, cost, now_ns)[0] if count else 0
    tokens = float(max(request.predicted_tokens, 1))
    due_ns, first_due_ns = _due(request, -1, tokens)
    new = _Row(tokens, float(request.prompt_tokens), due_ns, first_due_ns, is_new=True)
    rows.append(new)
    late, end_ns = _late(rows, unread_ns, reading_ns, cost, now_ns)
    context = sum(row.context for row in rows)
    first_ns = cost.request_ns + unread_ns + reading_ns + cost.of(count + 1, context, 0.0)
    tpot_ns = request.sla.tpot_ns
    is_good = now_ns + first_ns <= first_due_ns and now_ns + end_ns <= due_ns
    if tpot_ns is not None and tokens > 1:
        is_good = is_good and end_ns - first_ns <= tpot_ns * (tokens - 1)
    return Outlook(unread_ns, first_ns, end_ns, is_good, max(late - late_before, 0))


def _running(
    active: Collection[ActiveView], cost: StepCost, now_ns: int
) -> tuple[list[_Row], float]:
    """What runs as rows, and the time that reading their prompts still takes, ns."""
    attempts = [one for one in active if not one.leaving]
    rows, unread_ns, since_ns = [], 0.0, now_ns
    step_ns = cost.of(max(len(attempts), 1), 0.0, 0.0)
    for one in attempts:
        asked = one.request
        written = float(one.output_tokens)
        if one.first_ns >= 0:
            written += (now_ns - one.heard_ns) / max(step_ns, 1.0)
        else:
            unread_ns += cost.reading_ns(asked.prompt_tokens + one.resumed_tokens, len(attempts))
            since_ns = min(since_ns, one.started_ns)
        left = max(asked.predicted_tokens - one.resumed_tokens - written, 1.0)
        due_ns, first_due_ns = _due(asked, one.client_first_ns, written + left)
        rows.append(_Row(left, asked.prompt_tokens + written, due_ns, first_due_ns))
    return rows, max(unread_ns - (now_ns - since_ns), 0.0)


def _due(request: Request, first_ns: int, tokens: float) -> tuple[float, float]:
    """When the last token of a request is due, and the first one if it has not come."""
    sla, arrived_ns = request.sla, request.arrived_ns
    end_ns = _FAR_NS if sla.e2e_ns is None else float(arrived_ns + sla.e2e_ns)
    if first_ns < 0:
        return end_ns, _FAR_NS if sla.ttft_ns is None else float(arrived_ns + sla.ttft_ns)
    if sla.tpot_ns is not None:
        end_ns = min(end_ns, first_ns + sla.tpot_ns * max(tokens - 1.0, 1.0))
    return end_ns, _FAR_NS


def _late(
    rows: Sequence[_Row], unread_ns: float, reading_ns: float, cost: StepCost, now_ns: int
) -> tuple[int, float]:
    """(running ones that are late, end of the new one from now): the clock, walked once."""
    line = sorted(rows, key=lambda row: row.left)
    context = sum(row.context for row in line)
    at_ns, clock, late, end_ns = unread_ns + reading_ns, 0.0, 0, 0.0
    first_ns = unread_ns + cost.request_ns + cost.of(len(line), context, 0.0)
    for place, row in enumerate(line):
        at_ns += (row.left - clock) * cost.of(len(line) - place, context, 0.0)
        clock = row.left
        context -= row.context
        if row.is_new:
            end_ns = at_ns + cost.request_ns
        elif now_ns + at_ns > row.end_due_ns or now_ns + first_ns > row.first_due_ns:
            late += 1
    return late, end_ns
