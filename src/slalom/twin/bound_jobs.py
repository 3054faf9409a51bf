"""The requests of a scenario as the bound sees them: work, and the window it must be done in.

Owns the reading of objectives as windows, with everything only the world knows: true lengths
and the patience of clients. Each window is the widest any policy could make use of. Called by
`bound_api`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf

from slalom.core.request import Sla
from slalom.twin.bound_curve import RateCurve
from slalom.twin.bound_engine import BestEngine
from slalom.twin.scenario import Arrival, Scenario
from slalom.units import SECOND

#: Pauses of one request that are allowed for unless more were seen.
PAUSES_MAX = 2
#: Rounding of the world's integer nanoseconds, so that none of it can exclude a good request, s.
_GRAIN_S = 1e-6


@dataclass(frozen=True, slots=True)
class Job:
    """One request. Times are seconds of the scenario."""

    id: str
    #: When its engine could begin with it.
    start_s: float
    #: Latest first token and latest last token of a good answer; infinite for none.
    first_by_s: float
    done_by_s: float
    #: Time of its own that its prompt takes, and time the whole replica spends on it, s.
    prefill_s: float
    shared_s: float
    #: Tokens to write after the prompt was read.
    tokens: int
    #: How often it may be started: once, and after each pause.
    starts: int = 1
    #: Tokens that come of reading its context again after a pause, instead of being written.
    spared: int = 0

    @property
    def endless(self) -> bool:
        """Whether it is good whenever it starts, as far as the bound is concerned."""
        return self.first_by_s == inf

    def alone_s(self, curve: RateCurve) -> float:
        """Time it takes of an idle replica, s."""
        return self.prefill_s + self.tokens / curve.alone_per_s

    def latest_start_s(self, curve: RateCurve) -> float:
        """When it must start to be good with a replica to itself, s."""
        first_s = self.prefill_s + curve.first_tokens / curve.alone_per_s
        return min(self.first_by_s - first_s, self.done_by_s - self.alone_s(curve))


@dataclass(frozen=True, slots=True)
class ModelJobs:
    """One model with its engine at its best and the requests for it, in order of arrival."""

    engine: BestEngine
    #: When the first replica can be ready at the earliest, s.
    load_s: float
    jobs: tuple[Job, ...]

    @property
    def curve(self) -> RateCurve:
        """The speed of one replica."""
        return self.engine.curve

    def possible(self, job: Job) -> bool:
        """Whether a job would be good if it had a replica for itself."""
        spared_s = job.spared / self.curve.alone_per_s
        return max(job.start_s, self.load_s) <= job.latest_start_s(self.curve) + spared_s


def jobs_of(scenario: Scenario, pauses_max: int = PAUSES_MAX) -> list[ModelJobs]:
    """The requests of a scenario, model by model; those for unknown models can never be good.

    Args:
        scenario: Its arrivals must be re-iterable.
        pauses_max: No policy pauses a request more often than this.
    """
    unseen = scenario.faults.lost > 0 or scenario.faults.late > 0
    links = {link.name: link.bytes_per_s for link in scenario.links}
    groups: dict[str, list[tuple[Arrival, bool]]] = {m.spec.id: [] for m in scenario.models}
    closes_ns = scenario.until_ns if scenario.drain is None else scenario.drain.at_ns
    for arrival, follows in requests_of(scenario.arrivals):
        late = not follows and arrival.request.arrived_ns > closes_ns
        if arrival.request.model in groups and not late:
            groups[arrival.request.model].append((arrival, follows))
    found = []
    for model in scenario.models:
        group = groups[model.spec.id]
        engine = BestEngine(model, [arrival for arrival, _ in group])
        jobs = []
        for arrival, follows in group:
            pauses = pauses_max if arrival.request.resumable else 0
            job = _job(arrival, engine, unseen=unseen, follows=follows)
            spared = 0 if engine.writes_all else min(pauses, job.tokens)
            jobs.append(replace(job, starts=1 + pauses, spared=spared))
        rates = [model.load.bytes_per_s, *(links.get(name, 1) for name in model.load.links)]
        load_s = model.load.fixed_ns / SECOND - _GRAIN_S
        load_s += model.load.weights(model.spec) / min(rates)
        jobs.sort(key=lambda job: (job.start_s, job.id))
        found.append(ModelJobs(engine, max(load_s, 0.0), tuple(jobs)))
    return found


def requests_of(arrivals: Iterable[Arrival]) -> Iterator[tuple[Arrival, bool]]:
    """All requests, each with whether it arrives only after the answer to another one."""
    for arrival in arrivals:
        yield arrival, False
        following = arrival.then
        while following is not None:
            yield following, True
            following = following.then


def _job(arrival: Arrival, engine: BestEngine, *, unseen: bool, follows: bool) -> Job:
    request, work = arrival.request, engine.work(arrival)
    first_ns, done_ns = _limits_ns(request.sla, max(arrival.output_tokens, 1), unseen=unseen)
    chain_s = inf
    if request.link is not None and request.link.has_deadline:
        first_ns, done_ns = None, request.link.deadline_ns - request.arrived_ns
        chain_s = request.link.deadline_ns / SECOND + _GRAIN_S
    wanted_ns = (done_ns, arrival.patience_ns, arrival.stale_ns)
    limits = [limit for limit in wanted_ns if limit is not None and limit >= 0]
    arrived_s = request.arrived_ns / SECOND
    done_by_s = arrived_s + min(limits) / SECOND + _GRAIN_S if limits else inf
    first_by_s = done_by_s if first_ns is None else arrived_s + first_ns / SECOND + _GRAIN_S
    if follows:  # it moves with the answer it follows: no time is too late but a chain's deadline
        arrived_s, first_by_s, done_by_s = 0.0, inf, chain_s
    return Job(
        id=request.id,
        start_s=arrived_s + work.ingest_s,
        first_by_s=min(first_by_s, done_by_s),
        done_by_s=done_by_s,
        prefill_s=work.prefill_s,
        shared_s=work.shared_s,
        tokens=work.tokens,
    )


def _limits_ns(sla: Sla, output_tokens: int, *, unseen: bool) -> tuple[int | None, int | None]:
    """Longest times to the first and to the last token, ns from the arrival; None for none.

    An answer whose first token came in time and whose mean gap holds ends by
    TTFT + TPOT x gaps; without a TTFT objective a mean gap bounds no time. Where telling of a
    first token may be lost (`unseen`), that sum is all that an answer is held to.
    """
    if sla.ttft_ns is None or sla.tpot_ns is None:
        return sla.ttft_ns, sla.e2e_ns
    sum_ns = sla.ttft_ns + sla.tpot_ns * (output_tokens - 1)
    done_ns = sum_ns if sla.e2e_ns is None else min(sum_ns, sla.e2e_ns)
    return (None if unseen else sla.ttft_ns), done_ns
