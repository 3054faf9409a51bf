"""One plan of `plan-and-trim` while it is made: jobs are sorted, tried, and turned into starts.

Owns the order in which jobs are tried and what becomes of those that find no place. Called by
`planner`, once for each plan.
"""

from collections.abc import Mapping, Sequence

from slalom.core.planning import Plan, Refuse, Start
from slalom.core.request import Request
from slalom.policies.trim.expecting import expectation
from slalom.policies.trim.fitting import Site
from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.leeway import find_leeway
from slalom.policies.trim.lookout import by_load
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.rules import Manners
from slalom.units import MS, SECOND

#: Those that were not let in are tried again after this, if nothing happened before.
LOOK_NS = 100 * MS
#: The same, if there was no time to try them all.
_SOON_NS = 20 * MS
#: Objective of a request that has neither one for its first token nor for its end.
_UNTOLD_NS = 8 * SECOND
#: A moment's burst is over after this: no share of a shorter objective is worth a refusal.
_PATIENCE_MIN_NS = 100 * MS
#: Where all are sure to be on time, so many times as much may be sent ahead to be read.
CALM_AHEAD = 5
#: One of so many places may be taken by those that are late.
_LATE_SHARE = 4


def is_lost(job: Job, pace: Pace, left: float, now_ns: int) -> bool:
    """Whether a job that runs would be late even if it had the engine to itself from now on."""
    return now_ns + left * pace.steps_ns[1] > job.end_due_ns


def unit_of(pace: Pace, running: int) -> float:
    """Time of the device that one token takes beside so many others."""
    count = max(running, 1)
    return pace.steps_ns[count] / count


def due_ns(request: Request) -> int:
    """When the first objective of a request breaks; its arrival if it has none."""
    return request.sla.first_deadline_ns(request.arrived_ns, default_ns=0)


