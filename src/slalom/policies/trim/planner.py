"""The decisions of `plan-and-trim`: who starts, who waits, who gives way, who is late for good.

Owns what one scheduler's planner knows: the token clock of each replica, what has been found out
about waiting requests, and who was let in and has to wait for others. Called by the core.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from slalom.core.chain import Later
from slalom.core.planning import (
    Expectation,
    Learned,
    Moment,
    Observation,
    Plan,
    PlanView,
    RunningView,
)
from slalom.core.request import ModelSpec, Request
from slalom.policies.prediction.predictor import (
    Predictor,
    PredictorOptions,
    alone_on_devices,
)
from slalom.policies.trim.absence import find_hasty, find_lost, refuse_all
from slalom.policies.trim.at_once import start_at_once
from slalom.policies.trim.attention import AS_ONE, Attention, Scope, widen, with_room
from slalom.policies.trim.draft import CALM_AHEAD, Draft, is_lost, unit_of
from slalom.policies.trim.expecting import best_of
from slalom.policies.trim.fitting import Site
from slalom.policies.trim.floors import Floors, was_good
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.lookout import Memory, fastest, likeliest, looked_at
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.presence import Presence
from slalom.policies.trim.rests import Rests
from slalom.policies.trim.rules import Manners, Rules
from slalom.policies.trim.sequels import Sequels
from slalom.policies.trim.track import Track
from slalom.policies.trim.trust import odds
from slalom.units import MS, SECOND

if TYPE_CHECKING:
    from slalom.policies.trim.plan_and_trim import PlanAndTrim

#: Late requests that one plan looks at.
_LATE_MAX = 4
#: Of step times, before enough was observed.
_MARGIN_START = 1.01
#: No request is ordered as if due later than this after its arrival.
_AGEING_NS = 60 * SECOND
_NOTHING = Plan()


class Trimmer:
    """Plans for one scheduler.

    Args:
        models: Every model.
        options: What may be done.
    """

    def __init__(self, models: Sequence[ModelSpec], options: "PlanAndTrim") -> None:
        self._options = options
        self._predictor = Predictor(
            models,
            PredictorOptions(
                calibrate=options.calibrate,
                learn_lengths=options.learn_lengths,
                margin_start=_MARGIN_START,
            ),
        )
        self._memory = Memory(self._predictor)
        self._rules = Rules.of(options)
        self._alone = alone_on_devices(models)
        self._manners = Manners.of(options, shares=False)
        #: Where models share a device.
        self._sharing = Manners.of(options, shares=True)
        self._floors = Floors(options.floor)
        self._presence = Presence((model.id for model in models), options.hold_ms * MS)
        self._sequels = Sequels()
        self._rests = Rests(models, self._predictor, self._pace)
        #: model -> by what lengths those that wait were measured.
        self._measured_by: dict[str, int] = {}
        self._paces: dict[tuple[str, float], Pace] = {}
        self._tracks: dict[str, Track] = {}
        #: model -> request -> job, of those that waited in the last plan.
        self._jobs: dict[str, dict[str, Job]] = {model.id: {} for model in models}
        #: model -> request -> replica, of those that were let in and wait.
        self._promised: dict[str, dict[str, str]] = {model.id: {} for model in models}
        self._attention = {model.id: Attention() for model in models}
        #: Models that wanted to be asked again when they were last planned for.
        self._restless: set[str] = set()

    def __repr__(self) -> str:
        return f"Trimmer(replicas={len(self._tracks)}, {self._predictor!r})"

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on; the clocks of `fresh` ones begin anew."""
        self._predictor.models_changed(models, fresh)
        self._presence.models_changed(model.id for model in models)
        self._rests.models_changed(models)
        self._alone = alone_on_devices(models)
        stay = {model.id for model in models}.difference(fresh)
        self._jobs = {m.id: self._jobs[m.id] if m.id in stay else {} for m in models}
        self._promised = {m.id: self._promised[m.id] if m.id in stay else {} for m in models}
        self._attention = {m.id: self._attention.get(m.id) or Attention() for m in models}
        self._restless &= stay
        self._paces = {at: pace for at, pace in self._paces.items() if at[0] in stay}
        self._measured_by = {name: by for name, by in self._measured_by.items() if name in stay}
        self._tracks = {
            name: track for name, track in self._tracks.items() if name.rpartition("#")[0] in stay
        }

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The first instant at which an objective breaks, capped by ageing.

        Of a call of a chain: when it must have its answer so that the rest can follow.
        """
        link = request.link
        if link is not None and self._is_chained(request):
            latest_ns = link.deadline_ns - round(self._rests.of(link.rest).loaded_ns)
            return min(latest_ns, request.arrived_ns + _AGEING_NS)
        due_ns = request.sla.first_deadline_ns(request.arrived_ns, default_ns=default_deadline_ns)
        return min(due_ns, request.arrived_ns + _AGEING_NS)

    def learned(self) -> Sequence[Learned]:
        """What it knows of the engines by now."""
        return self._predictor.learned()

    def _is_chained(self, request: Request) -> bool:
        """Whether what remains of its chain decides when a request is due."""
        link = request.link
        return link is not None and link.has_deadline and self._options.chains

    # -- learning -------------------------------------------------------------------------

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Follow the clocks."""
        self._predictor.observe(seen, model, now_ns)
        attempt, attention = seen.attempt, self._attention[model.spec.id]
        if attempt is None:
            attention.come()
            if model.spec.id not in self._alone:
                self._presence.arrived(seen.request, model, now_ns)
            self._sequels.asked(seen.request)
            return
        pace = self._pace(model.spec, attempt.speed)
        track = self._track(attempt.replica_id, now_ns)
        if seen.moment is Moment.STARTED:
            left, steepness = self._outlook(model, seen.request, attempt.resumed_tokens)
            known = self._jobs[model.spec.id].pop(seen.request.id, None)
            if known is not None and known.begin(attempt, left):
                job = known
            else:
                rest_ns = 0.0 if self._is_chained(seen.request) else -1.0
                job = Job.running(attempt, left, step_ns=pace.steps_ns[1], rest_ns=rest_ns)
            job.odds = steepness
            job.cached = self._memory.cached(model, seen.request, attempt.resumed_tokens)
            job.measure(pace, attempt.replica_id)
            job.weight = self._weight(seen.request)
            track.start(attempt, job, pace, now_ns)
            self._promised[model.spec.id].pop(seen.request.id, None)
        elif seen.moment is Moment.TOLD:
            produced = attempt.resumed_tokens + attempt.output_tokens
            left, steepness = self._outlook(model, seen.request, produced)
            track.told(attempt, left, steepness, pace, now_ns)
            if attempt.first_ns == now_ns:
                attention.stir(attempt.replica_id)
        else:
            attention.come()
            attention.stir(attempt.replica_id)
            track.over(attempt, pace, now_ns)
            if seen.finished:
                self._sequels.answered(seen.request)
                self._floors.ended(seen.request, good=was_good(attempt, now_ns))

    def _track(self, replica_id: str, now_ns: int) -> Track:
        track = self._tracks.get(replica_id)
        if track is None:
            track = self._tracks[replica_id] = Track(now_ns)
        return track

    def _pace(self, spec: ModelSpec, speed: float = 1.0) -> Pace:
        cost = self._predictor.cost(spec.id, speed=speed)
        pace = self._paces.get((spec.id, speed))
        if pace is None or pace.cost is not cost:
            pace = self._paces[spec.id, speed] = Pace(cost, spec.places, speed)
        return pace

    # -- planning -------------------------------------------------------------------------

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """What to do now."""
        name = model.spec.id
        shown = looked_at(model)
        pace = self._pace(model.spec, fastest(shown))
        pace.kept_share = self._predictor.heads(name).share
        self._presence.is_there(name)
        waiting = self._waiting(model, pace, now_ns)
        promised, attention = self._promised[name], self._attention[name]
        scope = attention.scope(model, shown, waiting, promised, now_ns)
        if scope is None:
            return attention.on(_NOTHING, now_ns)
        tried: list[Site] = []
        if not scope.promised and (len(scope.waiting) == 1 or len(shown) == 1):
            replica = likeliest(model, scope.waiting[0], shown) if len(shown) > 1 else shown[0]
            if replica.id not in scope.aside.values():
                plan = self._at_once(model, scope.waiting, replica, now_ns)
                if plan is not None:
                    return attention.on(plan, now_ns) if scope.aside else plan
                if len(shown) > 1:
                    tried = [self._site(replica, model, now_ns)]
                    draft = self._draft(model, pace, tried, replica.ready_ns, now_ns)
                    is_one_of_many = len(shown) < model.ready_count()
                    if draft.fill_first(scope.waiting, is_one_of_many=is_one_of_many):
                        return self._planned(model, draft, scope, now_ns)
        replicas = looked_at(model, scope.waiting, scope.promised)
        if not scope.waiting:  # there is room for those who stand aside
            replicas = with_room(shown)
        scope = widen(scope, waiting, promised, replicas)
        known = {site.replica_id: site for site in tried}
        sites = [known.get(one.id) or self._site(one, model, now_ns) for one in replicas]
        self._rests.busy(name, sum(len(site.running) for site in sites), len(sites))
        draft = self._draft(model, pace, sites, min(one.ready_ns for one in replicas), now_ns)
        draft.fill(scope.waiting, scope.promised)
        for job in draft.given_up:
            self._floors.ended(job.request, good=False)
        if scope.aside:
            scope = scope.without(draft.relieve(scope.next_in_line(self._jobs[name])))
        return self._planned(model, draft, scope, now_ns)

    def _at_once(
        self, model: PlanView, waiting: Sequence[Job], replica: RunningView, now_ns: int
    ) -> Plan | None:
        """Start all that waits where there is leeway for it; None if a plan has to be made."""
        track, pace = self._tracks.get(replica.id), self._pace(model.spec, replica.speed)
        limits = (model.room, CALM_AHEAD * self._manners.read_ahead_ns)
        plan = start_at_once(waiting, replica, track, pace, limits, now_ns)
        if plan is not None and track is not None and model.ready_count() == 1:
            self._rests.busy(model.spec.id, len(track.jobs), 1)
        return plan

    def _planned(self, model: PlanView, draft: Draft, scope: Scope, now_ns: int) -> Plan:
        """The plan; those who stand aside go on standing where they stood."""
        name, plan, attention = model.spec.id, draft.plan(), self._attention[model.spec.id]
        self._promised[name] = {**scope.aside, **draft.promised}
        attention.planned(self._promised[name], draft.turns, draft.look_ns, model.ready_count())
        if plan.look_ns < 0:
            self._restless.discard(name)
        else:
            self._restless.add(name)
        return attention.on(plan, now_ns) if scope.aside else plan

    def _draft(
        self, model: PlanView, pace: Pace, sites: Sequence[Site], up_ns: int, now_ns: int
    ) -> Draft:
        manners = self._manners if model.spec.id in self._alone else self._sharing
        patience = max(len(self._restless) / AS_ONE, self._attention[model.spec.id].patience)
        return Draft(manners, pace, sites, max(model.room, 0), up_ns, now_ns, patience=patience)

    def foresee(self, model: PlanView, now_ns: int) -> Plan:
        """Refuse what would be late even if the model were brought up now, if late ones are.

        The last of them waits on if nobody else does: someone has to want the model. While the
        model is kept out for others, that is for a while only.
        """
        manners = self._manners
        waiting = self._waiting(model, self._pace(model.spec), now_ns)
        hasty = find_hasty(waiting, manners)
        if not hasty:
            return _NOTHING
        ready_ns = model.ready_at_ns(now_ns)
        kept_out = self._presence.is_kept_out(model.spec.id)
        lost, look_ns = find_lost(hasty, waiting, manners, ready_ns, now_ns, kept_out=kept_out)
        for job in lost:
            self._floors.ended(job.request, good=False)
        return refuse_all(lost, ready_ns - now_ns, look_ns)

    def pays(self, model: PlanView, victims: Sequence[PlanView], now_ns: int) -> bool:
        """Whether a model that is waited for is worth more than those that would give way."""
        if not self._options.hold_ms:
            return True
        waiting = self._waiting(model, self._pace(model.spec), now_ns)
        return self._presence.pays(model, waiting, victims, now_ns)

    def estimate(self, request: Request, model: PlanView, now_ns: int) -> Expectation | None:
        """What is to be expected if a request came now: the plan with it, which is then dropped."""
        pace = self._pace(model.spec, fastest(looked_at(model)))
        job = Job(request, 0, 1.0, -1)
        left, job.odds = self._outlook(model, request, 0)
        job.rest_ns = 0.0 if self._is_chained(request) else -1.0
        job.set_left(0, left)
        job.cached = self._memory.cached(model, request, 0)
        self._follow(job, pace, now_ns)
        job.measure(pace)
        job.cost_ns = job.reading_ns + left * unit_of(pace, 1) + job.rest_work_ns
        promised, waiting = self._promised[model.spec.id], self._waiting(model, pace, now_ns)
        looked = looked_at(model, (job,), promised)
        sites = (self._site(replica, model, now_ns) for replica in looked)
        return best_of(job, sites, waiting, promised, now_ns)

    def foretell(self, later: Later) -> int:
        """What such a call takes at the present load, without the gap before it, ns."""
        return round(self._rests.of((later,)).loaded_ns) - later.gap_ns

    def _waiting(self, model: PlanView, pace: Pace, now_ns: int) -> list[Job]:
        """What waits, as jobs, up to the first few that are late for good."""
        name, version = model.spec.id, self._predictor.lengths_version
        known = self._jobs[name] if self._measured_by.get(name, 0) == version else {}
        self._measured_by[name] = version
        found: dict[str, Job] = {}
        late = 0
        for view in model.waiting(self._options.horizon):
            request, produced = view.request, view.produced_tokens
            job = known.get(request.id)
            if job is None or job.produced != produced:
                left, steepness = self._outlook(model, request, produced)
                rest_ns = 0.0 if self._is_chained(request) else -1.0
                job = Job.waiting(view, left, step_ns=pace.steps_ns[1], rest_ns=rest_ns)
                job.odds = steepness
                job.cached = self._memory.cached(model, request, produced)
                job.measure(pace)
            elif request.prefix or produced:
                heads = self._memory.version(model, request)
                if job.cached_by != heads:
                    job.cached = self._memory.cached(model, request, produced)
                    job.cached_by = heads
                job.measure(pace)
            else:
                job.settle(pace, "")
            if request.link is not None or self._floors.weighs(request):
                job.weight = self._weight(request)
            if request.link is not None:
                self._follow(job, pace, now_ns)
                job.admitted, job.near = view.admitted, view.near
            elif request.prefix:
                job.goes_on = self._sequels.expected(request)
            job.demoted = view.demoted
            found[request.id] = job
            if job.demoted:
                late += 1
                if late >= _LATE_MAX:
                    break
        self._jobs[name] = found
        return list(found.values())

    def _weight(self, request: Request) -> float:
        """What it is worth that a request is on time: a chain as much as its calls together."""
        calls = 1
        if request.link is not None and self._is_chained(request):
            calls = max(request.link.steps, request.link.step)
        return self._floors.weight(request) * request.weight * calls

    def _follow(self, job: Job, pace: Pace, now_ns: int) -> None:
        """Find out by when a waiting call of a chain must have its answer."""

        def is_late(one: Job) -> bool:
            one.measure(pace)
            return now_ns > one.latest_ns

        self._rests.apply(job, is_late)
        job.measure(pace)

    def _outlook(self, model: PlanView, request: Request, produced: int) -> tuple[float, float]:
        """Tokens that are to come, and how steep chances are that depend on them."""
        predictor = self._predictor
        left = predictor.remaining_tokens(request, produced)
        most = predictor.remaining_quantile(request, produced)
        margin = predictor.pace_margin(model.spec.id) * max(most / left, 1.0)
        return left, odds(margin, 0.0)

    def _site(self, replica: RunningView, model: PlanView, now_ns: int) -> Site:
        pace = self._pace(model.spec, replica.speed)
        track = self._track(replica.id, now_ns)
        track.advance(pace, now_ns)
        for job in track.overdue():
            written = job.produced + job.left + track.clock - job.end_clock
            left, job.odds = self._outlook(model, job.request, int(written))
            track.goes_on(job, left)
        active = []
        for job in track.jobs.values():
            if job.attempt is None or job.attempt.leaving:
                continue
            if job.is_late:  # the last plan may have excused it
                job.set_left(job.produced, job.left)
            active.append(job)
        unit_ns, step_ns, clock = unit_of(pace, len(active)), pace.steps_ns[1], track.clock
        for job in active:
            left = max(job.end_clock - clock, 1.0)
            if job.rest_ns >= 0.0:
                self._rests.apply(job, lambda one, left=left: is_lost(one, pace, left, now_ns))  # type: ignore[misc]
            job.cost_ns = left * unit_ns + job.rest_work_ns
            if now_ns + left * step_ns > job.end_due_ns:  # as `is_lost`
                job.excuse()
        places = min(replica.free_places, max(model.room, 0)) + len(active)
        site = Site(replica.id, track, pace, places, self._rules, now_ns)
        site.take(active)
        return site
