"""The predictor as planners see it, told by hand of attempts whose times are known."""

import random
from collections.abc import Callable
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.core.planning import Moment, Observation
from slalom.core.request import StepCost
from slalom.policies.prediction.predictor import Predictor, PredictorOptions
from slalom.units import MS
from tests.policies.prediction.attempts import Place, Try, request_of

_COST = StepCost(10.0 * MS, sequence_ns=1.0 * MS, prompt_ns=0.1 * MS, request_ns=5.0 * MS)


class World:
    """One replica on which one attempt at a time runs; tells the predictor of it."""

    def __init__(self, place: Place, options: PredictorOptions | None = None) -> None:
        self.place = place
        self.predictor = Predictor([place.spec], options)
        self.now_ns = 0
        self.count = 0

    def tell(self, moment: Moment, attempt: Try, *, finished: bool = False) -> None:
        seen = Observation(moment, attempt.request, attempt, finished)
        self.predictor.observe(seen, self.place, self.now_ns)

    def live(
        self,
        step_ns: Callable[[int], float],
        *,
        tokens: int = 50,
        said: int = 0,
        prompt: int = 0,
        first_ns: float = 0.0,
        finished: bool = True,
    ) -> None:
        """One attempt, from start to end; a step takes what `step_ns` says at its beginning."""
        self.count += 1
        request = request_of(f"r{self.count}", prompt=prompt, tokens=said or tokens)
        attempt = Try(request, started_ns=self.now_ns)
        self.tell(Moment.STARTED, attempt)
        self.now_ns += round(first_ns + step_ns(self.now_ns))
        self.tell(Moment.TOLD, attempt.told(1, self.now_ns))
        for written in range(2, tokens + 1):
            self.now_ns += round(step_ns(self.now_ns))
            attempt.told(written, self.now_ns)
            if written % 10 == 0 and written < tokens:
                self.tell(Moment.TOLD, attempt)
        self.tell(Moment.OVER, attempt, finished=finished)
        self.now_ns += 10 * MS


def test_it_begins_with_what_it_was_told() -> None:
    predictor = Predictor([Place(_COST).spec])
    assert predictor.cost("m") == _COST
    assert predictor.cost("m", 5) == _COST
    assert predictor.margin("chat") == pytest.approx(1.3)
    assert predictor.learned()[0].healthy
    assert predictor.remaining_tokens(request_of("r", tokens=70), 20) == 50
    assert predictor.remaining_quantile(request_of("r", tokens=70), 20) == 50
    assert predictor.learned()[0].seen_s == 0


def test_observed_times_change_the_cost_the_margin_and_the_length() -> None:
    world = World(Place(_COST))
    for _ in range(20):
        world.live(lambda _: 22.0 * MS, tokens=40, said=90, first_ns=10.0 * MS)
    predictor = world.predictor
    assert predictor.cost("m").of(1, 40, 0) == pytest.approx(22 * MS, rel=0.02)
    assert predictor.cost("m").request_ns == pytest.approx(10 * MS, rel=0.25)
    assert predictor.pace_margin("m") < 1.05
    assert predictor.margin("chat") < 1.05
    assert predictor.remaining_tokens(request_of("r", tokens=90)) == pytest.approx(40)
    (learned,) = predictor.learned()
    assert (learned.model, learned.step_cost) == ("m", predictor.cost("m"))
    assert learned.seen_s == pytest.approx(20 * 39 * 0.022, rel=0.5)
    assert 0 <= learned.step_error < 0.1
    assert learned.healthy


def test_nothing_is_learned_where_that_is_off() -> None:
    options = PredictorOptions(
        calibrate=False, learn_lengths=False, learn_margins=False, margin_start=1.1
    )
    world = World(Place(_COST), options)
    for _ in range(20):
        world.live(lambda _: 22.0 * MS, tokens=40, said=90)
    assert world.predictor.cost("m") == _COST
    assert world.predictor.margin("chat") == pytest.approx(1.1)
    assert world.predictor.remaining_tokens(request_of("r", tokens=90)) == 90


def test_one_margin_holds_lengths_and_the_other_steps_alone() -> None:
    options = PredictorOptions(learn_lengths=False)
    world = World(Place(_COST), options)
    for _ in range(60):
        world.live(lambda _: 11.0 * MS, tokens=100, said=50)
    assert world.predictor.pace_margin("m") < 1.05
    assert world.predictor.margin("chat") == pytest.approx(2.0, rel=0.1)


def test_steps_that_nothing_can_predict_make_it_unhealthy_until_they_calm_down() -> None:
    world = World(Place(_COST))
    for _ in range(20):
        world.live(lambda _: 11.0 * MS)
    assert world.predictor.learned()[0].healthy
    for number in range(60):
        world.live(lambda _, n=number: (4.0 if n % 2 else 200.0) * MS)  # type: ignore[misc]
    assert not world.predictor.learned()[0].healthy
    for _ in range(120):
        world.live(lambda _: 11.0 * MS)
    assert world.predictor.learned()[0].healthy


