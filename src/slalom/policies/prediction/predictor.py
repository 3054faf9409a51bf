"""The one object a planner asks: how long a step takes, how much an answer has still to write.

Joins the models of step times and lengths and the margins around them. Learns from observations
only, the same ones that its planner is told. Owns no decision. Called by planners.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from slalom.core.planning import Learned, Moment, Observation, PlanView
from slalom.core.request import ModelSpec, Request, StepCost
from slalom.policies.prediction.cost_terms import DEFAULT_COST
from slalom.policies.prediction.heads import Heads
from slalom.policies.prediction.lengths import Lengths
from slalom.policies.prediction.margins import MARGIN_START, Margin
from slalom.policies.prediction.replica_path import SPAN_NS, Lived
from slalom.policies.prediction.step_cost import StepTimes
from slalom.units import SECOND

#: Step times that need a larger margin than the first are not worth keeping; those that need less
#: than the second are.
_MARGIN_LOST, _MARGIN_REGAINED = 2.5, 2.0
#: Weight of spans before the error says something.
_JUDGED_FROM = 5.0
#: Attempts of one model that teach anything: so many a second, and so many more at once. Of those
#: that come quicker every so-manieth is as good as all, at a fraction of the cost.
_TEACH_PER_S, _TEACH_AT_ONCE = 16.0, 64.0
#: Tasks whose margins are remembered.
_TASKS_MAX = 256


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """What a predictor may learn; without any of it it says what it was told at the start."""

    #: Whether step times are learned from traffic.
    calibrate: bool = True
    #: Whether output lengths are learned from traffic.
    learn_lengths: bool = True
    #: Whether margins are learned from traffic; else they stay as they start.
    learn_margins: bool = True
    #: Margins before enough was observed.
    margin_start: float = MARGIN_START


def alone_on_devices(models: Sequence[ModelSpec]) -> set[str]:
    """Models that share none of their devices with another one."""
    users: Counter[str] = Counter(name for model in models for name in model.homes)
    return {model.id for model in models if all(users[name] == 1 for name in model.homes)}


class _Model:
    """What is kept for each model."""

    __slots__ = (
        "_chosen_ns",
        "_others",
        "_spec",
        "_to_choose",
        "besides",
        "healthy",
        "learns",
        "pace",
        "steps",
    )

    def __init__(self, spec: ModelSpec, options: PredictorOptions) -> None:
        self._spec = spec
        self.learns = options.calibrate
        self.steps = StepTimes(spec, learns=self.learns)
        #: The same on devices of other speeds: each learns by itself from what it is told to be.
        self._others: dict[float, StepTimes] = {}
        self.pace = Margin(options.margin_start)
        self.healthy = True
        #: The cost with so many attempts beside, for the cost that it was made from.
        self.besides: tuple[StepCost, dict[int, StepCost]] = (self.steps.cost, {})
        #: Attempts that may be chosen to teach by now, as of when one started last.
        self._to_choose = _TEACH_AT_ONCE
        self._chosen_ns = 0

    def chooses(self, now_ns: int) -> bool:
        """Whether an attempt that starts now is to teach; chosen by the time alone."""
        more = (now_ns - self._chosen_ns) * (_TEACH_PER_S / SECOND)
        self._chosen_ns = now_ns
        self._to_choose = min(self._to_choose + more, _TEACH_AT_ONCE)
        if self._to_choose < 1.0:
            return False
        self._to_choose -= 1.0
        return True

    def at(self, speed: float) -> StepTimes:
        """On devices so many times as fast."""
        if speed == 1.0:
            return self.steps
        found = self._others.get(speed)
        if found is None:
            cost = (self._spec.step_cost or DEFAULT_COST).scaled(1.0 / speed)
            spec = replace(self._spec, step_cost=cost)
            found = StepTimes(spec, learns=self.learns, heads=self.steps.heads)
            self._others[speed] = found
        return found


class Predictor:
    """What is expected of the models of one scheduler.

    Args:
        models: Every model.
        options: What may be learned.
    """

    def __init__(
        self, models: Sequence[ModelSpec], options: PredictorOptions | None = None
    ) -> None:
        self.options = options or PredictorOptions()
        self._models = {model.id: _Model(model, self.options) for model in models}
        self._lengths = Lengths(learns=self.options.learn_lengths)
        self._margins: dict[str, Margin] = {}
        #: Attempts that run and are not to teach.
        self._left_out: set[tuple[str, int]] = set()
        #: Models that have their device to themselves: nothing ever runs beside.
        self._alone = alone_on_devices(models)

    def __repr__(self) -> str:
        return f"Predictor(models={len(self._models)}, {self._lengths!r})"

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on; of `fresh` ones nothing is known."""
        before = self._models
        self._models = {
            model.id: before[model.id]
            if model.id in before and model.id not in fresh
            else _Model(model, self.options)
            for model in models
        }
        self._alone = alone_on_devices(models)

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn from what happened; some microseconds."""
        attempt = seen.attempt
        if attempt is None:
            return
        model_id = model.spec.id
        own = self._models[model_id]
        if len(model.spec.homes) > 1:
            beside = attempt.beside
        else:
            beside = 0 if model_id in self._alone else model.beside
        moment, steps = seen.moment, own.at(attempt.speed)
        fence = (seen.request.id, attempt.number)
        written_tokens = attempt.resumed_tokens + attempt.output_tokens
        if moment is Moment.STARTED:
            tokens = self._lengths.remaining(seen.request, attempt.resumed_tokens)
            # What goes on was chosen before, or has been seen by its length already.
            teaches = own.chooses(now_ns) or attempt.resumed_tokens > 0
            if not teaches:
                self._left_out.add(fence)
            lived = steps.start(attempt, beside, now_ns, expected_tokens=tokens, teaches=teaches)
        elif moment is Moment.TOLD:
            lived = steps.told(attempt, beside, now_ns)
            if fence not in self._left_out:
                self._lengths.grown(seen.request, written_tokens)
        else:
            lived = steps.over(attempt, beside, now_ns, finished=seen.finished)
            if fence in self._left_out:
                self._left_out.remove(fence)
            elif seen.finished:
                self._lengths.add(seen.request, written_tokens)
            else:
                self._lengths.grown(seen.request, written_tokens)
        for one in lived:
            self._end(own, one)

    # -- what is expected -----------------------------------------------------------------

    def heads(self, model_id: str) -> Heads:
        """What the replicas of a model have read before."""
        return self._models[model_id].steps.heads

    def cost(self, model_id: str, beside: int = 0, speed: float = 1.0) -> StepCost:
        """What a step of a replica of this model takes.

        Args:
            model_id: The model.
            beside: Attempts that run on its device on other replicas.
            speed: Of its device; where that is not 1, what runs beside is not looked at.
        """
        own = self._models[model_id]
        if speed != 1.0:
            return own.at(speed).cost
        cost = own.steps.cost
        if not beside or not own.steps.beside_ns:
            return cost
        made_from, costs = own.besides
        if made_from is not cost:
            costs = {}
            own.besides = (cost, costs)
        if beside not in costs:
            costs[beside] = replace(cost, step_ns=cost.step_ns + beside * own.steps.beside_ns)
        return costs[beside]

    @property
    def lengths_version(self) -> int:
        """Another one once lengths that were asked for before are no more what is expected."""
        return self._lengths.version

    def remaining_tokens(self, request: Request, produced_tokens: int = 0) -> float:
        """Tokens a request has still to write on average; from 1 to what it allows.

        Args:
            request: The request.
            produced_tokens: Tokens its client has got, by all its attempts.
        """
        return self._lengths.remaining(request, produced_tokens)

    def remaining_quantile(
        self, request: Request, produced_tokens: int = 0, share: float = 0.9
    ) -> float:
        """Tokens a request has still to write at most, with a probability of `share`."""
        return self._lengths.quantile(request, produced_tokens, share)

    def margin(self, task: str) -> float:
        """Factor on a predicted service time that covers most observed ones, by task.

        It covers what step times and lengths leave open.
        """
        found = self._margins.get(task)
        return found.factor if found else self.options.margin_start

    def pace_margin(self, model_id: str) -> float:
        """The same for what step times alone leave open, by model: the length is as it was."""
        return self._models[model_id].pace.factor

    def learned(self) -> tuple[Learned, ...]:
        """What traffic has taught, by model."""
        return tuple(
            Learned(
                model=model_id,
                step_cost=own.steps.cost,
                seen_s=own.steps.seen * SPAN_NS / SECOND,
                step_error=own.steps.error,
                first_error=own.steps.first_error,
                coverage=own.pace.covered_share,
                healthy=own.healthy,
                changes=own.steps.changes,
            )
            for model_id, own in self._models.items()
        )

    # -- inside ---------------------------------------------------------------------------

    def _end(self, own: _Model, lived: Lived) -> None:
        """Take in a whole life of an attempt."""
        if self.options.learn_margins:
            if lived.ratio:
                self._margin(lived.run.request.task).add(lived.ratio)
            if lived.pace_ratio:
                own.pace.add(lived.pace_ratio)
        steps = own.steps
        if steps.seen < _JUDGED_FROM:
            return
        if not own.pace.healthy or own.pace.factor > _MARGIN_LOST:
            own.healthy = False
        elif own.pace.factor < _MARGIN_REGAINED:
            own.healthy = True

    def _margin(self, task: str) -> Margin:
        found = self._margins.get(task)
        if found is None:
            if len(self._margins) >= _TASKS_MAX:
                del self._margins[next(iter(self._margins))]
            found = self._margins[task] = Margin(self.options.margin_start)
        return found
