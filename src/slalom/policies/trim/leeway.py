"""What may still start on a replica without a forecast: nobody there comes near its limits by it.

Owns the bounds of that, found once for many newcomers: if all that runs would surely be on time
beside half as many more, with so much more to read and as much more context, then none of it has
to be looked at while newcomers stay within that. A plan would let them in, too: only its cost is
saved. Found by `draft` at the end of a plan, asked by `planner` and `track`.
"""

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING

from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.trust import SURE_LOGIT
from slalom.units import MS

if TYPE_CHECKING:
    from slalom.policies.trim.fitting import Site

#: Newcomers beside which all must be on time: so many, or this share of what runs; and if that
#: is too much, so few: they take the places of those that end.
_MORE, _MORE_SHARE, _FEW = 8, 0.5, 4
#: What reading their prompts may take from those that run, in all: as much as so many of the
#: longest that came just now, at least the second and at most the third, ns.
_READINGS, _READING_MIN_NS, _READING_MAX_NS = 16, 2.0 * MS, 50.0 * MS
#: Tokens that they may hold: so many, and this share of what all that runs will.
_CONTEXT, _CONTEXT_SHARE = 8_192.0, 0.5
#: It is found anew after this, ns: what lasts longer than it was thought to is seen only then.
_LASTS_NS = 250 * MS


class Leeway:
    """Bounds within which newcomers harm nobody on one replica.

    Args:
        pace: Step times.
        count: The most that may run.
        held: Tokens that all that runs holds at its end.
        reading_ns: What newcomers' prompts may take in all, ns.
        factor: By how much newcomers make everything take longer.
        now_ns: Now.
    """

    __slots__ = ("_context", "_count", "_factor", "_reading_ns", "_step_ns", "_until_ns", "pace")

    def __init__(
        self, pace: Pace, count: int, held: float, reading_ns: float, factor: float, now_ns: int
    ) -> None:
        self.pace = pace
        self._count = count
        self._factor = factor
        self._until_ns = now_ns + _LASTS_NS
        #: What newcomers may still take and hold: time for their prompts, ns, and tokens.
        self._reading_ns = reading_ns
        self._context = _CONTEXT + _CONTEXT_SHARE * held
        self._step_ns = pace.step_ns(count, held + self._context)

    def __repr__(self) -> str:
        return f"Leeway(count={self._count}, reading_ns={self._reading_ns:.0f})"

    def lasts(self, pace: Pace, now_ns: int) -> bool:
        """Whether it holds yet: it is neither too old nor of other step times."""
        return pace is self.pace and now_ns <= self._until_ns

    def keeps(self, job: Job, left: float, read_ns: float, now_ns: int) -> bool:
        """Whether a job is sure to be on time whatever comes within the bounds.

        Args:
            job: One that runs, or is to.
            left: Tokens that it has still to write.
            read_ns: When all prompts are read that the engine has.
            now_ns: Now.
        """
        if job.is_late:
            return True
        worst = self._factor * exp(SURE_LOGIT / job.odds)
        ahead_ns = read_ns + self._reading_ns - now_ns
        due_ns = min(job.end_due_ns, job.first_ns + job.tpot_ns)
        if due_ns != NEVER and (ahead_ns + left * self._step_ns) * worst > due_ns - now_ns:
            return False
        if job.first_due_ns == NEVER or job.client_first_ns >= 0:
            return True
        first_ns = ahead_ns + self.pace.cost.request_ns + self._step_ns
        return first_ns * worst <= job.first_due_ns - now_ns

    def takes(self, jobs: Sequence[Job], running: int, read_ns: float, now_ns: int) -> bool:
        """Whether newcomers stay within the bounds; their times are then foretold.

        Args:
            jobs: Newcomers, in the order in which they are read.
            running: Jobs that run.
            read_ns: When all prompts are read that the engine has.
            now_ns: Now.
        """
        count, pace = running + len(jobs), self.pace
        reading_ns = sum([job.reading_ns for job in jobs])
        held = sum([job.freed for job in jobs])
        if count > self._count or reading_ns > self._reading_ns or held > self._context:
            return False
        step_ns = pace.steps_ns[count]
        for job in jobs:
            read_ns += job.reading_ns
            if job.client_first_ns < 0:
                job.first_ns = read_ns + pace.cost.request_ns + step_ns
            job.end_ns = read_ns + job.left * step_ns
            if not self.keeps(job, job.left, read_ns, now_ns):
                return False
            job.judge(float(now_ns), self._factor)
        self._reading_ns -= reading_ns
        self._context -= held
        return True


def find_leeway(site: "Site", now_ns: int) -> Leeway | None:
    """Bounds within which newcomers harm nobody of those that run or start; None for none at all.

    Args:
        site: Where nobody waits.
        now_ns: Now.
    """
    count = len(site.running)
    more = max(_MORE, int(_MORE_SHARE * count))
    return _beside(site, count + more, now_ns) or _beside(site, count + _FEW, now_ns)


def _beside(site: "Site", count: int, now_ns: int) -> Leeway | None:
    """The same for so many that run."""
    jobs, track = site.running, site.track
    count = min(count, site.places)
    if count <= len(jobs):
        return None
    readings = [job.reading_ns for job in jobs if job.attempt is None]
    budget_ns = max(_READINGS * max(readings, default=0.0), _READING_MIN_NS)
    budget_ns = min(budget_ns, _READING_MAX_NS)
    factor = track.reading.factor(now_ns, budget_ns)
    leeway = Leeway(site.pace, count, sum([job.freed for job in jobs]), budget_ns, factor, now_ns)
    read_ns = max(float(now_ns), track.read_until_ns) + sum(readings)
    clock = track.clock
    for job in jobs:
        left = job.left if job.attempt is None else max(job.end_clock - clock, 1.0)
        if not leeway.keeps(job, left, read_ns, now_ns):
            return None
    return leeway
