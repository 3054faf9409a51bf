"""A step cost as the terms of a linear fit, and back.

Owns which terms there are, their order, and what each is when nothing is known of it. Owns no
fit. Called by the model of step times.
"""

from collections.abc import Sequence

from slalom.core.request import StepCost
from slalom.units import MS, US

#: Of an engine of which nothing is known: a small model on a slow device.
DEFAULT_COST = StepCost(
    step_ns=15.0 * MS, sequence_ns=0.5 * MS, prompt_ns=200.0 * US, request_ns=2.0 * MS
)

#: The terms of a span's time: steps, sequences, the bending part of sequences, context, prompt
#: tokens, pairs of these, what runs beside, first tokens, and waits for the step before those.
TERMS = 9
#: The first so many are of decoding.
DECODING = 4
#: The place of what runs beside.
BESIDE = 6
#: Who comes while others write waits for half a step on average, if the engine works in steps.
_WAIT_SHARE = 0.5
#: Typical use, at which a term of no known size is taken for a share of a step.
_TYPICAL_CONTEXT, _TYPICAL_PROMPT = 500.0, 500.0
#: No step takes less.
STEP_MIN_NS = 1.0 * US


def bend_of(cost: StepCost, places: int) -> float:
    """Sequences up to which more of them never make a step shorter."""
    bend = float(max(places, 2))
    if cost.sequence_sq_ns < 0.0:
        bend = max(min(bend, -0.5 * cost.sequence_ns / cost.sequence_sq_ns), 2.0)
    return bend


def terms_of(cost: StepCost, bend: float) -> list[float]:
    """A step cost in our terms.

    The part of the sequences n is a rising one, n(2 - n/bend), and a bending one, n²/bend: with
    neither of them negative they make every parabola that does not fall up to `bend`.
    """
    rising = 0.5 * cost.sequence_ns
    return [
        cost.step_ns,
        rising,
        max(cost.sequence_sq_ns * bend + rising, 0.0),
        cost.context_ns,
        cost.prompt_ns,
        cost.prompt_pair_ns,
        0.0,
        cost.request_ns,
        _WAIT_SHARE,
    ]


def typical_terms(cost: StepCost, bend: float) -> list[float]:
    """The size of each term that would make it as large as a typical step."""
    count = max(bend / 4.0, 1.0)
    context = count * _TYPICAL_CONTEXT
    step_ns = cost.of(count, context, 0.0)
    prompt = _TYPICAL_PROMPT
    return [
        step_ns,
        step_ns / count,
        step_ns * bend / (count * count),
        step_ns / context,
        step_ns / prompt,
        step_ns / (prompt * prompt),
        step_ns / 4.0,
        step_ns,
        1.0,
    ]


def cost_of(terms: Sequence[float], bend: float, free_tokens: float) -> StepCost:
    """A step cost of such terms, as `terms_of` makes them of one."""
    step, rising, bending, context, prompt, pair, _, request, _ = terms
    return StepCost(
        step_ns=max(step, STEP_MIN_NS),
        sequence_ns=2.0 * rising,
        context_ns=context,
        prompt_ns=prompt,
        request_ns=request,
        sequence_sq_ns=(bending - rising) / bend,
        prompt_pair_ns=pair,
        free_tokens=free_tokens,
    )
