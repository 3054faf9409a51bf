"""What a step costs, term by term."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.request import StepCost

costs = st.builds(
    StepCost,
    step_ns=st.floats(1, 1e8),
    sequence_ns=st.floats(0, 1e7),
    context_ns=st.floats(0, 1e4),
    prompt_ns=st.floats(0, 1e6),
    request_ns=st.floats(0, 1e7),
    sequence_sq_ns=st.floats(-1e4, 1e4),
    prompt_pair_ns=st.floats(0, 1e2),
    free_tokens=st.floats(0, 300),
)
counts = st.integers(0, 500)


def test_a_step_is_the_sum_of_its_terms() -> None:
    cost = StepCost(1_000, sequence_ns=100, context_ns=1, prompt_ns=10, prompt_pair_ns=0.5)
    assert cost.of(3, 50, 0) == 1_000 + 300 + 50
    assert cost.of(3, 50, 20, 200) == 1_000 + 300 + 50 + 200 + 100
    assert StepCost(1_000, sequence_ns=100, sequence_sq_ns=2).of(10, 0, 0) == 1_000 + 1_000 + 200


def test_tokens_are_free_up_to_a_bound_and_sequences_come_first() -> None:
    cost = StepCost(1_000, prompt_ns=10, free_tokens=100)
    assert cost.of(0, 0, 100) == 1_000
    assert cost.of(0, 0, 130) == 1_300
    assert cost.of(40, 0, 100) == 1_400
    assert cost.of(300, 0, 100) == 2_000
    assert cost.reading_ns(130) == 300
    assert cost.reading_ns(130, 300) == 1_300


def test_a_falling_square_stops_at_its_turn() -> None:
    cost = StepCost(1_000, sequence_ns=100, sequence_sq_ns=-1)
    assert cost.of(50, 0, 0) == 1_000 + 2_500
    assert cost.of(80, 0, 0) == cost.of(50, 0, 0)


@given(costs, counts, counts, counts)
def test_more_never_takes_less(cost: StepCost, sequences: int, context: int, prompt: int) -> None:
    least = cost.of(sequences, context, prompt) * (1 - 1e-12)
    assert cost.of(sequences + 1, context, prompt) >= least
    assert cost.of(sequences, context + 1, prompt) >= least
    assert cost.of(sequences, context, prompt + 1) >= least


@given(costs, counts, counts, counts, st.floats(0.1, 10))
def test_scaling_scales_every_step(
    cost: StepCost, sequences: int, context: int, prompt: int, factor: float
) -> None:
    scaled = cost.scaled(factor).of(sequences, context, prompt, prompt)
    assert scaled == pytest.approx(factor * cost.of(sequences, context, prompt, prompt))
    assert cost.scaled(factor).request_ns == pytest.approx(factor * cost.request_ns)
    assert cost.scaled(factor).reading_ns(prompt) == pytest.approx(factor * cost.reading_ns(prompt))
