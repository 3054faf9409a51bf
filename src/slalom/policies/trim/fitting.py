"""Who runs on a replica, who waits for a place there, and who gives way to whom.

Owns one replica's part of a plan while it is made. A job is let in if nobody who was let in
before becomes late by it: at once, or while a few loose ones wait, or in the place of costlier
ones. Called by `planner`.

The trimming is Moore and Hodgson's rule (1968: the costliest of those up to the first that is late)
on a shared server; that a newcomer may displace a costlier job is ours.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter

from slalom.policies.trim.forecast import Entry, Line, all_at_once, entries, one_by_one
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.rules import Rules
from slalom.policies.trim.track import Track
from slalom.units import MS

#: Waiting is weighed as if it lasted so long.
LATER_NS = 100.0 * MS
#: Chances that others may lose without being asked.
_HARMLESS = 0.05
#: Forecasts so sure, on a replica that newcomers slow down by no more than that, are taken at
#: their word: there is no chance to weigh.
_SHARP, _UNDISTURBED = 50.0, 1.02
#: A newcomer with a smaller chance than this is no gain.
_CHANCE_MIN = 0.05


_turn = attrgetter("turn")
#: Places of newcomers among those that could as well wait.
_BEHIND = 1 << 20
#: A job that may wait: whether it runs, what it has to spare (negative, ns), its turn to be read,
#: its place in line, and the job.
_Loose = tuple[bool, float, float, int, Job]


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
        "_costly",
        "_ends",
        "_factor",
        "_holders",
        "_loose",
        "_now_ns",
        "_rules",
        "_told",
        "_tolerated",
        "_value",
        "held",
        "pace",
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
        self.pace = pace
        self._rules = rules
        self._now_ns = now_ns
        #: By how much newcomers make everything take longer.
        self._factor = track.reading.factor(now_ns)
        #: Jobs that run from now on, and those that were let in and wait, next one first.
        self.running: list[Job] = []
        self.held: list[Job] = []
        #: What ran when the plan began, in the order of the ends.
        self._ends: list[Entry] = []
        #: Those for whose sake the held ones wait, and those that are late anyway.
        self._holders: AbstractSet[Job] = frozenset()
        self._tolerated: AbstractSet[Job] = frozenset()
        #: Chances of all that was let in, summed up; None until somebody asks.
        self._value: float | None = None
        #: Who may wait, loosest first, by the sequences of a step; who may give way, costliest
        #: first: of all that was let in, until that changes.
        self._loose: dict[int, list[_Loose]] = {}
        self._costly: list[tuple[bool, float, str, Job]] | None = None
        #: Whether the times in the jobs are those of what was decided: nothing is weighed then.
        self._told = False
        #: Forecasts made so far.
        self.walks = 0

    def __repr__(self) -> str:
        return f"Site({self.replica_id}, running={len(self.running)}, held={len(self.held)})"

    def take(self, active: Sequence[Job]) -> None:
        """Take over what runs."""
        self._ends = entries(active)
        self._decide(list(active))

    def _decide(
        self, running: list[Job], held: Sequence[Job] = (), value: float | None = None
    ) -> None:
        """These are let in; their times are as just forecast."""
        self.running, self.held, self._value = running, list(held), value
        self._loose.clear()
        self._costly = None
        self._told = False

    def begin(self) -> None:
        """Find out what is late whatever happens: it must not keep others out."""
        late = self._at_once(self.running)
        if late:
            self._tolerated = frozenset(late)
            self._ends = entries(self.running, self._tolerated)
        if self._weighs():
            self._value = self._judge()

    def keep(self, promised: Sequence[Job]) -> list[Job]:
        """Take over what was let in before; those that must go."""
        if not promised:
            return []
        jobs = _in_line([*self.running, *promised])
        late = self._at_once(jobs) if len(jobs) <= self.places else None
        if self._arrange(jobs, promised, late):
            return []
        return [job for job in promised if not self.insert(job)]

    def insert_calmly(self, fresh: Sequence[Job]) -> bool:
        """Let all of these in where nobody comes near its limits by it: one forecast says it all.

        Needs no `begin`; if it lets none in, that is the next step.
        """
        if len(self.running) + len(fresh) > self.places:
            return False
        for job in fresh:
            job.settle(self.pace, self.replica_id)
        jobs = _in_line([*self.running, *fresh])
        if self._at_once(jobs, first_only=True):
            return False
        now_ns, factor = float(self._now_ns), self._factor
        for job in jobs:
            if not job.is_sure(now_ns, factor):
                return False
        for job in fresh:
            job.judge(now_ns, factor)
        self._decide(jobs)
        self._told = True
        return True

    def insert(self, job: Job) -> bool:
        """Let a job in, if nobody loses by it what it could not lose itself by waiting."""
        job.settle(self.pace, self.replica_id)
        jobs = self._with(job)
        late = self._at_once(jobs) if len(jobs) <= self.places else None
        is_sharp = job.odds > _SHARP and self._factor < _UNDISTURBED
        if is_sharp or not self._rules.weigh_chances:
            return self._arrange(jobs, [job], late)
        if late is not None:
            if self._worthwhile(job, jobs):
                return True
            self.walks += 1
            if not self.held:
                return self._defer(jobs, [job], late, 0)
        return self._arrange(jobs, [job], late)

    def _weighs(self) -> bool:
        """Whether chances will be weighed, most likely: there is room for another one."""
        if not self._rules.weigh_chances or self._factor < _UNDISTURBED:
            return False
        return len(self.running) + len(self.held) < self.places

    def _worth(self) -> float:
        """Chances of all that was let in."""
        if self._value is None:
            self._value = self.settle()
        return self._value

    def _worthwhile(self, job: Job, jobs: list[Job]) -> bool:
        """Start all of these at once, as just forecast, if that is worth more than waiting."""
        now_ns = float(self._now_ns)
        if job.judge(now_ns, self._factor) < _CHANCE_MIN and len(jobs) > 1:
            return False
        later = job.judge(now_ns, self._factor, LATER_NS)
        worth = self._judge(jobs)
        if worth < self._worth() + later * job.weight - _HARMLESS:
            return False
        self._decide(jobs, value=worth)
        return True

    def displace(self, job: Job) -> list[Job]:
        """Let a job in where costlier ones are; those that gave way. Empty: it is not let in."""
        job.settle(self.pace, self.replica_id)
        rules = self._rules
        least = job.cost_ns / job.weight
        bar = least * rules.displace_factor
        rest = [*self.running, *self.held]
        gone: list[Job] = []
        for _, less, _, victim in self._costliest_first(rest):
            is_costly = victim.is_late or -less > (bar if victim.attempt else least)
            if not is_costly:
                continue
            if len(gone) >= rules.displace_max:
                break
            rest.remove(victim)
            gone.append(victim)
            if len(rest) < self.places:
                jobs = self._in_line_with(job, rest)
                if not self._at_once(jobs, first_only=True):
                    self._ends = [entry for entry in self._ends if entry[-1] not in gone]
                    self._decide(jobs)
                    if self._weighs():
                        self._value = self._judge()
                    return gone
        return []

    def _costliest_first(self, jobs: Sequence[Job]) -> list[tuple[bool, float, str, Job]]:
        """Who may give way: what is late anyway, then the costliest; with the cost, negative."""
        if self._costly is None:
            self._costly = sorted(
                (not job.is_late, -job.cost_ns / job.weight, job.request.id, job)
                for job in jobs
                if self._may_wait(job, self._rules.pauses_max)
            )
        return self._costly

    def try_anyway(self, job: Job) -> None:
        """Forecast a job beside all that was let in, whatever becomes of them."""
        job.settle(self.pace, self.replica_id)
        line = Line([*self.held, job], frozenset(), self.places, self._tolerated)
        one_by_one(self.track, self.pace, *self._split(self.running), line, self._now_ns)
        self._judge(_in_line([*self.running, *line.jobs]))

    def squeeze(self, job: Job) -> bool:
        """Let a job in that is late anyway, if nobody notices."""
        job.settle(self.pace, self.replica_id)
        if self.held or len(self.running) >= self.places:
            return False
        jobs = self._with(job)
        if self._at_once(jobs, first_only=True):
            return False
        if self._judge(jobs) < self._worth() - _HARMLESS:
            return False
        self._decide(jobs, value=self._value)
        return True

    def settle(self) -> float:
        """Forecast what was decided: what was tried and dropped since has left its own times.

        Returns:
            Chances of all that was let in, summed up.
        """
        if self._told:
            return self._value or 0.0
        ends, fresh = self._split(self.running)
        if self.held:
            line = Line(self.held, self._holders, self.places, self._tolerated)
            one_by_one(self.track, self.pace, ends, fresh, line, self._now_ns)
        else:
            all_at_once(self.track, self.pace, ends, fresh, self._now_ns)
        return self._judge()

    def _arrange(self, jobs: list[Job], fresh: Sequence[Job], late: list[Job] | None) -> bool:
        """Find a way to run these jobs on time; at once if possible.

        Args:
            jobs: In line.
            fresh: Those of them that are not let in yet.
            late: Those that would be late at once; None if places do not suffice for that.
        """
        if late is None:
            return self._defer(jobs, fresh, [], len(jobs) - self.places)
        if late:
            return self._defer(jobs, fresh, late, 0)
        self._decide(jobs)
        if self._weighs():
            self._value = self._judge()
        return True

    def _defer(self, jobs: list[Job], fresh: Sequence[Job], late: list[Job], over: int) -> bool:
        """Let the loosest wait: for those that are late, or for places."""
        if not (late or over) or self.places < 1:
            return False
        tight = frozenset(late)
        loose = self._loosest_first(fresh, tight)
        count = max(over, 1)
        most = min(len(loose), over + self._rules.defer_max)
        while count <= most:
            held = loose[:count][::-1]
            out = set(held)
            running = [job for job in jobs if job not in out]
            is_last = not tight or count * 2 > most
            line = Line(held, tight, self.places, self._tolerated, is_last)
            ends, fresh = self._split(running)
            self.walks += 1
            missed = one_by_one(self.track, self.pace, ends, fresh, line, self._now_ns)
            if not missed:
                self._holders = tight
                self._decide(running, held)
                if held[0].attempt is not None:  # of those that end together they are the last now
                    stay = [job for job in (*running, *held) if job.attempt is not None]
                    self._ends = entries(stay, self._tolerated)
                if self._weighs():
                    self._value = self._judge()
                return True
            if is_last or tight.isdisjoint(missed):
                return False
            count *= 2
        return False

    def _loosest_first(self, fresh: Sequence[Job], tight: AbstractSet[Job]) -> list[Job]:
        """Jobs that may wait: those that do already, then those with most time to spare.

        Args:
            fresh: Who would be let in.
            tight: For whose sake others would wait.
        """
        sequences = min(len(self.running) + len(self.held) + len(fresh), self.places)
        step_ns = self.pace.steps_ns[sequences]
        known = self._loose.get(sequences)
        if known is None:
            known = self._loose[sequences] = []
            for place, job in enumerate((*self.running, *self.held)):
                if self._may_wait(job, self._rules.defer_pauses_max):
                    late_ns = self._now_ns + job.left * step_ns - job.due_ns
                    if late_ns < 0.0:
                        known.append((job.attempt is not None, late_ns, job.turn, place, job))
            known.sort()
        loose = known.copy()
        for place, job in enumerate(fresh, _BEHIND):
            late_ns = self._now_ns + job.left * step_ns - job.due_ns
            if late_ns < 0.0:
                loose.append((False, late_ns, job.turn, place, job))
        loose.sort()
        return [row[-1] for row in loose if row[-1] not in tight]

    @staticmethod
    def _may_wait(job: Job, pauses_max: int) -> bool:
        if job.attempt is None:
            return True
        if job.prompt:  # it is about to be read: stopping it would waste that
            return False
        return job.request.resumable and job.pauses < pauses_max

    def _at_once(self, jobs: Sequence[Job], *, first_only: bool = False) -> list[Job]:
        self.walks += 1
        ends, fresh = self._split(jobs)
        return all_at_once(self.track, self.pace, ends, fresh, self._now_ns, first_only=first_only)

    def _split(self, jobs: Sequence[Job]) -> tuple[list[Entry], Sequence[Job]]:
        """Of jobs in line: what runs, in the order of the ends, and what would start."""
        count = len(jobs)
        while count and jobs[count - 1].attempt is None:
            count -= 1
        if count == len(self._ends):
            return self._ends.copy(), jobs[count:]
        chosen = set(jobs)
        return [entry for entry in self._ends if entry[-1] in chosen], jobs[count:]

    def _with(self, job: Job) -> list[Job]:
        """All that was let in and one more, in line."""
        return self._in_line_with(job, [*self.running, *self.held])

    def _in_line_with(self, job: Job, rest: Sequence[Job]) -> list[Job]:
        """All or some of what was let in, and one more."""
        jobs = [*rest]
        if self.held:
            jobs.append(job)
            return _in_line(jobs)
        insort(jobs, job, key=_turn)
        return jobs

    def _judge(self, jobs: Iterable[Job] | None = None) -> float:
        """Chances summed up: of these jobs, or of all that was let in."""
        now_ns, factor = float(self._now_ns), self._factor
        if jobs is None:
            jobs = (*self.running, *self.held)
        return sum([job.judge(now_ns, factor) * job.weight for job in jobs])


def _in_line(jobs: list[Job]) -> list[Job]:
    """The same jobs in the order in which they are read: newcomers last, the most urgent first."""
    jobs.sort(key=_turn)
    return jobs
