"""Answers that are held back until they were looked at, and which of them are doubted.

Owns the draws and what is known of answers on hold. The looking itself, at probabilities and at
syntax, is the gateway's; here a share of all answers stands for it. Called by `world`.
"""

from dataclasses import replace

from slalom.core.events import AttemptFinished, Verdict
from slalom.core.request import Request
from slalom.twin import noise
from slalom.twin.processes import Fence
from slalom.twin.scenario import DoubtPlan


class Doubts:
    """The answers of one run that are on hold.

    Args:
        plan: The shares.
        seed: Of the draws: a request is doubted or not, whatever else is decided.
    """

    def __init__(self, plan: DoubtPlan, seed: int) -> None:
        self._plan = plan
        self._seed = seed
        self._verdicts: dict[Fence, Verdict] = {}
        #: Ends that are not told yet.
        self.ends: dict[Fence, AttemptFinished] = {}

    def __repr__(self) -> str:
        return f"Doubts(held={len(self._verdicts)}, ended={len(self.ends)})"

    def start(self, fence: Fence, request: Request, model: str) -> None:
        """An attempt begins; it is held back if another model could take over from this one."""
        if not replace(request, model=model).stand_in:
            return
        point = noise.fraction(self._seed, "doubt", request.id.partition("~")[0])
        plan = self._plan
        verdict = Verdict.TRUSTED
        if point < plan.unsure:
            verdict = Verdict.UNSURE
        elif point < plan.unsure + plan.broken:
            verdict = Verdict.BROKEN
        self._verdicts[fence] = verdict

    def holds(self, fence: Fence) -> bool:
        """Whether its client has got nothing of it yet."""
        return fence in self._verdicts

    def begun(self, fence: Fence) -> Verdict | None:
        """Its first tokens are there: what is thought of them, if they settle it."""
        verdict = self._verdicts.get(fence)
        if verdict is Verdict.UNSURE or (verdict is Verdict.TRUSTED and not self._plan.whole):
            return self._said(fence, verdict)
        return None

    def ended(self, fence: Fence, end: AttemptFinished) -> Verdict | None:
        """All of it is there: what is thought of it; its end is told now unless it is doubted."""
        verdict = self._verdicts.get(fence)
        if verdict is None or verdict is Verdict.UNSURE:
            return None
        if verdict is Verdict.BROKEN:
            self.ends[fence] = end
        return self._said(fence, verdict)

    def keep(self, fence: Fence) -> AttemptFinished | None:
        """Its client gets it after all; its end, if that has come."""
        self._verdicts.pop(fence, None)
        return self.ends.pop(fence, None)

    def forget(self, fence: Fence) -> None:
        """The attempt is over."""
        self._verdicts.pop(fence, None)
        self.ends.pop(fence, None)

    def _said(self, fence: Fence, verdict: Verdict) -> Verdict:
        if verdict is Verdict.TRUSTED:
            del self._verdicts[fence]
        return verdict
