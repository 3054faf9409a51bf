"""When jobs would end if they ran side by side: walks along a replica's token clock.

Owns the two walks. `all_at_once` is one pass over sorted ends; `one_by_one` lets jobs wait for
others. Both write the expected times into the jobs and return those that would be late; where only
that there is one matters, they stop there. The inner loop of every decision: kept plain and quick.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.track import Track

#: A job that runs in a walk: the clock's reading at its end, its rank among those that end with
#: it, the tokens that come free then, when that is due, and the job.
Entry = tuple[float, int, float, float, Job]
#: Ranks of those that begin, and of those that begin later: behind those that run.
_BEGINS, _FOLLOWS = 1 << 20, 1 << 21


def entries(active: Iterable[Job], tolerated: AbstractSet[Job] = frozenset()) -> list[Entry]:
    """What runs, in the order of the ends.

    Args:
        active: Jobs that run.
        tolerated: Those of them that nobody minds to be late.
    """
    found: list[Entry] = []
    if tolerated:
        for rank, job in enumerate(active):
            found.append(_entry(job, job.end_clock, rank, tolerated))
        return sorted(found)
    for rank, job in enumerate(active):  # as `_entry`, for each plan and all that runs
        due_ns = min(job.end_due_ns, job.first_ns + job.tpot_ns)
        found.append((job.end_clock, rank, job.freed, due_ns, job))
    found.sort()
    return found


def _entry(job: Job, end: float, rank: int, tolerated: AbstractSet[Job] = frozenset()) -> Entry:
    due_ns, span_due_ns = job.end_due_ns, job.first_ns + job.tpot_ns
    if tolerated and job in tolerated:
        due_ns = NEVER
    elif span_due_ns < due_ns:
        due_ns = span_due_ns
    return (end, rank, job.freed, due_ns, job)


def all_at_once(
    track: Track,
    pace: Pace,
    ends: list[Entry],
    fresh: Sequence[Job],
    now_ns: int,
    *,
    first_only: bool = False,
) -> list[Job]:
    """Those that miss an objective if all of these run from now on.

    Args:
        track: The replica's clock.
        pace: Its step times.
        ends: What runs on it and goes on, in the order of the ends; used up.
        fresh: What would start, in the order in which it is read.
        now_ns: Now.
        first_only: Stop at the first that is late; times behind it are not forecast.
    """
    clock, count = track.clock, len(ends) + len(fresh)
    late: list[Job] = []
    at_ns, context = _all_begin(now_ns, track, pace, ends, fresh, late)
    if late and first_only:
        return late
    steps_ns, context_ns = pace.steps_ns, pace.context_ns
    for end, _, freed, due_ns, job in ends:
        tokens = end - clock
        if tokens > 0.0:
            half = 0.5 * count * tokens
            at_ns += tokens * (steps_ns[count] + context_ns * (context + half))
            context += 2.0 * half
            clock = end
        count -= 1
        context -= freed
        job.end_ns = at_ns
        if at_ns > due_ns:
            late.append(job)
            if first_only:
                break
    return late


class Line(NamedTuple):
    """Jobs that wait for others."""

    #: In the order in which they start: one for one that ends, and all that places allow once
    #: the holders have ended.
    jobs: Sequence[Job]
    #: For whose sake they wait; none if they wait for places.
    holders: AbstractSet[Job]
    #: The most that may run.
    places: int
    #: Who may be late.
    tolerated: AbstractSet[Job] = frozenset()
    #: Whether any that is late ends the walk; else only a holder does.
    first_only: bool = False


def one_by_one(
    track: Track, pace: Pace, ends: list[Entry], fresh: Sequence[Job], line: Line, now_ns: int
) -> list[Job]:
    """Those that miss an objective if some run from now on and others wait for them.

    Once a holder is among them the walk ends: times behind that are not forecast.

    Args:
        track: The replica's clock.
        pace: Its step times.
        ends: What runs and goes on, in the order of the ends; used up.
        fresh: What would start now, in the order in which it is read.
        line: What waits.
        now_ns: Now.
    """
    held, holders = line.jobs, line.holders
    clock, window = track.clock, len(ends) + len(fresh)
    late: list[Job] = []
    at_ns, context = _all_begin(now_ns, track, pace, ends, fresh, late)
    context -= sum(job.held for job in held if job.attempt is not None)
    if late and (line.first_only or not holders.isdisjoint(late)):
        return late
    waits, following, place = len(holders), 0, 0
    steps_ns, context_ns, request_ns = pace.steps_ns, pace.context_ns, pace.cost.request_ns
    narrow, wide, last = min(window, line.places), max(line.places, 1), len(held)
    while place < len(ends) or following < last:
        count = len(ends) - place
        limit = narrow if waits and count else wide
        while following < last and count < limit:
            job = held[following]
            left = job.left
            if job.attempt is None:
                at_ns += job.reading_ns
            else:
                at_ns += pace.again_ns(int(job.held), count)
                left = max(job.end_clock - track.clock, 1.0)
            count += 1
            if job.client_first_ns < 0:
                job.first_ns = first_ns = at_ns + request_ns + steps_ns[count]
                if first_ns > job.first_due_ns:
                    late.append(job)
            context += job.held
            insort(ends, _entry(job, clock + left, _FOLLOWS + following, line.tolerated), place)
            following += 1
        end, _, freed, due_ns, job = ends[place]
        place += 1
        tokens = end - clock
        if tokens > 0.0:
            half = 0.5 * count * tokens
            at_ns += tokens * (steps_ns[count] + context_ns * (context + half))
            context += 2.0 * half
            clock = end
        context -= freed
        job.end_ns = at_ns
        waits -= job in holders
        if at_ns > due_ns:
            late.append(job)
            if line.first_only or job in holders:
                break
    return late


def _all_begin(
    now_ns: int,
    track: Track,
    pace: Pace,
    ends: list[Entry],
    fresh: Sequence[Job],
    late: list[Job],
) -> tuple[float, float]:
    """Some begin beside what runs; when they are read, and what all hold then, tokens."""
    at_ns = max(float(now_ns), track.read_until_ns)
    count, context = len(ends) + len(fresh), track.context
    for rank, job in enumerate(fresh, _BEGINS):
        at_ns += job.reading_ns
        _begin(job, at_ns, pace, count, late)
        context += job.held
        insort(ends, _entry(job, track.clock + job.left, rank))
    return at_ns, context


def _begin(job: Job, read_ns: float, pace: Pace, count: int, late: list[Job]) -> None:
    """Its prompt is read: the first token follows with the step."""
    if job.client_first_ns >= 0:
        return
    job.first_ns = first_ns = read_ns + pace.cost.request_ns + pace.steps_ns[count]
    if first_ns > job.first_due_ns:
        late.append(job)
