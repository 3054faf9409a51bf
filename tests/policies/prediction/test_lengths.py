"""What is expected of the length of answers."""

import random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.core.request import Request, Sla
from slalom.policies.prediction.histogram import Histogram
from slalom.policies.prediction.lengths import Lengths, Source

numbers = st.lists(st.floats(1, 50_000), min_size=1, max_size=200)


def _request(
    task: str = "chat", prompt: int = 100, limit: int = 4_096, told: int = 256, model: str = "m"
) -> Request:
    return Request("r", model, task, Sla(), 0, prompt, limit, told)


def _filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(numbers, st.floats(0, 60_000))
def test_what_lies_beyond_is_above_and_within_what_was_seen(
    values: list[float], above: float
) -> None:
    share, found = _filled(values).beyond(above)
    assert 0 <= share <= 1 + 1e-9
    if share:
        assert above <= found <= max(values) * (1 + 1e-9)
    if above >= max(values):
        assert not share


@given(numbers, st.floats(0, 60_000))
def test_quantiles_grow_and_stay_within_what_was_seen(values: list[float], above: float) -> None:
    histogram = _filled(values)
    found = [histogram.quantile(share, above) for share in (0.1, 0.5, 0.9, 1.0)]
    assert found == sorted(found)
    assert found[-1] <= max(*values, above) * (1 + 1e-9)


@given(st.floats(1, 50_000), st.integers(1, 50))
def test_what_is_always_the_same_is_exact(value: float, count: int) -> None:
    histogram = _filled([value] * count)
    assert histogram.beyond(value * 0.999)[1] == pytest.approx(value)
    assert histogram.quantile(0.3) == pytest.approx(value)
    assert histogram.beyond(value) == (0.0, 0.0)


def test_the_survivors_mean_is_nearly_that_of_the_numbers() -> None:
    rng = random.Random(3)
    values = [rng.lognormvariate(5, 0.7) for _ in range(150)]
    histogram = _filled(values)
    for above in (0, 50, 148, 400):
        over = [value for value in values if value > above]
        share, found = histogram.beyond(above)
        assert share == pytest.approx(len(over) / len(values), abs=0.08)
        assert found == pytest.approx(mean(over), rel=0.1)


def test_quantiles_are_nearly_those_of_the_numbers() -> None:
    rng = random.Random(3)
    values = [rng.lognormvariate(5, 0.7) for _ in range(150)]
    histogram = _filled(values)
    for above in (0, 50, 148, 400):
        over = sorted(value for value in values if value > above)
        for share in (0.1, 0.5, 0.9):
            found = histogram.quantile(share, above)
            assert found == pytest.approx(over[int(share * len(over))], rel=0.15)


def test_old_numbers_fade_however_many_there_were() -> None:
    histogram = _filled([10.0] * 60_000 + [1_000.0] * 1_000)
    assert histogram.quantile(0.05) == pytest.approx(1_000.0)
    assert histogram.total == pytest.approx(200.0, rel=0.01)


def test_before_it_has_seen_answers_it_says_what_the_request_says() -> None:
    lengths = Lengths()
    assert lengths.remaining(_request(told=256), 0) == 256
    assert lengths.remaining(_request(told=256), 100) == 156
    assert lengths.remaining(_request(told=256, limit=64), 0) == 64
    assert lengths.remaining(_request(told=0, limit=64), 0) == 64
    assert lengths.quantile(_request(told=256), 0, 0.9) == 256


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 5_000)), max_size=60),
    st.integers(1, 2_000),
    st.integers(0, 3_000),
    st.floats(0, 1),
)
def test_it_never_expects_more_than_is_allowed_nor_less_than_one(
    answers: list[tuple[int, int]], limit: int, produced: int, share: float
) -> None:
    lengths = Lengths()
    for tokens, prompt in answers:
        lengths.add(_request(prompt=prompt), tokens)
    request = _request(limit=limit)
    for found in (lengths.remaining(request, produced), lengths.quantile(request, produced, share)):
        assert 1 <= found <= max(limit - produced, 1)


