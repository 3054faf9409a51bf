"""What the calls after this one are going to take, where calls form a chain with one deadline.

Owns the prediction of the rest of a chain from the same step times and lengths as all else. The
deadline less the rest is when a call must have its answer. Called by `planner`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slalom.core.chain import Later, rough_rest_ns
from slalom.core.request import ModelSpec, Request, Sla
from slalom.policies.prediction.predictor import Predictor
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.pace import Pace

#: Calls that are remembered as requests, so that their lengths can be asked for.
_KNOWN_MAX = 1_024
#: An answer without a limit is thought to be no longer than so many times its expected length.
_LONGEST = 8


@dataclass(frozen=True, slots=True)
class Rest:
    """What follows, ns."""

    #: Beside as many others as run now, and with the engines to itself.
    loaded_ns: float = 0.0
    alone_ns: float = 0.0
    #: Time of devices that it takes.
    work_ns: float = 0.0


_NOTHING = Rest()


class Rests:
    """Predicts the rest of chains.

    Args:
        models: Every model.
        predictor: What is known of their engines and answers.
        pace_of: Step times of a model.
    """

    __slots__ = ("_busy", "_known", "_pace_of", "_predictor", "_specs")

    def __init__(
        self,
        models: Sequence[ModelSpec],
        predictor: Predictor,
        pace_of: Callable[[ModelSpec], Pace],
    ) -> None:
        self._specs = {spec.id: spec for spec in models}
        self._predictor = predictor
        self._pace_of = pace_of
        #: model -> attempts on one of its replicas, in the last plan.
        self._busy: dict[str, int] = {}
        self._known: dict[Later, Request] = {}

    def __repr__(self) -> str:
        return f"Rests(known={len(self._known)})"

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        """These are all models from now on."""
        self._specs = {spec.id: spec for spec in models}
        self._busy = {name: count for name, count in self._busy.items() if name in self._specs}

    def busy(self, model: str, running: int, replicas: int) -> None:
        """So many attempts run on so many replicas of a model."""
        self._busy[model] = -(-running // replicas)

    def of(self, later: Sequence[Later]) -> Rest:
        """What these calls take, one after the other."""
        if not later:
            return _NOTHING
        loaded_ns = alone_ns = work_ns = 0.0
        for one in later:
            spec = self._specs.get(one.model)
            if spec is None:
                rough_ns = rough_rest_ns((one,))
                loaded_ns, alone_ns = loaded_ns + rough_ns, alone_ns + rough_ns
                continue
            pace, request = self._pace_of(spec), self._request(one)
            count = min(self._busy.get(one.model, 0) + 1, spec.places)
            tokens = self._predictor.remaining_tokens(request)
            reading_ns = pace.reading_ns(one.prompt_tokens, 1, 0.0)
            _, end_ns = pace.alone_ns(reading_ns, one.prompt_tokens, tokens)
            slower = pace.steps_ns[count] / pace.steps_ns[1] if pace.steps_ns[1] else 1.0
            alone_ns += one.gap_ns + end_ns
            loaded_ns += one.gap_ns + reading_ns + (end_ns - reading_ns) * slower
            work_ns += reading_ns + tokens * pace.steps_ns[count] / count
        return Rest(loaded_ns, alone_ns, work_ns)

    def apply(self, job: Job, is_late: Callable[[Job], bool]) -> None:
        """Set when a call of a chain with a deadline must have its answer.

        Args:
            job: The call.
            is_late: Whether it could not be on time any more. The rest is then thought to have the
                engines to itself: a chain is not lost as long as it might be on time.
        """
        link = job.request.link
        if link is None or job.rest_ns < 0.0:
            return
        rest = self.of(link.rest)
        job.rest_work_ns = rest.work_ns
        job.set_rest(rest.loaded_ns)
        if is_late(job):
            job.set_rest(min(rest.alone_ns, rest.loaded_ns))

    def _request(self, later: Later) -> Request:
        """A call as the predictor knows requests."""
        found = self._known.get(later)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            tokens = max(later.predicted_tokens, 1)
            found = self._known[later] = Request(
                id="",
                model=later.model,
                task=later.task,
                sla=Sla(),
                arrived_ns=0,
                prompt_tokens=later.prompt_tokens,
                max_tokens=later.max_tokens or _LONGEST * tokens,
                predicted_tokens=tokens,
            )
        return found
