"""The report card of predictions: what was promised, against what came of it.

Owns the promises that are still open and the running scores of one model. Counts whole answers
only: what a client takes back proves nothing. Called by `predictor`; read by whoever shows it.
"""

from collections import OrderedDict
from dataclasses import dataclass

from slalom.core.planning import ActiveView, Expectation
from slalom.core.request import Request

#: Answers after which an old one counts 1/e.
_MEMORY = 200
#: Promises that are remembered; the oldest is forgotten.
_PROMISES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Score:
    """How good the predictions of a model are, of late."""

    model: str
    #: Mean relative error of step times, and of times to the first token; -1 before there was any.
    step_error: float
    first_error: float
    #: Share of service times that the margin on them covered.
    coverage: float
    #: Whether planners should rely on the predictions.
    healthy: bool
    #: Mean of (chance promised - whether it came true) squared; -1 before there was a promise.
    brier: float
    #: Mean of time to the end over promised time, from the promise on; -1 before there was one.
    end_ratio: float
    #: Promises that came to their end.
    promises: int
    #: Times that the engine was found to have become slower or faster at once.
    changes: int


class Promises:
    """What a planner said of the requests of one model."""

    __slots__ = ("_open", "brier", "end_ratio", "kept")

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[Expectation, int]] = OrderedDict()
        self.brier = -1.0
        self.end_ratio = -1.0
        #: Promises that came to their end.
        self.kept = 0

    def make(self, request: Request, expected: Expectation, now_ns: int) -> None:
        """Note what was promised; the first promise for a request is the one that counts."""
        if request.id not in self._open:
            self._open[request.id] = (expected, now_ns)
            if len(self._open) > _PROMISES_MAX:
                self._open.popitem(last=False)

    def end(self, attempt: ActiveView, now_ns: int) -> None:
        """Compare with how a request ended."""
        request = attempt.request
        made = self._open.pop(request.id, None)
        if made is None:
            return
        expected, made_ns = made
        held = request.sla.held(
            arrived_ns=request.arrived_ns,
            first_token_ns=attempt.client_first_ns,
            ended_ns=now_ns,
            output_tokens=attempt.resumed_tokens + attempt.output_tokens,
        )
        ratio = (now_ns - made_ns) / max(expected.end_ns - made_ns, 1)
        off = expected.chance - held
        self.kept += 1
        memory = min(self.kept, _MEMORY)
        if self.kept == 1:
            self.brier, self.end_ratio = off * off, ratio
        self.brier += (off * off - self.brier) / memory
        self.end_ratio += (ratio - self.end_ratio) / memory
