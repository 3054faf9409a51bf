"""How long a step takes by the number of sequences, looked up instead of computed.

Owns a table made from a `StepCost`. Called in the inner loops of forecasts.
"""

from slalom.core.request import StepCost


class Pace:
    """Step times of one model.

    Args:
        cost: What is known of its engine.
        sequences_max: The most that run on one replica.
        speed: Of the devices that these are the times of.
    """

    __slots__ = ("context_ns", "cost", "kept_share", "speed", "steps_ns")

    def __init__(self, cost: StepCost, sequences_max: int, speed: float = 1.0) -> None:
        self.cost = cost
        self.speed = speed
        self.context_ns = cost.context_ns
        #: Share of what a paused job has read that need not be read again.
        self.kept_share = 0.0
        #: Step of n sequences without their context, ns; none run in no time at all.
        self.steps_ns = steps = [cost.of(n, 0.0, 0.0) for n in range(min(sequences_max, 1) + 1)]
        for n in range(2, sequences_max + 2):
            # An engine that took longer for n at once than for n one after the other would be
            # better off taking turns: a law that says so is bent by what it has not seen.
            steps.append(min(cost.of(n, 0.0, 0.0), steps[-1] * n / (n - 1)))

    def step_ns(self, sequences: int, context_tokens: float) -> float:
        """Time of one step, ns."""
        return self.steps_ns[sequences] + self.context_ns * context_tokens

    def reading_ns(self, prompt_tokens: int, sequences: int, cached_tokens: float) -> float:
        """What reading a prompt takes from everybody, ns; some of it is there."""
        return self.cost.reading_ns(prompt_tokens, sequences, cached_tokens)

    def again_ns(self, tokens: int, sequences: int) -> float:
        """What a job takes from everybody that goes on after a pause, ns."""
        return self.cost.reading_ns(tokens, sequences, tokens * self.kept_share)

    def alone_ns(self, reading_ns: float, prompt: int, tokens: float) -> tuple[float, float]:
        """Until the first token, and until the last, of a request that has the engine alone.

        Args:
            reading_ns: What its prompt takes.
            prompt: Its tokens.
            tokens: Of the answer.
        """
        first_ns = self.cost.request_ns + reading_ns + self.steps_ns[1]
        rest = max(tokens - 1.0, 0.0)
        return first_ns, first_ns + rest * self.step_ns(1, prompt + rest / 2)
