"""Who runs on a replica, who waits for a place there, and who gives way to whom.

Owns one replica's part of a plan while it is made. A job is let in if nobody who was let in
before becomes late by it: at once, or while a few loose ones wait, or in the place of costlier
ones. Called by `planner`.

The trimming is Moore and Hodgson's rule (1968: the costliest of those up to the first that is late)
on a shared server; that a newcomer may displace a costlier job is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.policies.trim.forecast import Line, all_at_once, one_by_one
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track


@dataclass(frozen=True, slots=True)
class Rules:
    """What fitting may do."""

    #: Jobs that may wait, or be paused, for the sake of one that is tighter; 0 for none.
    defer_max: int
    #: Costlier jobs that may give way to one newcomer; 0 for none.
    displace_max: int
    #: How many times as costly they must be at least.
    displace_factor: float
    #: Pauses of one job at most.
    pauses_max: int


class Site:
    """One replica in a plan.

    Args:
        replica_id: Its name.
        track: Its clock.
        pace: Its step times.
        places: The most that may run on it.
        rules: What is allowed.
        now_ns: Now.
    """

    __slots__ = (
        "_now_ns",
        "_pace",
        "_rules",
        "held",
        "places",
        "replica_id",
        "running",
        "track",
        "walks",
    )

    def __init__(
        self, replica_id: str, track: Track, pace: Pace, places: int, rules: Rules, now_ns: int
    ) -> None:
        self.replica_id = replica_id
        self.track = track
        self.places = places
        self._pace = pace
        self._rules = rules
        self._now_ns = now_ns
        #: Jobs that run from now on, and those that were let in and wait, next one first.
        self.running: list[Job] = []
        self.held: list[Job] = []
        #: Forecasts made so far.
        self.walks = 0

    def __repr__(self) -> str:
        return f"Site({self.replica_id}, running={len(self.running)}, held={len(self.held)})"

    def begin(self, active: Sequence[Job], promised: Sequence[Job]) -> list[Job]:
        """Take over what runs and what was let in before; those of the latter that must go."""
        self.running = list(active)
        self.held = []
        if not promised:
            self._excuse(self._at_once(self.running))
            return []
        if self._arrange([*active, *promised]):
            return []
        self.running, self.held = list(active), []
        out = [job for job in promised if not self.insert(job)]
        self._excuse(self._at_once(self.running))
        return out

    def roomy(self, jobs: Sequence[Job]) -> bool:
        """Whether these could start and nobody would notice, by a bound instead of a forecast.

        Every step is taken to be as slow as the first one with all of them, and all prompts to be
        read before anything else happens.
        """
        count = len(self.running) + len(jobs)
        if self.held or count > self.places:
            return False
        pace, track = self._pace, self.track
        at_ns = max(float(self._now_ns), track.read_until_ns)
        context = track.context
        for job in jobs:
            at_ns += pace.reading_ns(job.prompt, count)
            context += job.context + job.produced + job.left
        step_ns = pace.step_ns(count, context + sum(job.left for job in self.running))
        clock = track.clock
        for job in self.running:
            end_ns = at_ns + (job.end_clock - clock) * step_ns
            if end_ns > job.end_due_ns or end_ns - job.first_ns > job.tpot_ns:
                return False
        first_ns = at_ns + pace.cost.request_ns + step_ns
        for job in jobs:
            end_ns = first_ns + job.left * step_ns
            if end_ns > job.end_due_ns or end_ns - first_ns > job.tpot_ns:
                return False
            if job.client_first_ns < 0:
                if first_ns > job.first_due_ns:
                    return False
                job.first_ns = first_ns
            job.end_ns = end_ns
        return True

    def insert(self, job: Job) -> bool:
        """Let a job in, if nobody becomes late by it."""
        return self._arrange([*self.running, *self.held, job])

    def displace(self, job: Job) -> list[Job]:
        """Let a job in where costlier ones are; those that gave way. Empty: it is not let in."""
        rules = self._rules
        bar = job.cost_ns / job.weight * rules.displace_factor
        costly = [
            one
            for one in (*self.running, *self.held)
            if one.cost_ns / one.weight > bar and self._may_wait(one)
        ]
        costly.sort(key=lambda one: (-one.cost_ns / one.weight, one.request.id))
        rest = [*self.running, *self.held]
        for count, victim in enumerate(costly[: rules.displace_max], 1):
            rest.remove(victim)
            if len(rest) < self.places and not self._at_once([*rest, job]):
                self.running, self.held = [*rest, job], []
                return costly[:count]
        return []

    def _arrange(self, jobs: list[Job]) -> bool:
        """Find a way to run these jobs on time; at once if possible."""
        over = len(jobs) - self.places
        late = self._at_once(jobs) if over <= 0 else []
        if over <= 0 and not late:
            self.running, self.held = jobs, []
            return True
        if self._rules.defer_max <= 0:
            return False
        return self._defer(jobs, late, max(over, 0))

    def _defer(self, jobs: list[Job], late: list[Job], over: int) -> bool:
        """Let the loosest wait: for those that are late, or for places."""
        tight = {job.request.id for job in late}
        step_ns = self._pace.steps_ns[min(len(jobs), self.places)]
        loose = [
            (job.due_ns - self._now_ns - job.left * step_ns, job.request.id, job)
            for job in jobs
            if job.request.id not in tight and self._may_wait(job)
        ]
        loose = [one for one in loose if one[0] > 0.0]
        loose.sort(key=lambda one: (-one[0], one[1]))
        count = max(over, 1)
        most = min(len(loose), over + self._rules.defer_max)
        while count <= most:
            held = [one[2] for one in reversed(loose[:count])]
            out = {job.request.id for job in held}
            running = [job for job in jobs if job.request.id not in out]
            self.walks += 1
            line = Line(held, tight, self.places)
            missed = one_by_one(self.track, self._pace, running, line, self._now_ns)
            if not missed:
                self.running, self.held = running, held
                return True
            if not any(job.request.id in tight for job in missed):
                return False
            count += max(1, count // 3)
        return False

    def _may_wait(self, job: Job) -> bool:
        if job.attempt is None:
            return True
        return job.request.resumable and job.pauses < self._rules.pauses_max

    def _at_once(self, jobs: Sequence[Job]) -> list[Job]:
        self.walks += 1
        return all_at_once(self.track, self._pace, jobs, self._now_ns)

    @staticmethod
    def _excuse(late: Sequence[Job]) -> None:
        """What is late whatever happens must not keep others out."""
        for job in late:
            job.excuse()