def test_what_runs_beside_is_learned_as_such() -> None:
    place, other = Place(_COST), Place(_COST, id="n")
    world = World(place)
    world.predictor = Predictor([place.spec, other.spec])
    for number in range(60):
        place.beside = 4 * (number // 3 % 2)
        world.live(lambda _: (11.0 + 2.0 * place.beside) * MS)
    assert world.predictor.cost("m").of(1, 25, 0) == pytest.approx(11 * MS, rel=0.05)
    assert world.predictor.cost("m", 4).of(1, 25, 0) == pytest.approx(19 * MS, rel=0.05)
    assert world.predictor.cost("m", 4) is world.predictor.cost("m", 4)
    assert world.predictor.cost("n") == _COST


def test_prompts_are_learned_from_attempts_alone() -> None:
    world = World(Place(_COST))
    for number in range(80):
        prompt = (200, 1_000, 3_000)[number % 3]
        world.live(lambda _: 11.0 * MS, prompt=prompt, first_ns=(8.0 + 0.25 * prompt) * MS)
    cost = world.predictor.cost("m")
    assert cost.reading_ns(2_000) == pytest.approx(500 * MS, rel=0.1)


def test_answers_that_are_taken_back_teach_no_length() -> None:
    world = World(Place(_COST))
    for _ in range(30):
        world.live(lambda _: 11.0 * MS, tokens=5, said=100, finished=False)
    assert world.predictor.remaining_tokens(request_of("r", tokens=100)) == 100


def test_the_tasks_whose_margins_are_remembered_are_bounded() -> None:
    world = World(Place(_COST))
    for number in range(300):
        world.count += 1
        attempt = Try(request_of(f"x{number}", task=f"t{number}"), started_ns=world.now_ns)
        world.tell(Moment.STARTED, attempt)
        world.now_ns += 11 * MS
        world.tell(Moment.TOLD, attempt.told(1, world.now_ns))
        world.now_ns += 110 * MS
        world.tell(Moment.OVER, attempt.told(11, world.now_ns), finished=True)
        world.now_ns += 10 * MS
    assert len(world.predictor._margins) <= 256


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, _COST, StepCost(1.0)]))
def test_whatever_happens_the_cost_stays_one_that_can_be_planned_with(
    seed: int, prior: StepCost | None
) -> None:
    rng = random.Random(seed)
    place = Place(prior, places=rng.choice([1, 4, 100]))
    world = World(place)
    running: list[Try] = []
    scale = rng.choice([1, 1_000, MS, 1_000 * MS])
    for number in range(300):
        world.now_ns += rng.choice([0, 0, 1, rng.randint(0, 100)]) * scale
        place.beside = rng.choice([0, 0, 7])
        if not running or rng.random() < 0.3:
            request = request_of(f"r{number}", prompt=rng.choice([0, 5, 5_000]))
            running.append(Try(request, started_ns=world.now_ns, replica_id=rng.choice("ab")))
            world.tell(Moment.STARTED, running[-1])
            continue
        attempt = rng.choice(running)
        written = attempt.output_tokens + rng.choice([0, 1, 1, 40])
        if rng.random() < 0.3:
            running.remove(attempt)
            attempt.output_tokens = written
            world.tell(Moment.OVER, attempt, finished=rng.random() < 0.7)
        else:
            world.tell(Moment.TOLD, attempt.told(max(written, 1), world.now_ns))
    cost = world.predictor.cost("m", 3)
    steps = [cost.of(count, 100 * count, 50) for count in range(1, place.places + 1)]
    assert all(isfinite(step) and step > 0 for step in steps)
    assert steps == sorted(steps)
    assert isfinite(cost.reading_ns(1_000))
    assert cost.request_ns >= 0
    assert 1 <= world.predictor.margin("chat") <= 3


def test_what_came_of_the_first_guesses_is_not_held_against_what_was_learned_since() -> None:
    world = World(Place(_COST))
    for _ in range(7):
        world.live(lambda _: 30.0 * MS)
    # The first of them took almost three times as long as expected.
    assert world.predictor.pace_margin("m") <= 1.3
    assert world.predictor.learned()[0].healthy


def test_answers_that_come_at_once_teach_how_long_steps_take() -> None:
    world = World(Place(_COST))
    law = StepCost(step_ns=2.0 * MS)
    for count in range(60):
        world.count += 1
        tokens = 5 + count % 20
        attempt = Try(request_of(f"r{world.count}", tokens=tokens), started_ns=world.now_ns)
        world.tell(Moment.STARTED, attempt)
        world.now_ns += round(tokens * law.of(1, 0, 0))
        world.tell(Moment.OVER, attempt.told(tokens, world.now_ns), finished=True)
        world.now_ns += 10 * MS
    found = world.predictor.cost("m")
    assert 20 * found.of(1, 0, 0) == pytest.approx(20 * law.of(1, 0, 0), rel=0.2)
