"""Starts without a plan, where there is leeway: what a plan would decide, at a tenth of its cost.

Owns the conditions under which newcomers start as they come. Called by `planner`.
"""

from collections.abc import Sequence
from operator import attrgetter

from slalom.core.planning import Plan, RunningView, Start
from slalom.policies.trim.expecting import expectation
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track


def start_at_once(
    jobs: Sequence[Job],
    replica: RunningView,
    track: Track | None,
    pace: Pace,
    limits: tuple[int, int],
    now_ns: int,
) -> Plan | None:
    """Start all that waits on one replica; None where a plan has to be made.

    Args:
        jobs: What waits.
        replica: Where it would start.
        track: Its clock.
        pace: Its step times.
        limits: Starts that the device's window allows; and a prompt is sent if no more than this is
            to be read before it, ns.
        now_ns: Now.
    """
    leeway = track.leeway if track is not None else None
    if track is None or leeway is None or not leeway.lasts(pace, now_ns):
        return None
    for job in jobs:
        if job.demoted or job.is_late or now_ns > job.latest_ns:
            return None
        job.settle(pace, replica.id)
    jobs = sorted(jobs, key=attrgetter("turn"))
    read_ns = max(track.read_until_ns, float(now_ns))
    before_ns = read_ns + sum([job.reading_ns for job in jobs[:-1]]) - now_ns
    room, ahead_ns = limits
    if len(jobs) > min(replica.free_places, room) or before_ns > ahead_ns:
        return None
    if not leeway.takes(jobs, len(track.jobs), read_ns, now_ns):
        return None
    return Plan([_start(job, replica.id, now_ns) for job in jobs])


def _start(job: Job, replica_id: str, now_ns: int) -> Start:
    return Start(job.request.id, replica_id, expected=expectation(job, replica_id, now_ns))
