"""When a request is due, and how long it takes alone: what baselines ask of a request.

Owns the arithmetic from objectives to instants. Lengths are the prediction that came with the
request, never more than it allows; times are those of the model's calibration. Called by the
baseline planners.
"""

from slalom.core.request import ModelSpec, Request


def expected_tokens(request: Request) -> int:
    """Tokens that its answer is expected to have; at least 1."""
    predicted = request.predicted_tokens or request.max_tokens
    return max(min(predicted, request.max_tokens), 1)


def first_due_ns(request: Request) -> int | None:
    """When its first token must be there, if it promises one."""
    ttft_ns = request.sla.ttft_ns
    return None if ttft_ns is None else request.arrived_ns + ttft_ns


def end_due_ns(request: Request, tokens: int, first_ns: int = -1) -> int | None:
    """When an answer of so many tokens must be complete; None if no objective says so.

    Args:
        request: The request.
        tokens: Of the whole answer.
        first_ns: When its client got the first one; -1 before.
    """
    sla, due_ns = request.sla, None
    if sla.tpot_ns is not None:
        begin_ns = first_ns if first_ns >= 0 else first_due_ns(request)
        if begin_ns is not None:
            due_ns = begin_ns + sla.tpot_ns * max(tokens - 1, 0)
    if sla.e2e_ns is None:
        return due_ns
    e2e_due_ns = request.arrived_ns + sla.e2e_ns
    return e2e_due_ns if due_ns is None else min(due_ns, e2e_due_ns)


def reading_ns(spec: ModelSpec, prompt_tokens: int, beside: int = 0) -> int:
    """Time from the start to the first token, beside so many; 0 where nothing is calibrated."""
    cost = spec.step_cost
    if cost is None:
        return 0
    step_ns = cost.of(beside + 1, 0, 0)
    return round(cost.request_ns + cost.reading_ns(prompt_tokens, beside) + step_ns)


def writing_ns(spec: ModelSpec, tokens: int, beside: int = 0) -> int:
    """Time of the tokens after the first, beside so many; 0 where nothing is calibrated."""
    cost = spec.step_cost
    return 0 if cost is None else round(cost.of(beside + 1, 0, 0) * max(tokens - 1, 0))


def is_hopeless(request: Request, spec: ModelSpec, now_ns: int, first_ns: int = -1) -> bool:
    """Whether it is late, or would be even if it began now and had the engine to itself.

    Args:
        request: The request.
        spec: Its model.
        now_ns: Now.
        first_ns: When its client got the first token; -1 before.
    """
    first_at_ns = now_ns + reading_ns(spec, request.prompt_tokens)
    due_ns = first_due_ns(request)
    if due_ns is not None and first_ns < 0 and first_at_ns > due_ns:
        return True
    tokens = expected_tokens(request)
    end_ns = end_due_ns(request, tokens, first_ns)
    return end_ns is not None and first_at_ns + writing_ns(spec, tokens) > end_ns
