"""The decisions of `plan-and-trim`: who starts, who waits, who gives way, who is late for good.

Owns what one scheduler's planner knows: the token clock of each replica and who was let in and has
to wait for others. Called by the core.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slalom.core.planning import (
    Expectation,
    Learned,
    Moment,
    Observation,
    Plan,
    PlanView,
    Refuse,
    RunningView,
    Start,
)
from slalom.core.request import ModelSpec, Request
from slalom.policies.prediction.predictor import Predictor, PredictorOptions
from slalom.policies.trim.fitting import Rules, Site
from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track
from slalom.policies.trim.trust import odds
from slalom.units import MS

if TYPE_CHECKING:
    from slalom.policies.trim.plan_and_trim import PlanAndTrim

#: Those that were not let in are tried again after this, if nothing happened before.
_LOOK_NS = 100 * MS
#: Late requests that one plan looks at.
_LATE_MAX = 4
#: Of step times, before enough was observed.
_MARGIN_START = 1.01
#: No request is ordered as if due later than this after its arrival.
_AGEING_NS = 60_000 * MS


class Trimmer:
    """Plans for one scheduler.

    Args:
        models: Every model.
        options: What may be done.
    """

    def __init__(self, models: Sequence[ModelSpec], options: "PlanAndTrim") -> None:
        self._options = options
        self._predictor = Predictor(models, PredictorOptions(margin_start=_MARGIN_START))
        self._rules = Rules(
            defer_max=options.defer_max,
            displace_max=options.displace_max,
            displace_factor=options.displace_factor,
            pauses_max=options.pauses_max,
            defer_pauses_max=options.defer_pauses_max,
            weigh_chances=options.weigh_chances,
        )
        self._paces: dict[str, Pace] = {}
        self._tracks: dict[str, Track] = {}
        #: model -> request -> job, of those that waited in the last plan.
        self._jobs: dict[str, dict[str, Job]] = {model.id: {} for model in models}
        #: model -> request -> replica, of those that were let in and wait.
        self._promised: dict[str, dict[str, str]] = {model.id: {} for model in models}

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The first instant at which an objective breaks, capped by ageing."""
        due_ns = request.sla.first_deadline_ns(request.arrived_ns, default_ns=default_deadline_ns)
        return min(due_ns, request.arrived_ns + _AGEING_NS)

    # -- learning -------------------------------------------------------------------------

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Follow the clocks."""
        self._predictor.observe(seen, model, now_ns)
        attempt = seen.attempt
        if attempt is None:
            return
        pace = self._pace(model.spec)
        track = self._tracks.get(attempt.replica_id)
        if track is None:
            track = self._tracks[attempt.replica_id] = Track(now_ns)
        if seen.moment is Moment.STARTED:
            left, steepness = self._outlook(model, seen.request, attempt.resumed_tokens)
            job = Job.running(attempt, left)
            job.odds = steepness
            track.start(attempt, job, pace, now_ns)
            self._promised[model.spec.id].pop(seen.request.id, None)
        elif seen.moment is Moment.TOLD:
            produced = attempt.resumed_tokens + attempt.output_tokens
            left, steepness = self._outlook(model, seen.request, produced)
            track.told(attempt, left, steepness, pace, now_ns)
        else:
            track.over(attempt, pace, now_ns)

    def _pace(self, spec: ModelSpec) -> Pace:
        cost = self._predictor.cost(spec.id)
        pace = self._paces.get(spec.id)
        if pace is None or pace.cost is not cost:
            pace = self._paces[spec.id] = Pace(cost, spec.places)
        return pace

    def learned(self) -> Sequence[Learned]:
        """What it knows of the engines by now."""
        return self._predictor.learned()

    # -- planning -------------------------------------------------------------------------

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """What to do now."""
        pace = self._pace(model.spec)
        jobs = self._waiting(model, pace)
        sites = [self._site(replica, model, pace, now_ns) for replica in model.ready()]
        draft = _Draft(self._options, model, pace, sites, now_ns)
        draft.fill(jobs, self._promised[model.spec.id])
        self._promised[model.spec.id] = draft.promised()
        return draft.plan()

    def _waiting(self, model: PlanView, pace: Pace) -> list[Job]:
        """What waits, as jobs, up to the first few that are late for good."""
        known = self._jobs[model.spec.id]
        found: dict[str, Job] = {}
        late = 0
        for view in model.waiting(self._options.horizon):
            name = view.request.id
            job = known.get(name)
            if job is None or job.produced != view.produced_tokens:
                left, steepness = self._outlook(model, view.request, view.produced_tokens)
                job = Job.waiting(view, left, pace)
                job.odds = steepness
            job.demoted = view.demoted
            found[name] = job
            late += job.demoted
            if late >= _LATE_MAX:
                break
        self._jobs[model.spec.id] = found
        return list(found.values())

    def _outlook(self, model: PlanView, request: Request, produced: int) -> tuple[float, float]:
        """Tokens that are to come, and how steep chances are that depend on them."""
        predictor = self._predictor
        left = predictor.remaining_tokens(request, produced)
        most = predictor.remaining_quantile(request, produced)
        margin = predictor.pace_margin(model.spec.id) * max(most / left, 1.0)
        return left, odds(margin, 0.0)

    def _site(self, replica: RunningView, model: PlanView, pace: Pace, now_ns: int) -> Site:
        track = self._tracks.get(replica.id)
        if track is None:
            track = Track(now_ns)
        track.advance(pace, now_ns)
        active = [job for job in track.jobs.values() if job.attempt and not job.attempt.leaving]
        places = min(replica.free_places, max(model.room, 0)) + len(active)
        site = Site(replica.id, track, pace, places, self._rules, now_ns)
        for job in active:
            job.set_left(job.produced, job.left)
            left = max(job.end_clock - track.clock, 1.0)
            job.cost_ns = left * _unit_ns(pace, len(active))
            if is_lost(job, pace, left, now_ns):
                job.excuse()
        site.running = active
        return site


def is_lost(job: Job, pace: Pace, left: float, now_ns: int) -> bool:
    """Whether a job that runs would be late even if it had the engine to itself from now on."""
    return now_ns + left * pace.steps_ns[1] > job.end_due_ns


def _unit_ns(pace: Pace, running: int) -> float:
    """Time of the device that one token takes beside so many others."""
    count = max(running, 1)
    return pace.steps_ns[count] / count


class _Draft:
    """One plan while it is made."""

    def __init__(
        self,
        options: "PlanAndTrim",
        model: PlanView,
        pace: Pace,
        sites: Sequence[Site],
        now_ns: int,
    ) -> None:
        self._options = options
        self._model = model
        self._pace = pace
        self._sites = sites
        self._now_ns = now_ns
        self._before = {site.replica_id: list(site.running) for site in sites}
        self._demotions: list[str] = []
        self._refusals: list[Refuse] = []
        self._left_out = 0

    def fill(self, jobs: Sequence[Job], promised: dict[str, str]) -> None:
        """Let in what can be."""
        unit_ns = _unit_ns(self._pace, max(len(site.running) for site in self._sites))
        late: list[Job] = []
        fresh: list[Job] = []
        kept: dict[str, list[Job]] = {site.replica_id: [] for site in self._sites}
        for job in jobs:
            job.cost_ns = job.reading_ns + job.left * unit_ns
            if self._now_ns > job.latest_ns:
                job.excuse()
            if job.is_late or job.demoted:
                late.append(job)
            elif (at := promised.get(job.request.id)) in kept:
                kept[at].append(job)
            else:
                fresh.append(job)
        self._give_up(late)
        for site in self._sites:
            fresh += site.begin(site.running, kept[site.replica_id])
        fresh.sort(key=_cheapest_first)
        self._let_in(fresh)
        self._serve_late([job for job in late if self._options.late == "demote"])

    def _give_up(self, late: Sequence[Job]) -> None:
        for job in late:
            if job.demoted:
                continue
            if self._options.late == "refuse" and job.client_first_ns < 0:
                self._refusals.append(Refuse(job.request.id, detail=_why(job)))
            else:
                self._demotions.append(job.request.id)

    def _let_in(self, fresh: Sequence[Job]) -> None:
        failed: list[Job] = []
        for job in fresh:
            walks = sum(site.walks for site in self._sites)
            if walks > self._options.effort or any(_harder(job, one) for one in failed):
                self._left_out += 1
                continue
            sites = sorted(self._sites, key=lambda site: (-len(site.running), site.replica_id))
            if any(site.insert(job) for site in sites):
                continue
            if self._options.displace_max and any(site.displace(job) for site in sites):
                continue
            failed.append(job)
            self._left_out += 1

    def _serve_late(self, late: Sequence[Job]) -> None:
        """Best effort: only where nobody who can be on time waits, one at a time."""
        if self._left_out or not late:
            return
        for site in self._sites:
            if site.held or any(job.is_late for job in site.running):
                continue
            if len(site.running) < site.places and site.insert(late[0]):
                return

    def promised(self) -> dict[str, str]:
        """Who was let in and waits, and where."""
        return {job.request.id: site.replica_id for site in self._sites for job in site.held}

    def plan(self) -> Plan:
        """What comes of it."""
        starts: list[Start] = []
        pauses: list[str] = []
        waits = self._left_out
        for site in self._sites:
            stays = {job.request.id for job in site.running}
            pauses += [
                job.request.id
                for job in self._before[site.replica_id]
                if job.request.id not in stays
            ]
            free = site.places - len(self._before[site.replica_id])
            for job in site.running:
                if job.attempt is None:
                    if free > 0:
                        starts.append(
                            Start(job.request.id, site.replica_id, expected=_expected(job))
                        )
                    free -= 1
            waits += len(site.held)
        look_ns = self._now_ns + _LOOK_NS if waits else -1
        return Plan(starts, self._refusals, self._demotions, pauses, look_ns)


def _cheapest_first(job: Job) -> tuple[float, float, str]:
    return (job.cost_ns / job.weight, -job.due_ns, job.request.id)


def _harder(job: Job, failed: Job) -> bool:
    """Whether a job that is no easier than one that failed."""
    return (
        job.left >= failed.left
        and job.prompt >= failed.prompt
        and job.first_due_ns <= failed.first_due_ns
        and job.end_due_ns <= failed.end_due_ns
        and job.tpot_ns <= failed.tpot_ns
        and job.weight <= failed.weight
    )


def _expected(job: Job) -> Expectation | None:
    if job.end_ns == NEVER:
        return None
    first_ns = job.client_first_ns if job.client_first_ns >= 0 else round(job.first_ns)
    return Expectation(first_ns, round(job.end_ns), job.chance)


def _why(job: Job) -> str:
    return f"{job.left:.0f} tokens cannot be written in time any more"
