"""Step times of an address behind which the engine becomes another one."""

from dataclasses import replace

import pytest

from slalom.core.planning import Moment, Observation
from slalom.core.request import ModelSpec, StepCost
from slalom.policies.prediction.predictor import Predictor
from slalom.policies.trim.pace import Pace
from slalom.units import MS
from tests.policies.views import AT_NS, Ready, Runs, View, asked

_REPORT = 10


class _Streams:
    """Answers side by side on one replica, told of as a relay does."""

    def __init__(self) -> None:
        self.spec = ModelSpec("a", "gpu", 1, 1024)
        self.predictor = Predictor([self.spec])
        self._now_ns = AT_NS
        self._count = 0

    def run(self, width: int, step_ns: int, tokens: int, rounds: int) -> None:
        """So many at a time, each token a step, one batch of answers after the other."""
        for _ in range(rounds):
            runs = [self._begun(tokens) for _ in range(width)]
            self._tell(Moment.STARTED, runs)
            for written in (1, *range(_REPORT, tokens, _REPORT)):
                self._now_ns = runs[0].started_ns + written * step_ns
                runs = [self._wrote(run, written) for run in runs]
                self._tell(Moment.TOLD, runs)
            self._now_ns = runs[0].started_ns + tokens * step_ns
            self._tell(Moment.OVER, [self._wrote(run, tokens) for run in runs])

    def _begun(self, tokens: int) -> Runs:
        self._count += 1
        request = asked(f"r{self._count}", tokens=tokens, prompt=9)
        return Runs(request, started_ns=self._now_ns, heard_ns=self._now_ns)

    def _wrote(self, run: Runs, tokens: int) -> Runs:
        first_ns = run.first_ns if run.first_ns >= 0 else self._now_ns
        return replace(
            run,
            first_ns=first_ns,
            client_first_ns=first_ns,
            output_tokens=tokens,
            heard_ns=self._now_ns,
        )

    def _tell(self, moment: Moment, runs: list[Runs]) -> None:
        view = View(replicas=[Ready(places=1024, attempts=runs)], spec=self.spec)
        for run in runs:
            over = moment is Moment.OVER
            seen = Observation(moment, run.request, run, finished=over)
            self.predictor.observe(seen, view, self._now_ns)


def test_a_much_quicker_engine_at_few_sequences_does_not_bend_the_law_for_many() -> None:
    streams = _Streams()
    streams.run(40, 10 * MS, 100, 6)
    flat = streams.predictor.cost("a")
    assert flat.of(200, 0, 0) < 50 * MS
    streams.run(4, MS // 20, 5_000, 20)
    steps_ns = Pace(streams.predictor.cost("a"), 1024).steps_ns
    assert steps_ns[4] < MS
    # What forty took before says nothing of two hundred now: a law through both would.
    assert steps_ns[200] < 20 * MS
    assert steps_ns[1024] < 50 * MS


def test_many_at_once_never_take_longer_than_one_after_the_other() -> None:
    steps_ns = Pace(StepCost(step_ns=100.0, sequence_sq_ns=50.0), 64).steps_ns
    assert steps_ns[1:3] == [150.0, 300.0]
    assert steps_ns[64] == pytest.approx(64 * 150.0)
    level = StepCost(step_ns=100.0, sequence_ns=10.0)
    assert Pace(level, 64).steps_ns == [level.of(n, 0.0, 0.0) for n in range(66)]


def test_another_engine_at_the_same_width_is_believed_at_once() -> None:
    streams = _Streams()
    streams.run(4, MS // 20, 5_000, 20)
    streams.run(40, 10 * MS, 100, 1)
    streams.run(12, 10 * MS, 100, 4)
    steps_ns = Pace(streams.predictor.cost("a"), 1024).steps_ns
    assert abs(steps_ns[12] - 10 * MS) < 4 * MS
    assert steps_ns[200] < 50 * MS


def test_what_was_learned_for_many_holds_while_a_few_agree_with_it() -> None:
    streams = _Streams()
    streams.run(40, 20 * MS, 100, 6)
    before = streams.predictor.cost("a").of(40, 0, 0)
    streams.run(2, 11 * MS, 100, 20)
    cost = streams.predictor.cost("a")
    assert abs(cost.of(2, 0, 0) - 11 * MS) < MS
    assert abs(cost.of(40, 0, 0) - before) < 0.2 * before
