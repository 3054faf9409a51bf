"""Who runs on a replica, who waits for a place there, and who gives way to whom.

Owns one replica's part of a plan while it is made. A job is let in if nobody who was let in
before becomes late by it: at once, or while a few loose ones wait, or in the place of costlier
ones. Called by `planner`.

The trimming is Moore and Hodgson's rule (1968: the costliest of those up to the first that is late)
on a shared server; that a newcomer may displace a costlier job is ours.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from slalom.policies.trim.forecast import Line, all_at_once, one_by_one
from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track
from slalom.units import MS

#: How much shorter prompts overtake: by so many times what they are shorter.
_SHORT_FIRST = 3.0
#: Waiting is weighed as if it lasted so long.
LATER_NS = 100.0 * MS
#: Chances that others may lose without being asked.
_HARMLESS = 0.05
#: Forecasts so sure, on a replica that newcomers slow down by no more than that, are taken at
#: their word: there is no chance to weigh.
_SHARP, _UNDISTURBED = 50.0, 1.02
#: A newcomer with a smaller chance than this is no gain.
_CHANCE_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Rules:
    """What fitting may do."""

    #: Jobs that may wait, or be paused, for the sake of one that is tighter; 0 for none.
    defer_max: int
    #: Costlier jobs that may give way to one newcomer; 0 for none.
    displace_max: int
    #: How many times as costly they must be at least.
    displace_factor: float
    #: Pauses of one job at most, and pauses after which it is paused for no deferral any more.
    pauses_max: int
    defer_pauses_max: int
    #: Whether a job waits where the chances of others lose more than its own.
    weigh_chances: bool


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
        "_factor",
        "_now_ns",
        "_pace",
        "_rules",
        "_tolerated",
        "_value",
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
        #: By how much newcomers make everything take longer.
        self._factor = track.reading.factor(now_ns)
        #: Jobs that run from now on, and those that were let in and wait, next one first.
        self.running: list[Job] = []
        self.held: list[Job] = []
        #: Jobs that are late anyway, by id.
        self._tolerated: set[str] = set()
        #: Chances of all that was let in, summed up.
        self._value = 0.0
        #: Forecasts made so far.
        self.walks = 0

    def __repr__(self) -> str:
        return f"Site({self.replica_id}, running={len(self.running)}, held={len(self.held)})"

    def begin(self, active: Sequence[Job], promised: Sequence[Job]) -> list[Job]:
        """Take over what runs and what was let in before; those of the latter that must go."""
        self.running, self.held = list(active), []
        late = self._at_once(self.running)
        # What is late whatever happens must not keep others out.
        self._tolerated = {job.request.id for job in late}
        self._value = self._judge()
        if not promised or self._arrange(_in_line([*active, *promised])):
            return []
        return [job for job in promised if not self.insert(job)]

    def insert(self, job: Job) -> bool:
        """Let a job in, if nobody loses by it what it could not lose itself by waiting."""
        job.settle(self._pace, self.replica_id)
        is_sharp = job.odds > _SHARP and self._factor < _UNDISTURBED
        if is_sharp or not self._rules.weigh_chances:
            return self._arrange(_in_line([*self.running, *self.held, job]))
        if self.held or len(self.running) >= self.places:
            if self._worthwhile(job, _in_line([*self.running, *self.held, job])):
                return True
            return self._arrange(_in_line([*self.running, *self.held, job]))
        jobs = _in_line([*self.running, job])
        if self._worthwhile(job, jobs):
            return True
        return self._defer(jobs, self._at_once(jobs), 0)

    def _worthwhile(self, job: Job, jobs: list[Job]) -> bool:
        """Start all of these at once, if that is worth more than to let the newcomer wait."""
        if len(jobs) > self.places:
            return False
        self._at_once(jobs)
        now_ns = float(self._now_ns)
        worth = self._judge(jobs)
        chance = job.chance
        later = job.judge(now_ns, self._factor, LATER_NS)
        job.chance = chance
        if (
            chance < _CHANCE_MIN and len(jobs) > 1
        ) or worth < self._value + later * job.weight - _HARMLESS:
            return False
        self.running, self.held, self._value = jobs, [], worth
        return True

    def displace(self, job: Job) -> list[Job]:
        """Let a job in where costlier ones are; those that gave way. Empty: it is not let in."""
        job.settle(self._pace, self.replica_id)
        rules = self._rules
        least = job.cost_ns / job.weight
        bar = least * rules.displace_factor
        costly = [
            one
            for one in (*self.running, *self.held)
            if (one.is_late or one.cost_ns / one.weight > (bar if one.attempt else least))
            and self._may_wait(one, rules.pauses_max)
        ]
        costly.sort(key=lambda one: (not one.is_late, -one.cost_ns / one.weight, one.request.id))
        rest = [*self.running, *self.held]
        for count, victim in enumerate(costly[: rules.displace_max], 1):
            rest.remove(victim)
            in_line = _in_line([*rest, job])
            if len(rest) < self.places and not self._at_once(in_line):
                self.running, self.held = in_line, []
                self._value = self._judge()
                return costly[:count]
        return []

    def try_anyway(self, job: Job) -> None:
        """Forecast a job beside all that was let in, whatever becomes of them."""
        job.settle(self._pace, self.replica_id)
        jobs = _in_line([*self.running, *self.held, job])
        self._at_once(jobs)
        self._judge(jobs)

    def squeeze(self, job: Job) -> bool:
        """Let a job in that is late anyway, if nobody notices."""
        job.settle(self._pace, self.replica_id)
        jobs = _in_line([*self.running, job])
        if self.held or len(jobs) > self.places or self._at_once(jobs):
            return False
        if self._judge(jobs) < self._value - _HARMLESS:
            return False
        self.running = jobs
        return True

    def _arrange(self, jobs: list[Job]) -> bool:
        """Find a way to run these jobs on time; at once if possible."""
        over = len(jobs) - self.places
        late = self._at_once(jobs) if over <= 0 else []
        if over <= 0 and not late:
            self.running, self.held = jobs, []
            self._value = self._judge()
            return True
        return self._defer(jobs, late, max(over, 0))

    def _defer(self, jobs: list[Job], late: list[Job], over: int) -> bool:
        """Let the loosest wait: for those that are late, or for places."""
        if not (late or over) or self.places < 1:
            return False
        tight = {job.request.id for job in late}
        loose = self._loosest_first(jobs, tight)
        count = max(over, 1)
        most = min(len(loose), over + self._rules.defer_max)
        while count <= most:
            held = loose[:count][::-1]
            out = {job.request.id for job in held}
            running = [job for job in jobs if job.request.id not in out]
            self.walks += 1
            line = Line(held, tight, self.places)
            missed = one_by_one(self.track, self._pace, running, line, self._now_ns)
            missed = [job for job in missed if job.request.id not in self._tolerated]
            if not missed:
                self.running, self.held = running, held
                self._value = self._judge()
                return True
            if not any(job.request.id in tight for job in missed):
                return False
            count *= 2
        return False

    def _loosest_first(self, jobs: Sequence[Job], tight: Collection[str]) -> list[Job]:
        """Jobs that may wait: those that do already, then those with most time to spare."""
        step_ns = self._pace.steps_ns[min(len(jobs), self.places)]
        spare = [
            (job.attempt is not None, self._now_ns + job.left * step_ns - job.due_ns, index)
            for index, job in enumerate(jobs)
            if job.request.id not in tight and self._may_wait(job, self._rules.defer_pauses_max)
        ]
        return [jobs[index] for _, late_ns, index in sorted(spare) if late_ns < 0.0]

    @staticmethod
    def _may_wait(job: Job, pauses_max: int) -> bool:
        if job.attempt is None:
            return True
        if job.prompt:  # it is about to be read: stopping it would waste that
            return False
        return job.request.resumable and job.pauses < pauses_max

    def _at_once(self, jobs: Sequence[Job]) -> list[Job]:
        self.walks += 1
        late = all_at_once(self.track, self._pace, jobs, self._now_ns)
        if self._tolerated:
            return [job for job in late if job.request.id not in self._tolerated]
        return late

    def _judge(self, jobs: Iterable[Job] | None = None) -> float:
        """Chances summed up: of these jobs, or of all that was let in."""
        now_ns, factor = float(self._now_ns), self._factor
        if jobs is None:
            jobs = (*self.running, *self.held)
        return sum(job.judge(now_ns, factor) * job.weight for job in jobs)


def _in_line(jobs: list[Job]) -> list[Job]:
    """The same jobs in the order in which they are read: newcomers last, the most urgent first."""
    jobs.sort(key=_turn)
    return jobs


def _turn(job: Job) -> float:
    if job.attempt is not None:
        return -NEVER
    return NEVER if job.is_late else job.latest_ns + _SHORT_FIRST * job.reading_ns
