"""A forecast of one model's replicas on a shared token clock, quick enough for thousands of tries.

Owns the forecast and its saved states. All attempts of a replica gain tokens at one pace, so that
every end is a reading of one clock. It is close to the engine models, not equal to them: what a
plan is worth is decided by playing it in the twin. Called by `bound_plan`.
"""

import heapq
from collections.abc import Sequence

from slalom.twin.bound_curve import RateCurve
from slalom.twin.bound_jobs import Job

_NEVER = float("inf")


class _Replica:
    """One replica: its clock, and what will happen on it."""

    __slots__ = ("clock", "marks", "now_s", "reads", "running", "stalled_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        #: Tokens written by an attempt that would have run since the beginning.
        self.clock = 0.0
        #: The clock stands until then: a prompt is read that all attempts wait for.
        self.stalled_s = 0.0
        #: (time, job): prompts being read.
        self.reads: list[tuple[float, int]] = []
        #: (clock, job): ends of answers.
        self.marks: list[tuple[float, int]] = []
        self.running = 0

    def copy(self) -> "_Replica":
        """An independent copy."""
        twin = _Replica()
        twin.now_s, twin.clock, twin.stalled_s = self.now_s, self.clock, self.stalled_s
        twin.reads, twin.marks, twin.running = self.reads[:], self.marks[:], self.running
        return twin

    def next_s(self, speeds: Sequence[float]) -> float:
        """When something happens next."""
        at_s = self.reads[0][0] if self.reads else _NEVER
        if self.marks:
            from_s = max(self.now_s, self.stalled_s)
            left = max(self.marks[0][0] - self.clock, 0.0)
            at_s = min(at_s, from_s + left / speeds[self.running - 1])
        return at_s

    def advance(self, to_s: float, speeds: Sequence[float]) -> None:
        """Let time pass, up to the next thing that happens."""
        if self.marks:
            passed_s = to_s - max(self.now_s, min(self.stalled_s, to_s))
            self.clock += passed_s * speeds[self.running - 1]
        self.now_s = to_s


class Forecast:
    """Plays admitted jobs of one model from any arrival on.

    Args:
        jobs: In the order of their arrivals.
        curve: Of one replica.
        replicas: How many, all ready at `ready_s`.
        ready_s: When requests can start.
        window: Attempts at a time on one replica.
    """

    def __init__(
        self, jobs: Sequence[Job], curve: RateCurve, replicas: int, ready_s: float, window: int
    ) -> None:
        self.jobs = jobs
        self.admitted = [True] * len(jobs)
        #: When the answer ended in the last forecast; infinite if it did not.
        self.done_s = [_NEVER] * len(jobs)
        self.started_s = [_NEVER] * len(jobs)
        #: Events played since the beginning: the measure of what was spent.
        self.events = 0
        self._curve = curve
        self._ready_s = ready_s
        self._window = window
        self._latest_s = [job.latest_start_s(curve) for job in jobs]
        self._waiting: list[tuple[float, int]] = []
        self._replicas = [_Replica() for _ in range(replicas)]
        #: The state before each arrival.
        self._saved: list[tuple[list[_Replica], list[tuple[float, int]]]] = [
            ([replica.copy() for replica in self._replicas], [])
        ]

    def latest_start_s(self, job: int) -> float:
        """When a job must start at the latest, s: the order in which those that wait start."""
        return self._latest_s[job]

    def cost(self, job: int) -> float:
        """Time a job takes of an idle replica, s."""
        return self.jobs[job].alone_s(self._curve)

    @property
    def arrived(self) -> int:
        """Jobs that had arrived when the last forecast ended."""
        return len(self._saved)

    def play(self, arrival: int) -> int:
        """Play from the arrival of a job on; the first job that misses, or -1."""
        arrival = min(arrival, len(self._saved) - 1)  # a forecast that broke off saved no more
        saved = self._saved[arrival]
        self._replicas = [replica.copy() for replica in saved[0]]
        self._waiting = saved[1][:]
        del self._saved[arrival:]
        for index in range(arrival, len(self.jobs)):
            missed = self._run(max(self.jobs[index].start_s, self._ready_s))
            if missed >= 0:
                return missed
            copies = [replica.copy() for replica in self._replicas]
            self._saved.append((copies, self._waiting[:]))
            self.done_s[index] = self.started_s[index] = _NEVER
            if self.admitted[index]:
                heapq.heappush(self._waiting, (self._latest_s[index], index))
                missed = self._start(max(self.jobs[index].start_s, self._ready_s))
                if missed >= 0:
                    return missed
        return self._run(_NEVER)

    def _run(self, until_s: float) -> int:
        """Play what happens up to a time; the first job that misses, or -1."""
        speeds = self._curve.speeds
        while True:
            at_s, replica = min(
                ((replica.next_s(speeds), replica) for replica in self._replicas),
                key=lambda pair: pair[0],
            )
            if at_s > until_s or at_s == _NEVER:
                return -1
            self.events += 1
            replica.advance(at_s, speeds)
            if replica.reads and replica.reads[0][0] <= at_s:
                job = heapq.heappop(replica.reads)[1]
                heapq.heappush(replica.marks, (replica.clock + self.jobs[job].tokens, job))
                continue
            job = heapq.heappop(replica.marks)[1]
            self.done_s[job] = at_s
            replica.running -= 1
            if at_s > self.jobs[job].done_by_s:
                return job
            missed = self._start(at_s)
            if missed >= 0:
                return missed

    def _start(self, now_s: float) -> int:
        """Start what waits while there are places; a job that starts too late, or -1."""
        speeds = self._curve.speeds
        while self._waiting:
            replica = min(self._replicas, key=lambda one: one.running)
            if replica.running >= self._window:
                return -1
            latest_s, job = heapq.heappop(self._waiting)
            if latest_s < now_s - 1e-9:
                self.started_s[job] = now_s
                return job
            replica.advance(now_s, speeds)
            self.started_s[job] = now_s
            replica.running += 1
            wanted = self.jobs[job]
            read_s = now_s + wanted.prefill_s
            if wanted.shared_s:
                replica.stalled_s = max(now_s, replica.stalled_s) + wanted.shared_s
                read_s = max(read_s, replica.stalled_s)
            heapq.heappush(replica.reads, (read_s, job))
        return -1