def test_it_learns_the_length_and_conditions_on_what_is_there() -> None:
    lengths = Lengths()
    rng = random.Random(1)
    for _ in range(200):
        lengths.add(_request(), rng.choice([20, 400]))
    request = _request()
    assert lengths.source(request) is not Source.TOLD
    assert lengths.remaining(request, 0) == pytest.approx(210, rel=0.2)
    # Whoever is beyond the short ones is a long one.
    assert lengths.remaining(request, 50) == pytest.approx(350, rel=0.02)
    assert lengths.quantile(request, 0, 0.95) == pytest.approx(400, rel=0.02)
    # Longer than any before it: nobody knows, but the longer it is the longer it may go on.
    assert lengths.remaining(request, 1_000) == pytest.approx(250)


def test_tasks_models_and_limits_are_kept_apart() -> None:
    lengths = Lengths()
    for _ in range(40):
        lengths.add(_request(task="chat", model="a"), 100)
        lengths.add(_request(task="chat", model="b"), 30)
        lengths.add(_request(task="other", model="a"), 700)
        lengths.add(_request(task="chat", model="a", limit=50, told=50), 50)
    assert lengths.remaining(_request(task="chat", model="a"), 0) == pytest.approx(100)
    assert lengths.remaining(_request(task="chat", model="b"), 0) == pytest.approx(30)
    assert lengths.remaining(_request(task="other", model="a"), 0) == pytest.approx(700)
    assert lengths.remaining(_request(task="chat", model="a", limit=50), 0) == pytest.approx(50)


def test_where_answers_follow_their_prompts_the_ratio_is_chosen_whatever_the_task_is_called() -> (
    None
):
    lengths = Lengths()
    rng = random.Random(2)
    for _ in range(150):
        prompt = rng.randint(50, 3_000)
        lengths.add(_request(task="x", prompt=prompt), round(prompt * rng.uniform(1.0, 1.2)))
        lengths.add(_request(task="y", prompt=prompt), rng.randint(90, 110))
    long = _request(task="x", prompt=2_500, told=256)
    assert lengths.source(long) is Source.RATIO
    assert lengths.remaining(long, 0) == pytest.approx(2_750, rel=0.06)
    assert lengths.remaining(long, 1_000) == pytest.approx(1_750, rel=0.1)
    assert lengths.source(_request(task="y", prompt=2_500)) is not Source.RATIO
    assert lengths.remaining(_request(task="y", prompt=2_500), 0) == pytest.approx(100, rel=0.05)


def test_a_prediction_that_comes_with_the_request_wins_while_it_is_better() -> None:
    lengths = Lengths()
    rng = random.Random(4)
    for _ in range(100):
        tokens = rng.randint(10, 2_000)
        lengths.add(_request(told=tokens), tokens)
    assert lengths.source(_request(told=123)) is Source.TOLD
    assert lengths.remaining(_request(told=123), 0) == 123
    for _ in range(100):
        lengths.add(_request(told=2_000), 50)
    assert lengths.remaining(_request(told=2_000), 0) < 500


def test_lengths_that_change_are_learned_anew() -> None:
    lengths = Lengths()
    for _ in range(400):
        lengths.add(_request(), 100)
    for _ in range(400):
        lengths.add(_request(), 300)
    assert lengths.remaining(_request(), 0) == pytest.approx(300, rel=0.15)


def test_its_memory_is_bounded() -> None:
    lengths = Lengths()
    for number in range(3_000):
        lengths.add(_request(task=f"task-{number}"), 10)
    assert len(lengths._groups) <= 512
    assert len(lengths._tasks) <= 512


def test_without_learning_the_request_is_believed() -> None:
    lengths = Lengths(learns=False)
    for _ in range(100):
        lengths.add(_request(told=200), 10)
    assert lengths.remaining(_request(told=200), 0) == 200
