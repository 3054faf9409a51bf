"""Which requests to serve, chosen with full knowledge: trim until none misses, then add back.

Owns the search over sets of requests. Trimming is Moore and Hodgson's rule on a shared server:
when a request misses, the costliest of those it shared the server with goes. Nothing here
is random or timed, so that the same scenario gives the same plan. Called by `bound_schedule`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slalom.twin.bound_clock import Forecast
from slalom.twin.bound_jobs import ModelJobs

#: A request is to blame for another's miss if it ran beside it for this share of its time.
_BESIDE = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests to serve, in which order, how many at a time on one replica."""

    #: id -> latest start, s.
    order: Mapping[str, float]
    window: int


def make_plan(
    model: ModelJobs, shares: Mapping[str, float], *, window: int, events_max: int
) -> Plan:
    """Plan the requests of one model.

    Args:
        model: The requests and what serves them.
        shares: What the relaxed optimum gives to each request: which to try first.
        window: Attempts at a time on one replica.
        events_max: Effort: events of the forecast after which the search ends.
    """
    best: tuple[int, list[int]] = (-1, [])
    replicas = model.engine.model.spec.replicas
    for start in (_from_all, _from_shares):
        forecast = Forecast(model.jobs, model.curve, replicas, model.load_s, window)
        start(forecast, shares)
        _improve(forecast, shares, events_max // 2)
        admitted = [index for index, yes in enumerate(forecast.admitted) if yes]
        if len(admitted) > best[0]:
            best = (len(admitted), admitted)
    order = {model.jobs[index].id: forecast.latest_start_s(index) for index in best[1]}
    return Plan(order, window)


def _from_all(forecast: Forecast, shares: Mapping[str, float]) -> None:  # noqa: ARG001 - one shape
    """Admit all, then trim."""
    _trim(forecast, 0)


def _from_shares(forecast: Forecast, shares: Mapping[str, float]) -> None:
    """Admit what the relaxed optimum serves whole or nearly so, then trim."""
    for index, job in enumerate(forecast.jobs):
        forecast.admitted[index] = shares.get(job.id, 1.0 if job.endless else 0.0) > 0.9
    _trim(forecast, 0)


def _trim(forecast: Forecast, arrival: int) -> None:
    """Remove requests until none misses."""
    while (missed := forecast.play(arrival)) >= 0:
        victim = max(_beside(forecast, missed), key=lambda one: (forecast.cost(one), one))
        forecast.admitted[victim] = False
        arrival = victim


def _beside(forecast: Forecast, missed: int) -> Iterable[int]:
    """The requests that shared the server with one that missed, itself included."""
    yield missed
    jobs = forecast.jobs
    begin_s = jobs[missed].start_s
    end_s = min(forecast.done_s[missed], jobs[missed].done_by_s)
    end_s = end_s if end_s < float("inf") else forecast.started_s[missed]
    for other in range(forecast.arrived):
        if jobs[other].start_s > end_s:
            return
        if other == missed or not forecast.admitted[other]:
            continue
        begun_s, ended_s = forecast.started_s[other], forecast.done_s[other]
        together_s = min(end_s, ended_s) - max(begin_s, begun_s)
        if together_s > 0 and together_s >= _BESIDE * (end_s - begin_s):
            yield other


def _improve(forecast: Forecast, shares: Mapping[str, float], events_max: int) -> None:
    """Add back what fits, cheapest first; then let one go where two others fit instead."""
    jobs = forecast.jobs
    ready = [index for index in range(len(jobs)) if not forecast.admitted[index]]
    ready.sort(key=lambda one: (-round(shares.get(jobs[one].id, 0.0), 3), forecast.cost(one), one))
    for index in ready:
        if forecast.events > events_max:
            return
        _try(forecast, [index], None)
    _swap(forecast, events_max)


def _swap(forecast: Forecast, events_max: int) -> None:
    """Replace one request by two, or by a cheaper one, as long as anything changes."""
    jobs = forecast.jobs
    changed = True
    while changed:
        changed = False
        costly = [index for index in range(len(jobs)) if forecast.admitted[index]]
        costly.sort(key=lambda one: (-forecast.cost(one), one))
        for victim in costly:
            if forecast.events > events_max:
                return
            near = [one for one in _near(forecast, victim) if not forecast.admitted[one]]
            near.sort(key=lambda one: (forecast.cost(one), one))
            if near and _exchange(forecast, victim, near):
                changed = True


def _exchange(forecast: Forecast, victim: int, near: Sequence[int]) -> bool:
    """Let one go, add what fits of the others; keep that if it is more, or cheaper."""
    forecast.admitted[victim] = False
    added: list[int] = []
    for index in near[:6]:
        if _try(forecast, [index], victim):
            added.append(index)
            if len(added) == 2:
                return True
    if len(added) == 1 and forecast.cost(added[0]) < forecast.cost(victim) - 1e-9:
        return True
    for index in added:
        forecast.admitted[index] = False
    forecast.admitted[victim] = True
    forecast.play(min([victim, *added]))
    return False


def _near(forecast: Forecast, victim: int) -> Iterable[int]:
    """Requests whose windows meet the victim's."""
    jobs = forecast.jobs
    for index, job in enumerate(jobs):
        if job.start_s > jobs[victim].done_by_s:
            return
        if index != victim and job.done_by_s > jobs[victim].start_s:
            yield index


def _try(forecast: Forecast, wanted: Sequence[int], removed: int | None) -> bool:
    """Admit some; take that back if anything misses."""
    for index in wanted:
        forecast.admitted[index] = True
    begin = min(wanted if removed is None else [*wanted, removed])
    if forecast.play(begin) < 0:
        return True
    for index in wanted:
        forecast.admitted[index] = False
    forecast.play(begin)
    return False
