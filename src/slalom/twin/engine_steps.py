"""An engine that works step by step, played without stepping through every token.

Owns time: a step's end, ingestion, and the reports of jobs. Who is in a step is a rule of
`engine_vllm` or `engine_llama_cpp`; how long it takes, a `StepProfile`. While everybody only
writes, step m takes first + m x growth, so any number of steps is one sum and the next thing to
happen one square root. Counts in ticks, whole numbers, so that skipping ahead equals stepping.
"""

from collections import deque
from math import isqrt
from typing import Generic, cast

from slalom.twin.engine_jobs import Batch, Batching, EngineJob
from slalom.twin.engine_model import Milestone, Stage
from slalom.twin.engine_protocol import J, Prefix
from slalom.twin.step_time import TICKS_PER_NS, StepProfile


class _Run:
    """Equal steps of one batch, `done` of them played."""

    __slots__ = ("batch", "done", "due", "first", "growth", "start", "steps")

    def __init__(self, batch: Batch, start: int, first: int, growth: int) -> None:
        self.batch = batch
        self.start = start
        self.first = first
        self.growth = growth
        self.steps = batch.steps
        self.done = 0
        #: The step with whose end something is to be told or decided.
        self.due = batch.steps

    def end_of(self, steps: int) -> int:
        """When so many steps are over."""
        return self.start + steps * self.first + self.growth * (steps * (steps - 1) // 2)

    def over_at(self, ticks: int) -> int:
        """How many steps are over by then, if it goes on for ever."""
        span = ticks - self.start
        if span < self.first:
            return 0
        if not self.growth:
            return span // self.first
        # The largest m with growth m^2 + (2 first - growth) m <= 2 span.
        b = 2 * self.first - self.growth
        steps = (isqrt(b * b + 8 * self.growth * span) - b) // (2 * self.growth)
        while self.end_of(steps) > ticks:
            steps -= 1
        while self.end_of(steps + 1) <= ticks:
            steps += 1
        return steps


class StepEngine(Generic[J]):
    """The jobs of one engine; the protocol is `engine_protocol.TwinEngine`.

    Args:
        profile: How long a step takes.
        batching: Who is in it.
        report_every_ns: Progress is reported at the first token that comes this long after a
            job's last report; 0 for never.
        micro_batch: As for `StepProfile.step_ticks`.
    """

    def __init__(
        self,
        profile: StepProfile,
        batching: Batching,
        *,
        report_every_ns: int = 0,
        micro_batch: int = 0,
    ) -> None:
        self._profile = profile
        self._batching = batching
        self._report_every = report_every_ns * TICKS_PER_NS
        self._micro_batch = micro_batch
        self._slowdown = 1
        self._jobs: dict[J, EngineJob] = {}
        #: Sent, but not ingested yet, in the order of ingestion.
        self._arriving: deque[EngineJob] = deque()
        #: Stopped, but still in the step that runs.
        self._leaving: list[EngineJob] = []
        self._run: _Run | None = None
        #: Steps so far, as an engine that cannot skip would count them.
        self.steps = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    def __repr__(self) -> str:
        return f"StepEngine(jobs={len(self._jobs)}, {self._batching!r})"

    def start(
        self,
        job: J,
        prompt_tokens: int,
        output_tokens: int,
        now_ns: int,
        prefix: Prefix | None = None,
        priority: int = 0,
    ) -> None:
        """As the protocol says. It may enter the first step that begins after its ingestion.

        Raises:
            ConfigError: Its prompt can never fit.
        """
        output_tokens = self._batching.check(prompt_tokens, output_tokens)
        entering = EngineJob(job, prompt_tokens, output_tokens, prefix, priority)
        now = now_ns * TICKS_PER_NS
        entering.ready_ticks = now + self._profile.ingest_ticks
        self._jobs[job] = entering
        self._arriving.append(entering)
        run = self._run
        if run is not None and run.steps > 1 and not self._batching.is_full():
            self._cut(run, max(run.over_at(now), run.over_at(entering.ready_ticks - 1)) + 1)

    def stop(self, job: J, now_ns: int, keep_as: str = "") -> int:
        """As the protocol says. It leaves its batch when the step that runs is over."""
        ended = self._jobs.pop(job, None)
        if ended is None:
            return 0
        if keep_as:
            ended.prefix = Prefix(keep_as, ended.prefix.tokens if ended.prefix else 0)
        ended.gone = True
        if not ended.running:
            if ended in self._arriving:
                self._arriving.remove(ended)
            else:
                self._batching.remove(ended)
            return ended.written
        run = cast("_Run", self._run)
        self._interrupt(run, now_ns)
        self._leaving.append(ended)
        return ended.written

    def slow_down(self, factor: int, now_ns: int) -> None:
        """As the protocol says."""
        if self._run is not None:
            self._interrupt(self._run, now_ns)
        self._slowdown = factor

    def next_ns(self) -> int | None:
        """As the protocol says."""
        ticks = self._next_ticks()
        return None if ticks is None else -(-ticks // TICKS_PER_NS)

    def take_due(self, now_ns: int) -> list[tuple[int, Milestone[J]]]:
        """As the protocol says."""
        now = now_ns * TICKS_PER_NS
        reached: list[tuple[int, Milestone[J]]] = []
        while (ticks := self._next_ticks()) is not None and ticks <= now:
            run = self._run
            if run is None:
                self._plan(ticks)
                continue
            self._play(run, run.due)
            for job in run.batch.writing:
                self._tell(job, ticks, reached)
            for job, _ in run.batch.reading:
                if not job.missing:
                    job.written += 1
                    self._tell(job, ticks, reached)
            if run.done == run.steps:
                self._plan(ticks)
            else:
                self._aim(run)
        return reached

    # -- inside ---------------------------------------------------------------------------

    def _next_ticks(self) -> int | None:
        if self._run is not None:
            return self._run.end_of(self._run.due)
        return self._arriving[0].ready_ticks if self._arriving else None

    def _plan(self, now: int) -> None:
        """Let the next steps begin."""
        for job in self._leaving:
            self._batching.remove(job)
        self._leaving.clear()
        while self._arriving and self._arriving[0].ready_ticks <= now:
            self._batching.add(self._arriving.popleft())
        batch = self._batching.plan()
        if batch is None:
            self._run = None
            return
        tokens, pairs, joins = 0, 0, 0
        for job, chunk in batch.reading:
            tokens += chunk
            pairs += chunk * (2 * job.computed + chunk)
            joins += not job.joined
            job.joined = True
        writers = len(batch.writing)
        context = sum(job.prompt_tokens + job.written for job in batch.writing)
        profile = self._profile
        first = profile.step_ticks(
            *(writers, context, tokens, pairs, self._micro_batch),
            joins=joins,
            pieces=batch.pieces,
        )
        growth = writers * profile.kv_ticks * self._slowdown
        run = self._run = _Run(batch, now, first * self._slowdown, growth)
        if self._arriving and run.steps > 1 and not self._batching.is_full():
            run.steps = min(run.steps, run.over_at(self._arriving[0].ready_ticks - 1) + 1)
        self._aim(run)

    def _aim(self, run: _Run) -> None:
        """Find the step after which something is to be told, or the run is over."""
        run.due = run.steps
        if self._report_every and run.steps > run.done + 1:
            reports = [job.report_ticks for job in run.batch.writing if job.report_ticks >= 0]
            if reports:
                step = max(run.over_at(min(reports) - 1), run.done) + 1
                run.due = min(run.due, step)

    def _cut(self, run: _Run, steps: int) -> None:
        """Let a run end earlier."""
        run.steps = min(run.steps, steps)
        run.due = min(run.due, run.steps)

    def _interrupt(self, run: _Run, now_ns: int) -> None:
        """Play what is over by now; the step that runs is the last one."""
        over = min(run.over_at(now_ns * TICKS_PER_NS), run.steps - 1)
        if over > run.done:
            self._play(run, over)
        self._cut(run, over + 1)

    def _play(self, run: _Run, steps: int) -> None:
        """Let a run come so far; jobs that read come to their token in `take_due`."""
        ahead = steps - run.done
        run.done = steps
        self.steps += ahead
        grow = self._batching.grow
        for job in run.batch.writing:
            job.written += ahead
            grow(job, ahead)
        for job, tokens in run.batch.reading:
            grow(job, tokens)

    def _tell(self, job: EngineJob, ticks: int, reached: list[tuple[int, Milestone[J]]]) -> None:
        """Report what a job that has just written a token has reached by that."""
        if job.gone:
            return
        at_ns = -(-ticks // TICKS_PER_NS)
        name = cast("J", job.name)
        if not job.told:
            job.told = True
            reached.append((at_ns, Milestone(name, Stage.FIRST_TOKEN, 1)))
            self._report_later(job, ticks)
        if job.written >= job.output_tokens:
            reached.append((at_ns, Milestone(name, Stage.FINISHED, job.written)))
            del self._jobs[name]
            self._batching.remove(job)
        elif 0 <= job.report_ticks <= ticks:
            reached.append((at_ns, Milestone(name, Stage.PROGRESS, job.written)))
            self._report_later(job, ticks)

    def _report_later(self, job: EngineJob, ticks: int) -> None:
        if self._report_every:
            job.report_ticks = ticks + self._report_every
