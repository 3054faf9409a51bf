"""Spans between readings of attempts that run side by side."""

import pytest

from slalom.core.request import StepCost
from slalom.policies.prediction.replica_path import Reading, ReplicaPath
from slalom.units import MS
from tests.policies.prediction.attempts import Try, request_of

_COST = StepCost(10.0 * MS)
_LATER = 100_000 * MS


class Told:
    """A path, and what it gave back."""

    def __init__(self, *, most: float = 1e9, free_tokens: float = 0.0) -> None:
        self.path = ReplicaPath(most, free_tokens)
        self.readings: list[Reading] = []

    def start(self, name: str, at_ms: int, *, prompt: int = 0, beside: int = 0) -> Try:
        attempt = Try(request_of(name, prompt=prompt), started_ns=at_ms * MS)
        self.readings += self.path.start(attempt, beside, _COST, at_ms * MS)
        return attempt

    def told(self, attempt: Try, tokens: int, at_ms: int, *, beside: int = 0) -> None:
        attempt.told(tokens, at_ms * MS)
        self.readings += self.path.told(attempt, beside, _COST, at_ms * MS)

    def over(self, attempt: Try, tokens: int, at_ms: int, *, finished: bool = True) -> None:
        attempt.told(tokens, at_ms * MS)
        self.readings += self.path.over(attempt, 0, _COST, at_ms * MS, finished=finished)

    def settle(self) -> list[Reading]:
        """All readings so far, after a long time."""
        attempt = Try(request_of("late"), started_ns=_LATER)
        self.readings += self.path.start(attempt, 0, _COST, _LATER)
        return self.readings


def test_a_span_holds_its_steps_and_the_averages_over_them() -> None:
    world = Told()
    one = world.start("one", 0, prompt=50)
    world.told(one, 1, 100)
    two = world.start("two", 600)
    world.told(two, 1, 600)
    world.told(one, 101, 1_100)
    spans = [reading.span for reading in world.settle() if reading.span]
    first = spans[0]
    assert first.is_first
    assert (first.took_ns, first.steps, first.prompt_tokens) == (100 * MS, 1, 50)
    assert first.prompt_pairs == 50 * 50 / 2
    span = spans[-1]
    assert not span.is_first
    assert (span.took_ns, span.steps) == (1_000 * MS, 100)
    # One alone for half of the time, two for the other half.
    assert span.sequences == pytest.approx(1.5)
    assert span.sequences_sq == pytest.approx(2.5)
    assert span.context_tokens == pytest.approx(51 + 0.5)
    assert span.prompt_tokens == 0


def test_a_prompt_counts_into_the_span_in_which_its_reading_ended_even_at_its_last_moment() -> None:
    world = Told()
    one = world.start("one", 0)
    world.told(one, 1, 10)
    two = world.start("two", 500, prompt=300)
    # The step in which both wrote is told of one first.
    world.told(one, 50, 700)
    world.told(two, 1, 700)
    world.told(one, 80, 1_000)
    world.over(two, 40, 1_100)
    spans = [r.span for r in world.settle() if r.span and r.run.request.id == "one"]
    assert [span.prompt_tokens for span in spans[1:]] == [300, 0]


def test_free_tokens_cost_nothing() -> None:
    world = Told(free_tokens=100.0)
    one = world.start("one", 0, prompt=130)
    world.told(one, 1, 10)
    two = world.start("two", 20, prompt=90)
    world.told(two, 1, 60)
    spans = [r.span for r in world.settle() if r.span]
    assert [span.prompt_tokens for span in spans] == [30, 0]


def test_prompts_that_are_read_together_teach_nothing_of_first_tokens() -> None:
    world = Told()
    one = world.start("one", 0, prompt=10)
    two = world.start("two", 1, prompt=10)
    world.told(one, 1, 50)
    world.told(two, 1, 60)
    weights = [r.span.weight for r in world.settle() if r.span]
    assert weights[0] > 0
    assert weights[1] == 0


def test_many_readings_of_the_same_steps_weigh_no_more_than_one() -> None:
    world = Told()
    attempts = [world.start(f"r{number}", 0) for number in range(20)]
    for attempt in attempts:
        world.told(attempt, 1, 10)
    for at_ms in range(510, 5_510, 500):
        for number, attempt in enumerate(attempts):
            world.told(attempt, at_ms // 10 + number, at_ms + number)
    weight = sum(r.span.weight for r in world.settle() if r.span and not r.span.is_first)
    assert 8 <= weight <= 14


def test_what_runs_beside_is_averaged_too() -> None:
    world = Told()
    one = world.start("one", 0, beside=3)
    world.told(one, 1, 0, beside=3)
    world.told(one, 10, 500, beside=1)
    world.told(one, 20, 1_000, beside=1)
    spans = [r.span for r in world.settle() if r.span and not r.span.is_first]
    assert [span.beside for span in spans] == pytest.approx([3.0, 1.0])


def test_an_end_is_told_once_and_only_of_whole_answers() -> None:
    world = Told()
    one, two = world.start("one", 0), world.start("two", 0)
    world.told(one, 1, 10)
    world.told(two, 1, 10)
    world.over(one, 30, 300)
    world.over(two, 30, 300, finished=False)
    ends = [r.run.request.id for r in world.settle() if r.is_end]
    assert ends == ["one"]
    assert len(world.path) == 1


def test_sequences_beyond_the_bend_count_as_that_many() -> None:
    world = Told(most=4.0)
    attempts = [world.start(f"r{number}", 0) for number in range(9)]
    for attempt in attempts:
        world.told(attempt, 1, 10)
    world.told(attempts[0], 50, 510)
    span = [r.span for r in world.settle() if r.span and not r.span.is_first][-1]
    assert span.sequences == pytest.approx(4.0)


def test_attempts_it_never_heard_of_are_left_alone() -> None:
    world = Told()
    stranger = Try(request_of("stranger"))
    world.told(stranger, 5, 10)
    world.over(stranger, 9, 20)
    assert not world.settle()


def test_a_span_that_ends_or_begins_while_a_prompt_is_half_read_hardly_counts() -> None:
    world = Told()
    one = world.start("one", 0)
    world.told(one, 1, 10)
    world.told(one, 51, 510)
    two = world.start("two", 600, prompt=9_000)
    world.told(one, 60, 1_010)
    world.told(one, 70, 1_510)
    world.told(two, 1, 1_700)
    world.told(one, 90, 2_010)
    world.told(one, 140, 2_510)
    spans = [r.span for r in world.settle() if r.span and r.run.request.id == "one"]
    weights = [span.weight for span in spans if not span.is_first]
    assert weights[0] > 0.9
    assert max(weights[1:4]) < 0.1
    assert weights[4] > 0.9


def test_a_prompt_that_has_just_come_is_in_no_step_yet() -> None:
    world = Told()
    one = world.start("one", 0)
    world.told(one, 1, 10)
    world.start("two", 505, prompt=9_000)
    world.told(one, 51, 510)
    span = next(r.span for r in world.settle() if r.span and not r.span.is_first)
    assert span.weight > 0.9
