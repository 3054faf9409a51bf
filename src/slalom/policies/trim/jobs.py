"""Requests as a plan sees them: what is left to write, and when it must be there.

Owns `Job` and the arithmetic of deadlines. A job is made from a waiting request or an attempt;
forecasts write into it when it would begin and end. Called by `planner` and `track`.
"""

from collections.abc import Mapping
from math import exp
from types import MappingProxyType

from slalom.core.planning import ActiveView, WaitingView
from slalom.core.request import Request
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.trust import SURE_LOGIT, chance

NEVER = float("inf")
_NOWHERE: Mapping[str, float] = MappingProxyType({})
#: An objective for each token allows an answer that ends early less time in all, and what it waits
#: for others' prompts is the same: so much of what is thought to come is counted for it.
_EARLY_SHARE = 0.8
#: How much shorter prompts overtake: by so many times what they are shorter.
_SHORT_FIRST = 3.0


class Job:
    """One request in a plan; times in ns, floats because plans are estimates."""

    __slots__ = (
        "admitted",
        "attempt",
        "cached",
        "cached_by",
        "chance",
        "client_first_ns",
        "context",
        "cost_ns",
        "demoted",
        "due_ns",
        "end_clock",
        "end_due_ns",
        "end_ns",
        "first_due_ns",
        "first_ns",
        "freed",
        "goes_on",
        "held",
        "is_late",
        "latest_ns",
        "left",
        "measured",
        "near",
        "odds",
        "pauses",
        "produced",
        "prompt",
        "reading_ns",
        "request",
        "rest_ns",
        "rest_work_ns",
        "step_ns",
        "tpot_ns",
        "turn",
        "weight",
    )

    def __init__(
        self,
        request: Request,
        produced: int,
        left: float,
        client_first_ns: int,
        *,
        step_ns: float = 0.0,
        rest_ns: float = -1.0,
    ) -> None:
        self.request = request
        #: How sharp its chances are.
        self.odds = 1.0
        #: The attempt that runs; None for one that waits.
        self.attempt: ActiveView | None = None
        self.demoted = False
        #: Whether more requests are likely to follow its answer.
        self.goes_on = False
        #: Whether an earlier call of its chain was let in, and the replica that answered it.
        self.admitted = False
        self.near = ""
        #: What follows it in a chain with a deadline, and the devices' time of that; negative for a
        #: request with objectives of its own.
        self.rest_ns = rest_ns
        self.rest_work_ns = 0.0
        self.pauses = 0
        self.weight = 1.0
        #: Tokens to read before it writes; 0 once they are read.
        self.prompt = request.prompt_tokens + produced
        #: What that takes from everybody; and when it must begin at the latest.
        self.reading_ns = 0.0
        #: Tokens of it that each replica should have, where any does.
        self.cached: Mapping[str, float] = _NOWHERE
        #: What that was found by, and what it was measured by; None before.
        self.cached_by: object = None
        self.measured: tuple[Pace, float] | None = None
        self.latest_ns = NEVER
        #: A step of it alone, as last measured.
        self.step_ns = step_ns
        #: By this the line is sorted in which prompts are read; what runs stands in front.
        self.turn = NEVER
        #: Tokens of its prompt, held as long as it runs, beside those that it has written.
        self.context = float(request.prompt_tokens)
        self.client_first_ns = client_first_ns
        #: Reading of its replica's clock at its end; only while it runs.
        self.end_clock = 0.0
        #: Time of the device it still takes, at the present load.
        self.cost_ns = 0.0
        #: What the last forecast said; a first token that has come stays.
        self.first_ns = float(client_first_ns) if client_first_ns >= 0 else NEVER
        self.end_ns = NEVER
        #: Probability that it is on time, as the last forecast saw it.
        self.chance = 0.0
        self.set_left(produced, left)

    @classmethod
    def waiting(
        cls, view: WaitingView, left: float, *, step_ns: float = 0.0, rest_ns: float = -1.0
    ) -> "Job":
        """A request in the queue.

        Args:
            view: Which.
            left: Tokens that it has still to write.
            step_ns: A step of it alone.
            rest_ns: What follows it in a chain with a deadline; negative for none.
        """
        produced, first_ns = view.produced_tokens, view.first_token_ns
        job = cls(view.request, produced, left, first_ns, step_ns=step_ns, rest_ns=rest_ns)
        job.demoted = view.demoted
        job.pauses = view.pauses
        job.admitted, job.near = view.admitted, view.near
        return job

    @classmethod
    def running(
        cls, attempt: ActiveView, left: float, *, step_ns: float = 0.0, rest_ns: float = -1.0
    ) -> "Job":
        """A request that has just been started; as `waiting`."""
        produced, first_ns = attempt.resumed_tokens, attempt.client_first_ns
        job = cls(attempt.request, produced, left, first_ns, step_ns=step_ns, rest_ns=rest_ns)
        job.attempt = attempt
        job.turn = -NEVER
        job.pauses = attempt.pauses
        return job

    def begin(self, attempt: ActiveView, left: float) -> bool:
        """A request that waited has been started as it was planned; whether it is as `running` is.

        Args:
            attempt: Which runs.
            left: Tokens that it has still to write.
        """
        is_same = self.left == left and self.produced == attempt.resumed_tokens
        if not is_same or self.is_late or self.demoted or self.rest_ns >= 0.0:
            return False
        self.attempt = attempt
        self.turn = -NEVER
        self.pauses = attempt.pauses
        self.goes_on = self.admitted = False
        self.near = ""
        return True

    def measure(self, pace: Pace, replica_id: str = "") -> None:
        """Find out what its prompt takes, and when it must begin at the latest.

        Args:
            pace: Step times.
            replica_id: Where; without one, where most of its prompt should be.
        """
        cached = self.cached
        if not cached:
            there = 0.0
        elif replica_id:
            there = cached.get(replica_id, 0.0)
        else:
            there = max(cached.values())
        measured = self.measured
        if measured is not None and measured[0] is pace and measured[1] == there:
            return
        self.measured = (pace, there)
        if self.step_ns != pace.steps_ns[1]:
            self.step_ns = pace.steps_ns[1]
            if self.tpot_ns != NEVER or not (self.request.streamed or self.is_late):
                self._promise()
        self.reading_ns = pace.reading_ns(self.prompt, 1, there)
        first_ns, end_ns = pace.alone_ns(self.reading_ns, self.prompt, self.left)
        self.latest_ns = min(self.first_due_ns - first_ns, self.end_due_ns - end_ns)
        if self.client_first_ns < 0 and end_ns - first_ns > self.tpot_ns:
            self.latest_ns = -1.0
        if self.attempt is None and not self.is_late:
            self.turn = self.latest_ns + _SHORT_FIRST * self.reading_ns

    def settle(self, pace: Pace, replica_id: str) -> None:
        """Measure it as it would be on a replica, if that matters."""
        if self.cached or (self.measured is not None and self.measured[0].speed != pace.speed):
            self.measure(pace, replica_id)

    def set_rest(self, rest_ns: float) -> None:
        """The calls that follow it in its chain are thought to take so long."""
        if rest_ns != self.rest_ns or self.is_late:
            self.rest_ns = rest_ns
            self.set_left(self.produced, self.left)

    def set_left(self, produced: float, left: float) -> None:
        """So many tokens are written, so many are still to come."""
        self.produced = produced
        self.left = left
        #: Tokens it holds where it begins, or goes on; and at its end.
        self.held = self.context + produced
        self.freed = self.held + left
        self.is_late = False
        self.measured = None
        self._promise()

    def _promise(self) -> None:
        """When are its tokens due?"""
        sla, arrived_ns = self.request.sla, self.request.arrived_ns
        self.first_due_ns = NEVER
        if self.rest_ns >= 0.0 and self.request.link is not None:
            self.end_due_ns = self.due_ns = self.request.link.deadline_ns - self.rest_ns
            self.tpot_ns = NEVER
            return
        self.end_due_ns = NEVER if sla.e2e_ns is None else float(arrived_ns + sla.e2e_ns)
        #: Span from the first token to the last that an objective for each token allows.
        self.tpot_ns = NEVER
        if sla.tpot_ns is not None:
            self.tpot_ns = sla.tpot_ns * max(self.produced + self.left - 1.0, 1.0)
            may_wait_ns = max(sla.tpot_ns - self.step_ns, 0.0)
            self.tpot_ns -= (1.0 - _EARLY_SHARE) * self.left * may_wait_ns
        starts_ns = sla.tpot_ns if sla.ttft_ns is None else sla.ttft_ns
        if not self.request.streamed and starts_ns is not None:
            # Nobody sees its first token: what it may take is due as a whole.
            span_ns = 0.0 if self.tpot_ns == NEVER else self.tpot_ns
            self.end_due_ns = min(self.end_due_ns, arrived_ns + starts_ns + span_ns)
            self.due_ns, self.tpot_ns = self.end_due_ns, NEVER
            return
        if self.client_first_ns < 0:
            if sla.ttft_ns is not None:
                self.first_due_ns = float(arrived_ns + sla.ttft_ns)
            #: When its answer must be complete; of one that has not begun, at the earliest.
            self.due_ns = min(self.end_due_ns, self.first_due_ns + self.tpot_ns)
            return
        if sla.ttft_ns is not None and self.client_first_ns > arrived_ns + sla.ttft_ns:
            self.excuse()
        elif self.client_first_ns + self.tpot_ns < self.end_due_ns:
            self.end_due_ns = self.client_first_ns + self.tpot_ns
        self.due_ns = self.end_due_ns

    def excuse(self) -> None:
        """It cannot be on time any more: nothing is due."""
        self.is_late = True
        self.measured = None
        self.first_due_ns = self.end_due_ns = self.tpot_ns = self.due_ns = NEVER
        if self.attempt is None:
            self.turn = NEVER

    def judge(self, now_ns: float, factor: float, later_ns: float = 0.0) -> float:
        """Its chance of being on time, if its times are as last forecast.

        Args:
            now_ns: Now.
            factor: Everything takes so many times as long as forecast.
            later_ns: It begins so much later.
        """
        if self.is_late:
            self.chance = 0.0
            return 0.0
        from_ns = now_ns + later_ns
        due_ns = min(self.end_due_ns, self.first_ns + self.tpot_ns)
        found = 1.0
        if due_ns != NEVER:
            found = chance(due_ns - from_ns, (self.end_ns - now_ns) * factor, self.odds)
        due_ns = self.first_due_ns
        if due_ns != NEVER and self.client_first_ns < 0:
            first = chance(due_ns - from_ns, (self.first_ns - now_ns) * factor, self.odds)
            found = min(found, first)
        self.chance = found
        return found

    def is_sure(self, now_ns: float, factor: float) -> bool:
        """Whether it is next to certain to be on time, if its times are as last forecast; or late.

        Args:
            now_ns: Now.
            factor: Everything takes so many times as long as forecast.
        """
        if self.is_late:
            return True
        worst = factor * exp(SURE_LOGIT / self.odds)
        due_ns = min(self.end_due_ns, self.first_ns + self.tpot_ns)
        if due_ns != NEVER and (self.end_ns - now_ns) * worst > due_ns - now_ns:
            return False
        if self.first_due_ns == NEVER or self.client_first_ns >= 0:
            return True
        there_ns = self.first_due_ns - now_ns
        return there_ns > 0.0 and (self.first_ns - now_ns) * worst <= there_ns

    def __repr__(self) -> str:
        return f"Job({self.request.id}, left={self.left:.0f}, late={self.is_late})"
