"""What answers are of what was told, found before most of them have ended."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.request import Request, Sla
from slalom.policies.prediction.lengths import Lengths, Source
from slalom.policies.prediction.stretch import Stretch

TOLD = Request("r", "m", "chat", Sla(), 0, 100, 4_096, 100)
answers = st.lists(st.tuples(st.floats(0.01, 20), st.booleans()), min_size=1, max_size=100)


def _learned(*noted: tuple[float, bool]) -> Stretch:
    stretch = Stretch()
    for index, (share, whole) in enumerate(noted):
        stretch.note(f"r{index}", share, whole=whole)
    stretch.learn(1.0)
    return stretch


def test_answers_that_end_where_they_should_change_nothing() -> None:
    assert _learned(*[(1.0, True)] * 5, *[(0.7, False)] * 20).mean == 1.0
    assert _learned(*[(0.4, False)] * 20).mean == 1.0


def test_answers_that_have_outgrown_what_was_told_teach_before_they_end() -> None:
    assert _learned(*[(1.1, False)] * 6).mean > 1.25
    assert _learned(*[(1.8, False)] * 6).mean > _learned(*[(1.2, False)] * 6).mean


def test_those_that_still_grow_count_as_those_that_were_longer() -> None:
    # Two short ones have ended first; the others have got beyond them, and one ended where told.
    many = _learned((0.2, True), (0.2, True), (1.0, True), *[(0.6, False)] * 17)
    assert many.mean == pytest.approx(1.0, abs=0.1)
    assert _learned(*[(0.2, True)] * 12).mean < 0.4


def test_answers_that_scatter_correct_nothing() -> None:
    assert _learned(*[(3.0, True)] * 9, *[(0.5, True)] * 9).mean == 1.0
    assert _learned(*[(3.0, True)] * 9, *[(2.5, True)] * 9).mean > 2.5


def test_a_mean_that_was_corrected_upward_keeps_a_little_room() -> None:
    long = _learned(*[(2.0, True)] * 20)
    assert long.factor == pytest.approx(long.mean * 1.1)
    assert long.mean == pytest.approx(2.0, rel=0.02)
    short = _learned(*[(0.5, True)] * 20)
    assert short.factor == short.mean


def test_how_far_answers_differ_is_known() -> None:
    assert _learned(*[(1.0, True)] * 9).deviation == 0.0
    assert _learned(*[(0.5, True)] * 9, *[(1.5, True)] * 9).deviation == pytest.approx(
        0.5, abs=0.05
    )


@given(answers)
def test_the_mean_is_bounded_and_the_memory_too(noted: list[tuple[float, bool]]) -> None:
    stretch = _learned(*noted)
    assert 0.125 <= stretch.mean <= 8.0
    assert repr(stretch).startswith(f"Stretch(answers={min(len(noted), 64)}")


def _by_the_book(noted: dict[str, tuple[float, bool]]) -> tuple[float, float]:
    """Mean and mean deviation, all of it sorted and summed up anew."""
    points = [(share, not whole, 1.0) for share, whole in noted.values()]
    points = sorted([*points, (1.0, False, 0.125)])
    longer, grown, nearest = len(noted) + 0.125, 1.0, 0.0
    found: list[tuple[float, float]] = []
    for share, is_open, weight in points:
        longer -= weight
        if not is_open:
            nearest = max(nearest, share if weight == 1.0 else 0.0)
            found.append((share, weight * grown))
        elif longer > 0.0:
            grown *= (longer + weight) / longer
        else:
            goes_on = share > nearest * 1.25
            found.append((share * (1.25 if goes_on else 1.0), weight * grown))
    whole = sum(weight for _, weight in found)
    mean = sum(share * weight for share, weight in found) / whole
    return mean, sum(abs(share - mean) * weight for share, weight in found) / whole


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 20), st.booleans()), min_size=1))
def test_what_is_kept_in_order_says_what_all_of_it_says(
    noted: list[tuple[int, float, bool]],
) -> None:
    stretch = Stretch()
    kept: dict[str, tuple[float, bool]] = {}
    for name, share, whole in noted:
        kept[f"r{name}"] = (share, whole)
        stretch.note(f"r{name}", share, whole=whole)
        mean, deviation = _by_the_book(kept)
        stretch.learn(1.0)
        assert stretch.deviation == pytest.approx(deviation)
        held = min(max(mean, 0.125), 8.0)
        if deviation < 0.24 * mean:
            assert stretch.mean == pytest.approx(held, rel=0.12)


def test_a_growing_answer_says_something_new_only_now_and_then() -> None:
    stretch = Stretch()
    assert not stretch.note("r", 0.9, whole=False)
    assert stretch.note("r", 1.01, whole=False)
    assert not stretch.note("r", 1.02, whole=False)
    assert stretch.note("r", 1.3, whole=False)
    assert stretch.note("r", 1.3, whole=True)


def test_what_still_grows_moves_what_is_expected_of_others() -> None:
    lengths = Lengths()
    for index in range(6):
        lengths.grown(replace(TOLD, id=f"r{index}"), 90)
    assert lengths.remaining(TOLD, 0) == 100
    assert lengths.version == 0
    for index in range(6):
        lengths.grown(replace(TOLD, id=f"r{index}"), 160)
    assert lengths.source(TOLD) is Source.TOLD
    assert lengths.remaining(TOLD, 0) > 180
    assert lengths.version > 0


def test_a_model_that_is_wordier_than_thought_is_so_in_tasks_of_which_nothing_has_ended() -> None:
    lengths = Lengths()
    other = replace(TOLD, task="other")
    lengths.grown(replace(other, id="begun"), 10)
    for index in range(4):
        lengths.add(replace(TOLD, id=f"r{index}"), 200)
    assert lengths.remaining(other, 0) == pytest.approx(200, rel=0.15)
    assert lengths.remaining(replace(TOLD, task="new"), 0) == pytest.approx(200, rel=0.15)
    assert lengths.remaining(replace(TOLD, model="x"), 0) == 100


def test_without_learning_and_without_a_hint_nothing_is_corrected() -> None:
    lengths = Lengths(learns=False)
    for index in range(6):
        lengths.grown(replace(TOLD, id=f"r{index}"), 300)
    assert lengths.remaining(TOLD, 0) == 100
    lengths = Lengths()
    for index in range(6):
        lengths.grown(replace(TOLD, id=f"r{index}", predicted_tokens=0), 300)
    assert lengths.remaining(replace(TOLD, predicted_tokens=0), 0) == 4_096
