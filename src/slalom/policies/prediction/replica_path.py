"""What ran on a replica over time, summed up so that any span between two readings is a difference.

Owns the sums of one replica and where each attempt last read them. A span's averages are taken in
steps, not in time: a slow step counts once. Called by the model of step times, which says how
long a step is thought to take and gets back what each span held.
"""

from collections import deque
from dataclasses import dataclass

from slalom.core.planning import ActiveView
from slalom.core.request import Request, StepCost
from slalom.policies.prediction.heads import NOTHING, Known
from slalom.units import MS

#: What one step lets us hear of comes within this.
_SETTLE_NS = 1 * MS
#: A replica is read at most so often while nothing ends: more would read the same steps again.
_READ_EVERY_NS = 25 * MS
#: A span that begins so long after the replica's last reading weighs 1.
SPAN_NS = 500 * MS
_WEIGHT_MIN = 0.05
#: Steps below which a span's edges blur it.
_STEPS_SURE = 5.0
#: Weight of a first token; its wait for the step before is only known on average.
FIRST_WEIGHT = 0.5
#: A span that begins or ends while a prompt is half read weighs less: nobody says which half.
_BLURRED = 0.05


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an attempt's life: steps and what was in them."""

    #: Whether it ends with the attempt's first token; else it lies behind it.
    is_first: bool
    took_ns: int
    #: Counted; before a first token, the one that made it, or all if the whole answer came with it.
    steps: int
    #: As the law counts them by the time that passed.
    thought_steps: float
    #: Averages over the steps: sequences, their squares, their context, what ran beside.
    sequences: float
    sequences_sq: float
    context_tokens: float
    beside: float
    #: Prompt tokens read meanwhile that cost anything, and pairs of them.
    prompt_tokens: float
    prompt_pairs: float
    #: 1 for a span whose steps nobody else has read; 0 where nothing can be learned, because
    #: others' prompts were read partly within it.
    weight: float


