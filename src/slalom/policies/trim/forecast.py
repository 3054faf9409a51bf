"""When jobs would end if they ran side by side: walks along a replica's token clock.

Owns the two walks. `all_at_once` is one pass over sorted ends; `one_by_one` lets jobs wait for
others. Both write the expected times into the jobs and return those that would be late. The inner
loop of every decision: kept plain and quick.
"""

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from slalom.policies.trim.jobs import Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track


def all_at_once(track: Track, pace: Pace, jobs: Sequence[Job], now_ns: int) -> list[Job]:
    """Those that miss an objective if all of these run from now on.

    Args:
        track: The replica's clock.
        pace: Its step times.
        jobs: What runs on it and goes on, and what would start.
        now_ns: Now.
    """
    at_ns = max(float(now_ns), track.read_until_ns)
    clock, count, context = track.clock, len(jobs), track.context
    late: list[Job] = []
    ends: list[tuple[float, int, Job]] = []
    for index, job in enumerate(jobs):
        if job.attempt is None:
            at_ns += job.reading_ns
            _begin(job, at_ns, pace, count, late)
            context += job.context + job.produced
            ends.append((clock + job.left, index, job))
        else:
            ends.append((job.end_clock, index, job))
    ends.sort()
    steps_ns, context_ns = pace.steps_ns, pace.context_ns
    for end, _, job in ends:
        tokens = end - clock
        if tokens > 0.0:
            half = 0.5 * count * tokens
            at_ns += tokens * (steps_ns[count] + context_ns * (context + half))
            context += 2.0 * half
            clock = end
        count -= 1
        context -= job.context + job.produced + job.left
        job.end_ns = at_ns
        if at_ns > job.end_due_ns or at_ns - job.first_ns > job.tpot_ns:
            late.append(job)
    return late


@dataclass(frozen=True, slots=True)
class Line:
    """Jobs that wait for others."""

    #: In the order in which they start: one for one that ends, and all that places allow once
    #: the holders have ended.
    jobs: Sequence[Job]
    #: Requests for whose sake they wait, by id; none if they wait for places.
    holders: Collection[str]
    #: The most that may run.
    places: int


def one_by_one(
    track: Track, pace: Pace, running: Sequence[Job], line: Line, now_ns: int
) -> list[Job]:
    """Those that miss an objective if some run from now on and others wait for them.

    Args:
        track: The replica's clock.
        pace: Its step times.
        running: What runs from now on.
        line: What waits.
        now_ns: Now.
    """
    held, holders, places = line.jobs, line.holders, line.places
    at_ns = max(float(now_ns), track.read_until_ns)
    clock, context = track.clock, track.context
    late: list[Job] = []
    ends: list[tuple[float, int, Job]] = []
    begun, window = clock, len(running)
    context -= sum(job.context + job.produced for job in held if job.attempt is not None)
    for index, job in enumerate(running):
        if job.attempt is None:
            at_ns += job.reading_ns
            _begin(job, at_ns, pace, window, late)
            context += job.context + job.produced
            ends.append((clock + job.left, index, job))
        else:
            ends.append((job.end_clock, index, job))
    heapq.heapify(ends)
    waits, following = len(holders), 0
    steps_ns, context_ns = pace.steps_ns, pace.context_ns
    while ends or following < len(held):
        limit = min(window, places) if waits and ends else max(places, 1)
        while following < len(held) and len(ends) < limit:
            job = held[following]
            following += 1
            held_tokens = job.context + job.produced
            again = job.attempt is not None
            at_ns += pace.again_ns(int(held_tokens), len(ends)) if again else job.reading_ns
            if job.client_first_ns < 0:
                _begin(job, at_ns, pace, len(ends) + 1, late)
            context += held_tokens
            left = job.left if job.attempt is None else max(job.end_clock - begun, 1.0)
            heapq.heappush(ends, (clock + left, window + following, job))
        end, _, job = heapq.heappop(ends)
        count = len(ends) + 1
        tokens = end - clock
        if tokens > 0.0:
            half = 0.5 * count * tokens
            at_ns += tokens * (steps_ns[count] + context_ns * (context + half))
            context += 2.0 * half
            clock = end
        context -= job.context + job.produced + job.left
        job.end_ns = at_ns
        if job.request.id in holders:
            waits -= 1
        if at_ns > job.end_due_ns or at_ns - job.first_ns > job.tpot_ns:
            late.append(job)
    return late


def _begin(job: Job, read_ns: float, pace: Pace, count: int, late: list[Job]) -> None:
    """Its prompt is read: the first token follows with the step."""
    first_ns = read_ns + pace.cost.request_ns + pace.steps_ns[count]
    if job.client_first_ns >= 0:
        return
    job.first_ns = first_ns
    if first_ns > job.first_due_ns:
        late.append(job)
