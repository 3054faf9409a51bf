"""How long an engine with continuous batching takes, as a pure law over integer nanoseconds.

Owns the law and the jobs it is running. A job reads its prompt, then writes one token after the
other, each the slower the more jobs run beside it. A token that has begun keeps its pace, so all
token times between two changes of that number are known at once: the next thing to happen is
computed, never stepped towards. Called by `twin.world` and by the testing kit's engine, which
is what makes their journals comparable.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

#: The name of a job.
J = TypeVar("J", bound=Hashable)


class Law(Protocol):
    """What a model of this kind needs to know of an engine."""

    @property
    def prefill_ns_per_token(self) -> int:
        """Reading one token of a prompt, whatever runs beside it."""
        ...

    def step_ns(self, running: int) -> int:
        """Time of a token that begins while `running` jobs run, itself included; at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Coefficients of one engine on one device, ns."""

    prefill_ns_per_token: int = 100_000
    #: One output token of a job that runs alone.
    token_ns: int = 10_000_000
    #: What each other running job adds to it.
    neighbour_ns: int = 1_000_000

    def step_ns(self, running: int) -> int:
        """Time of a token that begins while `running` jobs run, itself included; at least 1."""
        return max(self.token_ns + self.neighbour_ns * (running - 1), 1)

    def at_speed(self, speed: float) -> "StepLaw":
        """The same on a device so many times as fast."""
        parts = (self.prefill_ns_per_token, self.token_ns, self.neighbour_ns)
        return StepLaw(*(round(part / speed) for part in parts))


class Stage(IntEnum):
    """What a job can reach, in the order in which it does."""

    FIRST_TOKEN = 0
    PROGRESS = 1
    FINISHED = 2


@dataclass(frozen=True, slots=True)
class Milestone(Generic[J]):
    """A job has come so far."""

    job: J
    stage: Stage
    #: Output tokens so far.
    tokens: int


class _Job(Generic[J]):
    """One generation. Token k >= `known` is due at `known_ns + (k - known) * step_ns`."""

    __slots__ = (
        "known",
        "known_ns",
        "name",
        "next_ns",
        "output_tokens",
        "report_ns",
        "step_ns",
        "told",
    )

    def __init__(self, name: J, output_tokens: int, first_ns: int, step_ns: int) -> None:
        self.name = name
        self.output_tokens = output_tokens
        self.known = 1
        self.known_ns = first_ns
        self.step_ns = step_ns
        #: Whether the first token was reported.
        self.told = False
        #: The first token at or after this is reported; -1 for none.
        self.report_ns = -1
        #: Time of its next milestone, kept because everybody's is asked for at each event.
        self.next_ns = first_ns

    def due_ns(self, token: int) -> int:
        """When a token that was not due at the last change is due."""
        return self.known_ns + (token - self.known) * self.step_ns

    def written(self, now_ns: int) -> int:
        """Tokens written by now."""
        if now_ns < self.known_ns:
            return self.known - 1
        return min(self.known + (now_ns - self.known_ns) // self.step_ns, self.output_tokens)

    def change_pace(self, step_ns: int, now_ns: int) -> None:
        """Write at another pace all tokens that have not begun by now."""
        if now_ns >= self.known_ns:
            ahead = (now_ns - self.known_ns) // self.step_ns + 1
            self.known_ns += ahead * self.step_ns
            self.known += ahead
        self.step_ns = step_ns
        self.next_ns = self.next_report()[0]

    def tell(self, report_ns: int) -> None:
        """A milestone was told of; the next report is due at the first token from then on."""
        self.told = True
        self.report_ns = report_ns
        self.next_ns = self.next_report()[0]

    def next_report(self) -> tuple[int, Stage, int]:
        """(time, stage, tokens) of its next milestone."""
        if not self.told:
            return self.known_ns, Stage.FIRST_TOKEN, 1
        if self.report_ns >= 0:
            behind_ns = max(self.report_ns - self.known_ns, 0)
            token = self.known + -(-behind_ns // self.step_ns)
            if token <= self.output_tokens:
                return self.due_ns(token), Stage.PROGRESS, token
        return self.due_ns(self.output_tokens), Stage.FINISHED, self.output_tokens


class EngineModel(Generic[J]):
    """The jobs of one engine.

    Times must be given in order, and `take_due` must have been called with a time before
    `start` or `stop` is.

    Args:
        law: Its coefficients.
        report_every_ns: A job's progress is reported at the first token that comes this long
            after its first token, then as long after that report, and so on; 0 for never.
    """

    def __init__(self, law: Law, *, report_every_ns: int = 0) -> None:
        self._law = law
        self._report_every_ns = report_every_ns
        self._slowdown = 1
        #: In the order of their starts, which is the order of simultaneous milestones.
        self._jobs: dict[J, _Job[J]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    def __repr__(self) -> str:
        return f"EngineModel(jobs={len(self._jobs)})"

    def start(
        self,
        job: J,
        prompt_tokens: int,
        output_tokens: int,
        now_ns: int,
        prefix: object = None,
        priority: int = 0,
    ) -> None:
        """Take a job on at once; who asks keeps to the engine's number of places.

        Args:
            job: Its name, unique among those that run.
            prompt_tokens: Tokens to read.
            output_tokens: Tokens it will write, at least 1.
            now_ns: Now.
            prefix: Means nothing here: nothing that was read is kept.
            priority: Means nothing here: nobody waits inside.
        """
        self._change_pace(len(self._jobs) + 1, now_ns)
        step_ns = self._step_ns(len(self._jobs) + 1)
        prefill_ns = prompt_tokens * self._law.prefill_ns_per_token * self._slowdown
        first_ns = now_ns + prefill_ns + step_ns
        self._jobs[job] = _Job(job, max(output_tokens, 1), first_ns, step_ns)

    def stop(self, job: J, now_ns: int, keep_as: str = "") -> int:
        """End a job early; the tokens it had written. 0 for a job that does not run."""
        ended = self._jobs.pop(job, None)
        if ended is None:
            return 0
        self._change_pace(len(self._jobs), now_ns)
        return ended.written(now_ns)

    def slow_down(self, factor: int, now_ns: int) -> None:
        """Take `factor` times as long for whatever begins from now on."""
        self._slowdown = factor
        self._change_pace(len(self._jobs), now_ns)

    def token_ns(self, job: J, token: int) -> int:
        """When a running job writes a token (from 1) that has not been due yet.

        Exact once the token before it is due; until then a change may still move it.

        Raises:
            KeyError: The job does not run.
        """
        return self._jobs[job].due_ns(token)

    def next_ns(self) -> int | None:
        """When the next milestone is reached if nothing else happens."""
        return min([job.next_ns for job in self._jobs.values()], default=None)

    def take_due(self, now_ns: int) -> list[tuple[int, Milestone[J]]]:
        """The milestones reached up to now with their times, in order; the finished are gone."""
        reached: list[tuple[int, Milestone[J]]] = []
        while (at_ns := self.next_ns()) is not None and at_ns <= now_ns:
            running = len(self._jobs)
            for job in [job for job in self._jobs.values() if job.next_ns <= at_ns]:
                reached.extend((at_ns, milestone) for milestone in self._reach(job, at_ns))
            if len(self._jobs) < running:
                self._change_pace(len(self._jobs), at_ns)
        return reached

    def _reach(self, job: _Job[J], at_ns: int) -> list[Milestone[J]]:
        """What a job reaches at exactly this time."""
        reached: list[Milestone[J]] = []
        while job.name in self._jobs:
            due_ns, stage, tokens = job.next_report()
            if due_ns > at_ns:
                break
            reached.append(Milestone(job.name, stage, tokens))
            if stage is Stage.FINISHED:
                del self._jobs[job.name]
                break
            job.tell(at_ns + self._report_every_ns if self._report_every_ns else -1)
        return reached

    def _step_ns(self, running: int) -> int:
        return self._law.step_ns(running) * self._slowdown

    def _change_pace(self, running: int, now_ns: int) -> None:
        step_ns = self._step_ns(running)
        for job in self._jobs.values():
            job.change_pace(step_ns, now_ns)