class Run:
    """An attempt, and the replica's sums when it was last read."""

    __slots__ = (
        "expected_first_ns",
        "expected_ns",
        "expected_tokens",
        "is_blurred",
        "is_decoding",
        "known",
        "mark",
        "mark_ns",
        "mark_prompts",
        "mark_tokens",
        "prompt_tokens",
        "reads_alone",
        "request",
        "resumed_tokens",
        "started_ns",
        "teaches",
        "told_tokens",
    )

    def __init__(self, attempt: ActiveView, mark: tuple[float, ...], *, reads_alone: bool) -> None:
        self.request: Request = attempt.request
        #: Whether no other prompt was being read when it came.
        self.reads_alone = reads_alone
        #: Whether it is ever read; one that is not still runs beside the others.
        self.teaches = True
        self.resumed_tokens = attempt.resumed_tokens
        self.prompt_tokens = self.request.prompt_tokens + self.resumed_tokens
        self.started_ns = attempt.started_ns
        #: What its replica should have had of its prompt.
        self.known = NOTHING
        self.is_decoding = False
        self.told_tokens = 0
        self.mark = mark
        self.mark_ns = attempt.started_ns
        self.mark_tokens = 0
        self.mark_prompts = (0.0, 0.0)
        #: Whether a prompt was half read then.
        self.is_blurred = False
        #: What the model of step times says of its life up to the first token, and up to the mark.
        self.expected_first_ns = 0.0
        self.expected_ns = 0.0
        #: Tokens it was thought to write when it started; 0 where nobody said.
        self.expected_tokens = 0.0

    @property
    def sureness(self) -> float:
        """1 where it is certain how much of its prompt was to be read, down to 0."""
        known = self.known
        if not known.tokens:
            return 1.0
        unsure = 4.0 * known.share * (1.0 - known.share)
        return max(1.0 - unsure * known.tokens / self.prompt_tokens, 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A run came from its mark to where it is now."""

    run: Run
    span: Span | None
    at_ns: int
    #: The whole answer is there.
    is_end: bool


@dataclass(frozen=True, slots=True)
class Lived:
    """An attempt that ended with the whole answer."""

    run: Run
    took_ns: int

    @property
    def pace_ratio(self) -> float:
        """Time it took over what the fit says, as it was all along; 0 where that is nothing."""
        return self.took_ns / self.run.expected_ns if self.run.expected_ns > 0.0 else 0.0

    @property
    def ratio(self) -> float:
        """The same, had its length been as expected."""
        run = self.run
        written = run.told_tokens - 1
        writing_ns = run.expected_ns - run.expected_first_ns
        if run.expected_tokens and written > 0:
            writing_ns *= max(run.expected_tokens - 1.0, 0.0) / written
        expected_ns = run.expected_first_ns + writing_ns
        return self.took_ns / expected_ns if expected_ns > 0.0 else 0.0


@dataclass(slots=True)
class _Mark:
    """A reading whose step may still let us hear of more."""

    run: Run
    at_ns: int
    took_ns: int
    tokens: int
    sums: tuple[float, ...]
    before: tuple[float, ...]
    weight: float
    is_first: bool
    is_end: bool
    #: Prompts that came after this were not in the step that ended then.
    begun_ns: float


class ReplicaPath:
    """The sums of one replica.

    Args:
        sequences_max: More sequences than these cost no more.
        free_tokens: As in a step cost.
    """

    __slots__ = (
        "_beside",
        "_context",
        "_free_tokens",
        "_now_ns",
        "_prompts",
        "_read_ns",
        "_readers",
        "_runs",
        "_sequences",
        "_sequences_max",
        "_settling",
        "_sums",
    )

    def __init__(self, sequences_max: float, free_tokens: float) -> None:
        self._sequences_max = sequences_max
        self._free_tokens = free_tokens
        self._runs: dict[tuple[str, int], Run] = {}
        self._now_ns = 0
        self._read_ns = 0
        self._sequences = 0
        #: Attempts without a token, in the order of their starts.
        self._readers: dict[Run, None] = {}
        self._context = 0
        self._beside = 0
        #: Steps thought to have been made, and over those: sequences, squares, context, beside.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        #: Prompt tokens read that cost anything, and pairs of them.
        self._prompts = (0.0, 0.0)
        self._settling: deque[_Mark] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    def start(
        self,
        attempt: ActiveView,
        beside: int,
        cost: StepCost,
        now_ns: int,
        *,
        expected_tokens: float = 0.0,
        known: Known = NOTHING,
        teaches: bool = True,
    ) -> list[Reading]:
        """An attempt was dispatched, and is thought to write so many tokens; may it be read?"""
        settled = self._advance(beside, cost, now_ns)
        run = Run(attempt, self._sums, reads_alone=not self._readers)
        run.expected_tokens = expected_tokens
        run.known = known
        run.teaches = teaches
        self._runs[attempt.request.id, attempt.number] = run
        run.mark_prompts = self._prompts
        self._readers[run] = None
        return settled

    def told(self, attempt: ActiveView, beside: int, cost: StepCost, now_ns: int) -> list[Reading]:
        """An attempt has produced tokens."""
        settled = self._advance(beside, cost, now_ns)
        run = self._runs.get((attempt.request.id, attempt.number))
        if run is None or attempt.output_tokens <= run.told_tokens:
            return settled
        if run.is_decoding:
            self._context += attempt.output_tokens - run.told_tokens
            run.told_tokens = attempt.output_tokens
            if run.teaches and now_ns - self._read_ns >= _READ_EVERY_NS:
                self._mark(run, cost, now_ns, is_end=False)
        else:
            run.told_tokens = attempt.output_tokens
            if run.teaches:
                self._mark(run, cost, now_ns, is_end=False)
            self._begin_decoding(run)
        return settled

    def over(
        self, attempt: ActiveView, beside: int, cost: StepCost, now_ns: int, *, finished: bool
    ) -> list[Reading]:
        """An attempt has given its place back."""
        settled = self._advance(beside, cost, now_ns)
        run = self._runs.pop((attempt.request.id, attempt.number), None)
        if run is None:
            return settled
        if finished and attempt.output_tokens >= run.told_tokens:
            self._context += attempt.output_tokens - run.told_tokens if run.is_decoding else 0
            run.told_tokens = attempt.output_tokens
            if run.teaches:
                self._mark(run, cost, now_ns, is_end=True)
            if not run.is_decoding:
                self._begin_decoding(run)
        if run.is_decoding:
            self._sequences -= 1
            self._context -= run.prompt_tokens + run.told_tokens
        else:
            del self._readers[run]
        return settled

    # -- inside ---------------------------------------------------------------------------

    def _advance(self, beside: int, cost: StepCost, now_ns: int) -> list[Reading]:
        """Let time pass up to now; the readings that nothing can change any more."""
        settling = self._settling
        settled: list[Reading] = []
        span_ns = now_ns - self._now_ns
        if span_ns > 0:
            if self._sequences:
                count = min(float(self._sequences), self._sequences_max)
                made = span_ns / max(cost.of(count, self._context, 0.0), 1.0)
                steps, seqs, squares, context, others = self._sums
                self._sums = (
                    steps + made,
                    seqs + made * count,
                    squares + made * count * count,
                    context + made * self._context,
                    others + made * self._beside,
                )
            self._now_ns = now_ns
            while settling and settling[0].at_ns + _SETTLE_NS < now_ns:
                settled.append(self._settle(settling.popleft()))
        self._beside = beside
        return settled

    def _begin_decoding(self, run: Run) -> None:
        del self._readers[run]
        free = max(self._free_tokens - self._sequences, 0.0)
        paid, pairs = self._prompts
        prompt, cached = run.prompt_tokens, run.known.expected
        self._prompts = (
            paid + max(prompt - cached - free, 0.0),
            pairs + (prompt * prompt - cached * cached) * 0.5,
        )
        run.is_decoding = True
        self._sequences += 1
        self._context += prompt + run.told_tokens

    def _mark(self, run: Run, cost: StepCost, now_ns: int, *, is_end: bool) -> None:
        tokens = run.told_tokens - run.mark_tokens
        is_first = not run.is_decoding
        if is_first:
            weight = FIRST_WEIGHT * run.sureness if run.reads_alone else 0.0
        else:
            fresh = (now_ns - max(self._read_ns, run.mark_ns)) / SPAN_NS
            weight = min(max(fresh, _WEIGHT_MIN), 1.0) * min(tokens / _STEPS_SURE, 1.0)
            self._read_ns = now_ns
        took_ns = now_ns - run.mark_ns
        sums = self._sums
        step_ns = cost.of(self._sequences, self._context, 0.0)
        self._settling.append(
            _Mark(
                run=run,
                at_ns=now_ns,
                took_ns=took_ns,
                tokens=tokens,
                sums=sums,
                before=run.mark,
                weight=weight,
                is_first=is_first,
                is_end=is_end,
                begun_ns=now_ns - step_ns - cost.request_ns,
            )
        )
        run.mark, run.mark_ns, run.mark_tokens = sums, now_ns, run.told_tokens

    def _settle(self, mark: _Mark) -> Reading:
        run = mark.run
        prompts, pairs = self._prompts
        paid_before, pairs_before = run.mark_prompts
        run.mark_prompts = self._prompts
        reader = next(iter(self._readers), None)
        was_blurred, run.is_blurred = run.is_blurred, False
        if reader is not None and reader.started_ns < mark.begun_ns:
            run.is_blurred = True
        blurred = not mark.is_first and (run.is_blurred or was_blurred)
        if mark.took_ns <= 0 or (mark.tokens < 1 and not mark.is_first):
            return Reading(run, None, mark.at_ns, mark.is_end)
        made, seqs, squares, context, beside = (
            now - then for now, then in zip(mark.sums, mark.before, strict=True)
        )
        per_step = 1.0 / made if made > 0.0 else 0.0
        span = Span(
            is_first=mark.is_first,
            took_ns=mark.took_ns,
            steps=max(mark.tokens, 1),
            thought_steps=made,
            sequences=seqs * per_step,
            sequences_sq=squares * per_step,
            context_tokens=context * per_step,
            beside=beside * per_step,
            prompt_tokens=prompts - paid_before,
            prompt_pairs=pairs - pairs_before,
            weight=mark.weight * (_BLURRED if blurred else 1.0),
        )
        return Reading(run, span, mark.at_ns, mark.is_end)
