"""Which attempts teach where very many start: some, chosen by the time alone."""

from collections.abc import Sequence

import pytest

from slalom.core.planning import Moment, Observation
from slalom.core.request import Request, StepCost
from slalom.policies.prediction.lengths import Lengths
from slalom.policies.prediction.predictor import Predictor
from slalom.units import MS, SECOND
from tests.policies.prediction.attempts import Place, Try, request_of

_COST = StepCost(10.0 * MS, sequence_ns=1.0 * MS, prompt_ns=0.1 * MS)


class _Rush:
    """One attempt after the other on one replica, each as long as its turn says."""

    def __init__(self) -> None:
        self.place = Place(_COST)
        self.predictor = Predictor([self.place.spec])
        self.now_ns = 0
        self.count = 0

    def _tell(self, moment: Moment, attempt: Try) -> None:
        seen = Observation(moment, attempt.request, attempt, moment is Moment.OVER)
        self.predictor.observe(seen, self.place, self.now_ns)

    def live(self, lengths: Sequence[int], every_ns: int, said: int = 100) -> None:
        """Attempts of these lengths, so far from each other."""
        for tokens in lengths:
            self.count += 1
            attempt = Try(request_of(f"r{self.count}", tokens=said), started_ns=self.now_ns)
            self._tell(Moment.STARTED, attempt)
            self.now_ns += every_ns // 4
            self._tell(Moment.TOLD, attempt.told(1, self.now_ns))
            self.now_ns += every_ns // 4
            attempt.told(tokens, self.now_ns)
            self._tell(Moment.OVER, attempt)
            self.now_ns += every_ns // 2


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the whole answers that were learned from."""
    found: list[int] = []
    whole = Lengths.add

    def add(self: Lengths, request: Request, tokens: int) -> None:
        found.append(tokens)
        whole(self, request, tokens)

    monkeypatch.setattr(Lengths, "add", add)
    return found


def test_every_attempt_teaches_where_few_start_and_where_many_do_at_once(taught: list[int]) -> None:
    rush = _Rush()
    rush.live([50] * 60, every_ns=1 * MS)
    rush.live([50] * 60, every_ns=100 * MS)
    assert len(taught) == 120


def test_of_attempts_that_start_quickly_all_the_time_some_teach(taught: list[int]) -> None:
    rush = _Rush()
    rush.live([50] * 100, every_ns=1 * MS)  # as many as may at once, and more
    seen = rush.predictor.learned()[0].seen_s
    taught.clear()
    rush.live([40, 60] * 500, every_ns=5 * MS)  # 200 a second for 5 s
    assert 60 <= len(taught) <= 100
    assert 0.3 < sum(one == 40 for one in taught) / len(taught) < 0.7
    assert rush.predictor.learned()[0].seen_s > seen
    # An hour's silence is as good as a new beginning, and no better.
    taught.clear()
    rush.now_ns += 3_600 * SECOND
    rush.live([50] * 100, every_ns=1 * MS)
    assert 64 <= len(taught) <= 70


def test_who_does_not_teach_leaves_nothing_behind_and_counts_as_running() -> None:
    rush = _Rush()
    rush.live([50] * 500, every_ns=1 * MS)
    found = rush.predictor
    assert not found._left_out
    assert found.remaining_tokens(request_of("next", tokens=100)) == pytest.approx(50, rel=0.1)
    request = request_of("beside", tokens=100)
    beside = Try(request, started_ns=rush.now_ns)
    found.observe(Observation(Moment.STARTED, request, beside), rush.place, rush.now_ns)
    (path,) = found._models["m"].steps._paths.values()
    assert len(path) == 1
    assert found._left_out == {("beside", 1)}
