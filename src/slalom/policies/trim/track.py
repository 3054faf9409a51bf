"""A replica's token clock: how far everything that runs there is, between two reports.

All sequences of an engine gain one token a step, so that one clock counts for all of them and the
end of each is a reading of it. While prompts are read the clock stands. Owns the clock and the
jobs on it; reports correct both. Called by `planner`.
"""

from slalom.core.planning import ActiveView
from slalom.policies.trim.jobs import Job
from slalom.policies.trim.leeway import Leeway
from slalom.policies.trim.pace import Pace
from slalom.policies.trim.trust import ReadingShare


class Track:
    """What is thought to happen on one replica."""

    __slots__ = (
        "clock",
        "context",
        "is_calm",
        "jobs",
        "leeway",
        "now_ns",
        "read_ns",
        "read_until_ns",
        "reading",
        "unread_ns",
    )

    def __init__(self, now_ns: int) -> None:
        self.now_ns = float(now_ns)
        #: Tokens written by a sequence that would have run since the beginning.
        self.clock = 0.0
        #: Prompts are being read until then.
        self.read_until_ns = float(now_ns)
        #: Tokens that all sequences hold.
        self.context = 0.0
        self.jobs: dict[tuple[str, int], Job] = {}
        self.reading = ReadingShare(now_ns)
        #: Whether nobody was near its limits when the last plan was made.
        self.is_calm = True
        #: What may start without a plan, as the last one found; None for nothing.
        self.leeway: Leeway | None = None
        #: What the prompts that are not read yet take.
        self.unread_ns = 0.0

    def __repr__(self) -> str:
        return f"Track(jobs={len(self.jobs)}, clock={self.clock:.1f})"

    def advance(self, pace: Pace, now_ns: int) -> None:
        """Let time pass."""
        begin_ns = max(self.now_ns, min(self.read_until_ns, float(now_ns)))
        self.now_ns = float(now_ns)
        running = len(self.jobs)
        if running and begin_ns < now_ns:
            gained = (now_ns - begin_ns) / pace.step_ns(running, self.context)
            self.clock += gained
            self.context += running * gained

    def start(self, attempt: ActiveView, job: Job, pace: Pace, now_ns: int) -> None:
        """An attempt was dispatched."""
        self.advance(pace, now_ns)
        self.read_until_ns = max(self.read_until_ns, float(now_ns)) + job.reading_ns
        self.unread_ns += job.reading_ns
        self.reading.add(job.reading_ns, now_ns)
        self.jobs[attempt.request.id, attempt.number] = job
        job.end_clock = self.clock + job.left
        if job.client_first_ns < 0:
            job.first_ns = self.read_until_ns + pace.cost.request_ns + pace.steps_ns[1]
        self.context += job.context + job.produced

    def told(
        self, attempt: ActiveView, left: float, steepness: float, pace: Pace, now_ns: int
    ) -> None:
        """An attempt has produced so many tokens, with so many left."""
        self.advance(pace, now_ns)
        job = self.jobs.get((attempt.request.id, attempt.number))
        if job is None:
            return
        self._read(job)
        job.client_first_ns = attempt.client_first_ns
        job.first_ns = float(job.client_first_ns)
        job.set_left(attempt.resumed_tokens + attempt.output_tokens, left)
        job.end_clock = self.clock + left
        job.odds = steepness
        if self.leeway is not None:
            read_ns = max(self.read_until_ns, float(now_ns))
            if not self.leeway.keeps(job, left, read_ns, now_ns):
                self.leeway = None

    def overdue(self) -> list[Job]:
        """Those that have written more by now than they were thought to, as far as is known."""
        clock = self.clock
        return [job for job in self.jobs.values() if job.end_clock < clock and not job.prompt]

    def goes_on(self, job: Job, left: float) -> None:
        """A job has not ended where it was thought to: so many tokens are still to come."""
        job.set_left(job.produced + job.left + self.clock - job.end_clock, left)
        job.end_clock = self.clock + left

    def over(self, attempt: ActiveView, pace: Pace, now_ns: int) -> Job | None:
        """An attempt has given its place back; its job, if it is known."""
        self.advance(pace, now_ns)
        job = self.jobs.pop((attempt.request.id, attempt.number), None)
        if job is None:
            return None
        self._read(job)
        held = job.context + attempt.resumed_tokens + attempt.output_tokens
        self.context = max(self.context - held, 0.0) if self.jobs else 0.0
        return job

    def _read(self, job: Job) -> None:
        """Its prompt is read, or will not be: only the others keep the clock standing."""
        if job.prompt:
            job.prompt = 0
            self.unread_ns = max(self.unread_ns - job.reading_ns, 0.0)
            job.reading_ns = 0.0
            self.read_until_ns = min(self.read_until_ns, self.now_ns + self.unread_ns)
