"""What is told of a job: when it begins and ends, and the chance that it is on time.

Owns the reading of forecasts for clients, and the question of what would become of a newcomer.
Called by `draft`, `at_once` and `planner`.
"""

from collections.abc import Iterable, Mapping, Sequence

from slalom.core.planning import Expectation
from slalom.policies.trim.fitting import Site
from slalom.policies.trim.jobs import Job


def expectation(job: Job, replica_id: str, now_ns: int) -> Expectation:
    """What the last forecast says of a job."""
    begun_ns = max(round(job.first_ns - job.reading_ns), now_ns)
    first_ns = job.client_first_ns if job.client_first_ns >= 0 else round(job.first_ns)
    rest_ns = round(job.rest_ns) if job.rest_ns >= 0.0 else -1
    return Expectation(first_ns, round(job.end_ns), job.chance, begun_ns, replica_id, rest_ns)


def best_of(
    job: Job,
    sites: Iterable[Site],
    waiting: Sequence[Job],
    promised: Mapping[str, str],
    now_ns: int,
) -> Expectation | None:
    """What is to be expected of a newcomer where that is best; None for no site.

    Args:
        job: The newcomer.
        sites: The replicas.
        waiting: What waits.
        promised: Where those of them wait that were let in, by request.
        now_ns: Now.
    """
    best: Expectation | None = None
    known = {one.request.id: one for one in waiting}
    for site in sites:
        site.begin()
        here = [one for one, at in promised.items() if at == site.replica_id]
        site.keep([known[one] for one in here if one in known])
        if site.insert(job) or site.displace(job):
            site.settle()
        else:
            site.try_anyway(job)
        found = expectation(job, site.replica_id, now_ns)
        if best is None or found.chance > best.chance:
            best = found
    return best