class Draft:
    """One plan while it is made."""

    def __init__(
        self,
        manners: Manners,
        pace: Pace,
        sites: Sequence[Site],
        room: int,
        up_ns: int,
        now_ns: int,
        *,
        patience: float = 1.0,
    ) -> None:
        """Begin a plan.

        Args:
            manners: What late ones may expect.
            pace: Step times.
            sites: The ready replicas.
            room: Starts that the device's window still allows.
            up_ns: Since when the model has been ready: who came before had to wait for it.
            now_ns: Now.
            patience: Those that were not let in are tried again after so many times as long.
        """
        self._manners = manners
        self._pace = pace
        self._sites = sites
        #: Starts that the device's window still allows, over all replicas.
        self._room = room
        self._up_ns = up_ns
        self._now_ns = now_ns
        for site in sites:
            site.track.leeway = None
        self._before = {site.replica_id: list(site.running) for site in sites}
        self._demotions: list[str] = []
        self._refusals: list[Refuse] = []
        self._left_out = 0
        #: Late ones that wait on, or may do so unseen behind others.
        self._unserved = False
        #: Whether all are sure to be on time.
        self._is_calm = False
        self._later_ns, self._soon_ns = round(LOOK_NS * patience), round(_SOON_NS * patience)
        self._again_ns = self._later_ns
        #: When it is to be made again if nothing happens, but for those that were let in and wait;
        #: -1 for never; and when for these, by replica.
        self.look_ns = -1
        self.turns: dict[str, int] = {}
        #: Who was let in and waits, and where.
        self.promised: dict[str, str] = {}
        #: Requests that this plan has found to be late.
        self.given_up: list[Job] = []

    def fill(self, jobs: Sequence[Job], promised: Mapping[str, str]) -> None:
        """Let in what can be.

        Args:
            jobs: What waits.
            promised: Where those wait that were let in before, by request.
        """
        if not promised and len(self._sites) == 1 and self.fill_calmly(jobs):
            return
        unit_ns = self._unit_ns()
        late: list[Job] = []
        fresh: list[Job] = []
        kept: dict[str, list[Job]] = {site.replica_id: [] for site in self._sites}
        for job in jobs:
            job.cost_ns = job.reading_ns + job.left * unit_ns + job.rest_work_ns
            if self._now_ns > job.latest_ns:
                job.excuse()
            if job.is_late or job.demoted:
                late.append(job)
            elif (at := promised.get(job.request.id)) in kept:
                job.settle(self._pace, at)
                kept[at].append(job)
            else:
                fresh.append(job)
        for site in self._sites:
            site.begin()
        stay: list[Job] = []
        for job in late:
            if self._give_up(job):
                self._refuse(job)
            else:
                stay.append(job)
        for site in self._sites:
            fresh += site.keep(kept[site.replica_id])
        fresh.sort(key=_cheapest_first)
        self._let_in(fresh)
        self._serve_late(stay)

    def _unit_ns(self) -> float:
        return unit_of(self._pace, max(len(site.running) for site in self._sites))

    def fill_calmly(self, jobs: Sequence[Job]) -> bool:
        """Let in all that waits on the only site, if all are sure to be on time with it.

        Not tried on again where it has failed, until a plan has left nobody out.
        """
        (site,) = self._sites
        if not site.track.is_calm:
            return False
        unit_ns = self._unit_ns()
        for job in jobs:
            if job.is_late or job.demoted or self._now_ns > job.latest_ns:
                return False
            job.cost_ns = job.reading_ns + job.left * unit_ns + job.rest_work_ns
        site.track.is_calm = self._is_calm = site.insert_calmly(jobs)
        return self._is_calm

    def fill_first(self, jobs: Sequence[Job], *, is_one_of_many: bool) -> bool:
        """The same for the only newcomer; where there are many sites, also if others mind a little.

        With the only site the nearest of many, and nobody in line at any of them, a plan over all
        would find the same: it tries no other one before.
        """
        (site,), (job,) = self._sites, jobs
        if self.fill_calmly(jobs):
            return True
        if not is_one_of_many or job.is_late or job.demoted or self._now_ns > job.latest_ns:
            return False
        job.cost_ns = job.reading_ns + job.left * self._unit_ns() + job.rest_work_ns
        site.begin()
        return site.insert(job)

    def relieve(self, jobs: Sequence[Job]) -> set[str]:
        """Let in here who stands in line elsewhere, where places are free; who was, by request."""
        free = [site for site in self._sites if not site.held and len(site.running) < site.places]
        moved: set[str] = set()
        unit_ns = self._unit_ns()
        for job in jobs:
            if self._now_ns > job.latest_ns or job.is_late:
                continue
            job.cost_ns = job.reading_ns + job.left * unit_ns + job.rest_work_ns
            if any(site.insert(job) for site in self._nearest_first(job) if site in free):
                moved.add(job.request.id)
        return moved

    def _give_up(self, job: Job) -> bool:
        """Note that one is late; whether it is to be refused whatever is free."""
        if not job.demoted:
            self.given_up.append(job)
        unwanted = self._manners.late == "refuse" or job.request.drop_when_late
        spared = self._manners.spares and self._is_blameless(job)
        return unwanted and not (spared or job.admitted) and job.client_first_ns < 0

    def _outstays(self, job: Job) -> bool:
        """Whether a late one of which nothing has begun has waited for long enough."""
        if job.client_first_ns >= 0 or job.goes_on or job.admitted or self._is_blameless(job):
            return False  # Whoever is refused does not ask what would have followed.
        sla, arrived_ns = job.request.sla, job.request.arrived_ns
        first_ns = sla.first_deadline_ns(arrived_ns, default_ns=_UNTOLD_NS) - arrived_ns
        patience_ns = max(self._manners.late_patience * first_ns, _PATIENCE_MIN_NS)
        patience_ns = min(patience_ns, self._manners.late_patience_ns)
        since_ns = max(job.latest_ns, arrived_ns)
        return self._now_ns - since_ns > patience_ns

    def _is_blameless(self, job: Job) -> bool:
        """Whether it is late for no lack of room: by a load, or by objectives beyond the engine."""
        arrived_ns = job.request.arrived_ns
        return arrived_ns < self._up_ns or job.latest_ns < arrived_ns

    def _refuse(self, job: Job) -> None:
        retry_ns, detail = self._retry_ns(), self._why(job)
        self._refusals.append(Refuse(job.request.id, retry_after_ns=retry_ns, detail=detail))

    def _retry_ns(self) -> int:
        """Until half of what runs has ended."""
        ends = sorted(job.end_ns for site in self._sites for job in site.running)
        ends = [end_ns for end_ns in ends if end_ns != NEVER]
        return max(round(ends[len(ends) // 2]) - self._now_ns, SECOND) if ends else SECOND

    def _why(self, job: Job) -> str:
        """Why a request is late, and what would have had to be different."""
        running = sum(len(site.running) for site in self._sites)
        late_s = (self._now_ns - job.latest_ns) / SECOND if job.latest_ns > 0 else -1.0
        needs = (
            f"about {job.left:.0f} tokens after a prompt of {job.prompt} take "
            f"{self._alone_s(job):.2f} s even alone"
        )
        if late_s < 0:
            return f"{needs}, longer than its objectives allow"
        return (
            f"{needs}; to be on time it had to begin {late_s:.2f} s ago, when nothing could give "
            f"way to it without being late ({running} running)"
        )

    def _alone_s(self, job: Job) -> float:
        return self._pace.alone_ns(job.reading_ns, job.prompt, job.left)[1] / SECOND

    def _let_in(self, fresh: Sequence[Job]) -> None:
        failed: list[Job] = []
        for tried, job in enumerate(fresh):
            walks = sum([site.walks for site in self._sites])
            if walks > self._manners.effort + len(self._sites) - 1:  # one is each site's own
                self._left_out += len(fresh) - tried
                self._again_ns = self._soon_ns
                return
            if failed and any(_harder(job, one) for one in failed):
                self._left_out += 1
                continue
            sites = self._nearest_first(job)
            if any(site.insert(job) for site in sites):
                continue
            if any(site.displace(job) for site in sites):
                continue
            failed.append(job)
            self._left_out += 1

    def _nearest_first(self, job: Job) -> Sequence[Site]:
        """Where most of its prompt should be, then where its chain ran, then by what runs.

        What is urgent goes where least does in view of the speed; what is loose to the fullest of
        the fastest, so that others stay fit for what is urgent.
        """
        if len(self._sites) == 1:
            return self._sites
        cached, is_urgent = job.cached, job.request.sla.ttft_ns is not None
        return sorted(
            self._sites,
            key=lambda site: (
                -cached.get(site.replica_id, 0.0),
                site.replica_id != job.near,
                len(site.running) >= site.places,
                by_load(len(site.running), site.pace.speed, is_urgent=is_urgent),
                site.replica_id,
            ),
        )

    def _serve_late(self, late: Sequence[Job]) -> None:
        """Best effort: only where nobody who can be on time waits, and a few at a time.

        Whoever finds no place in time is refused; those that have begun wait on.
        """
        for job in late:
            served = not self._left_out and any(self._squeeze(site, job) for site in self._sites)
            if not served and self._outstays(job):
                self._refuse(job)
                continue
            self._unserved = True
            if not job.demoted:
                self._demotions.append(job.request.id)

    def _squeeze(self, site: Site, job: Job) -> bool:
        already = sum(one.is_late for one in site.running)
        among_late = already == len(site.running) and self._is_blameless(job)
        return (among_late or already * _LATE_SHARE < site.places) and site.squeeze(job)

    def plan(self) -> Plan:
        """What comes of it; who was let in and has to wait is `promised` from then on."""
        starts: list[Start] = []
        pauses: list[str] = []
        if not (self._left_out or self._unserved or self._refusals):
            for site in self._sites:
                site.track.is_calm = not site.held
        if self._refusals:  # others stand behind them that have not been looked at
            self.look_ns = self._now_ns + self._soon_ns
        elif self._left_out or self._unserved:
            self.look_ns = self._now_ns + self._again_ns
        for site in self._sites:
            before, running = self._before[site.replica_id], site.running
            # What runs stands in front: unless all of it does, somebody is to pause.
            if before and (len(running) < len(before) or running[len(before) - 1].attempt is None):
                stays = {job.request.id for job in running}
                pauses += [job.request.id for job in before if job.request.id not in stays]
            waits = self._start(site, site.places - len(before), starts)
            if waits:
                self.turns[site.replica_id] = waits
        looks = [*self.turns.values()]
        if self.look_ns >= 0:
            looks.append(self.look_ns)
        look_ns = min(looks, default=-1)
        if look_ns < 0:
            for site in self._sites:
                site.track.leeway = find_leeway(site, self._now_ns)
        waits = look_ns >= 0
        return Plan(starts, self._refusals, self._demotions, pauses, look_ns, look_when_read=waits)

    def _start(self, site: Site, free: int, starts: list[Start]) -> int:
        """Start what runs from now on, if it is its turn to be read; when to look again, or 0."""
        now_ns, ahead_ns = self._now_ns, self._manners.read_ahead_ns
        if self._is_calm:
            ahead_ns *= CALM_AHEAD
        if site.running and site.running[-1].attempt is None:
            site.settle()
        read_ns = max(site.track.read_until_ns, float(now_ns))
        waits = now_ns + self._later_ns if site.held else 0
        for job in site.held:
            self.promised[job.request.id] = site.replica_id
        for job in site.running:
            if job.attempt is not None:
                continue
            if min(free, self._room) <= 0 or read_ns - now_ns > ahead_ns:
                self.promised[job.request.id] = site.replica_id
                turn_ns = max(round(read_ns) - ahead_ns, now_ns + 1)
                waits = min(waits, turn_ns) if waits else turn_ns
                free = 0
                continue
            free -= 1
            self._room -= 1
            read_ns += job.reading_ns
            expected = expectation(job, site.replica_id, now_ns)
            starts.append(Start(job.request.id, site.replica_id, expected=expected))
        return waits


def _cheapest_first(job: Job) -> tuple[float, float, str]:
    return (job.cost_ns / job.weight, -job.due_ns, job.request.id)


def _harder(job: Job, failed: Job) -> bool:
    """Whether a job that is no easier than one that failed."""
    return (
        job.left >= failed.left
        and job.reading_ns >= failed.reading_ns
        and job.first_due_ns <= failed.first_due_ns
        and job.end_due_ns <= failed.end_due_ns
        and job.tpot_ns <= failed.tpot_ns
        and job.weight <= failed.weight
    )
