"""Who is in a step as vLLM V1 decides it: running first, then waiting, within a token budget.

Owns the two lists and the KV blocks. Prompts are read in chunks; a job that gets no block takes
them from the last one that runs (or the least urgent), which starts over. Called by
`engine_steps` at the beginning of each step.

Source: vLLM's documentation of the V1 scheduler and its behaviour; no code of it.
"""

from bisect import insort
from collections import deque

from slalom.errors import ConfigError
from slalom.twin.engine_jobs import Batch, EngineJob
from slalom.twin.engine_kv import KvBlocks


class VllmBatching:
    """The rule of one engine; the arguments are those of `engine_specs.VllmEngine`."""

    def __init__(
        self,
        *,
        budget_tokens: int,
        seqs_max: int,
        kv: KvBlocks,
        long_prefill_tokens: int = 0,
        prefix_caching: bool = True,
        by_priority: bool = False,
    ) -> None:
        self._budget_tokens = budget_tokens
        self._seqs_max = seqs_max
        self.kv = kv
        self._chunk_max = long_prefill_tokens or budget_tokens
        self._prefix_caching = prefix_caching
        self._by_priority = by_priority
        self._running: list[EngineJob] = []
        self._waiting: deque[EngineJob] = deque()
        #: Jobs that gave way and had to start over, so far.
        self.preemptions = 0

    def __repr__(self) -> str:
        return f"VllmBatching(running={len(self._running)}, waiting={len(self._waiting)})"

    def check(self, prompt_tokens: int, output_tokens: int) -> int:
        """As the protocol says."""
        total = self.kv.total
        if not total:
            return output_tokens
        room = total * self.kv.block_tokens - max(prompt_tokens, 1)
        if room < 0:
            raise ConfigError(
                f"a prompt of {prompt_tokens} tokens does not fit in the vllm engine's "
                f"{total} KV blocks of {self.kv.block_tokens} tokens; give it more blocks"
            )
        # The last token is written and not read again: it takes no block.
        return min(output_tokens, room + 1)

    def add(self, job: EngineJob) -> None:
        """As the protocol says."""
        if self._by_priority:
            insort(self._waiting, job, key=_urgency)
        else:
            self._waiting.append(job)

    def remove(self, job: EngineJob) -> None:
        """As the protocol says."""
        if job.running:
            self._running.remove(job)
            self._release(job, keep=self._prefix_caching)
        else:
            self._waiting.remove(job)

    def is_full(self) -> bool:
        """As the protocol says."""
        return len(self._running) >= self._seqs_max

    def grow(self, job: EngineJob, tokens: int) -> None:
        """As the protocol says; the blocks of the first of these tokens may be there already."""
        job.computed += tokens
        blocks = self.kv.blocks_for(job.computed) - job.shared_blocks - job.own_blocks
        if blocks > 0:
            self.kv.take(blocks)
            job.own_blocks += blocks

    def plan(self) -> Batch | None:
        """As the protocol says."""
        batch = Batch([], [])
        left = self._budget_tokens
        before = self.preemptions
        for job in list(self._running):
            if left <= 0:
                break
            if not job.running:
                continue
            tokens = min(job.missing, left, self._chunk_max)
            if not self._allocate(job, tokens):
                continue
            left -= tokens
            _enter(batch, job, tokens)
        if self.preemptions == before:
            self._admit(batch, left)
        else:  # whoever gave way to a later job of this step is in it no more
            batch.writing = [job for job in batch.writing if job.running]
            batch.reading = [(job, tokens) for job, tokens in batch.reading if job.running]
        if not batch.writing and not batch.reading:
            return None
        if not batch.reading and self.preemptions == before:
            batch.steps = self._steps(batch.writing)
        return batch

    def _admit(self, batch: Batch, left: int) -> None:
        """Take in jobs that wait while there are tokens, places and blocks."""
        while self._waiting and left > 0 and len(self._running) < self._seqs_max:
            job = self._waiting[0]
            if not self._begin(job, left):
                return
            self._waiting.popleft()
            job.running = True
            self._running.append(job)
            tokens = min(job.missing, left, self._chunk_max)
            left -= tokens
            _enter(batch, job, tokens)

    def _begin(self, job: EngineJob, left: int) -> bool:
        """Give a waiting job what is kept of its prefix, and blocks for its first chunk."""
        kv = self.kv
        kept, shared = None, 0
        if self._prefix_caching and job.prefix is not None:
            most = min(job.prefix.tokens, job.prompt_tokens - 1)
            kept, shared = kv.find(job.prefix.name, most)
        if kept is not None and shared:
            kv.read(kept)
            job.kept, job.shared_blocks = kept, shared
            job.computed = shared * kv.block_tokens
        tokens = min(job.missing, left, self._chunk_max)
        blocks = kv.blocks_for(job.computed + tokens) - job.shared_blocks
        if kv.take(blocks):
            job.own_blocks = blocks
            return True
        if job.kept is not None:
            kv.stop_reading(job.kept)
        job.kept, job.shared_blocks, job.computed = None, 0, 0
        return False

    def _allocate(self, job: EngineJob, tokens: int) -> bool:
        """Blocks for the next tokens of a running job; False if it had to give way itself."""
        blocks = self.kv.blocks_for(job.computed + tokens) - job.shared_blocks - job.own_blocks
        while blocks > 0 and not self.kv.take(blocks):
            victim = max(self._running, key=_urgency) if self._by_priority else self._running[-1]
            self._preempt(victim)
            if victim is job:
                return False
        job.own_blocks += max(blocks, 0)
        return True

    def _preempt(self, job: EngineJob) -> None:
        self.preemptions += 1
        self._running.remove(job)
        self._release(job, keep=False)
        job.computed = 0
        if self._by_priority:
            insort(self._waiting, job, key=_urgency)
        else:
            self._waiting.appendleft(job)

    def _release(self, job: EngineJob, *, keep: bool) -> None:
        job.running = False
        self.kv.give_back(job.own_blocks)
        if job.kept is not None:
            self.kv.stop_reading(job.kept)
        if keep and job.prefix is not None:
            full = job.computed // self.kv.block_tokens
            self.kv.keep(job.prefix.name, full, job.shared_blocks)
        job.own_blocks, job.shared_blocks, job.kept = 0, 0, None

    def _steps(self, writing: list[EngineJob]) -> int:
        """Steps until the first job is done or blocks may run short; the first is paid for."""
        steps = min(job.output_tokens - job.written for job in writing)
        if self.kv.total and steps > 1:
            each = self.kv.available() // len(writing)
            steps = min(steps, 1 + each * self.kv.block_tokens)
        return steps


def _enter(batch: Batch, job: EngineJob, tokens: int) -> None:
    """Let a job write if all its context is there but one token, else read."""
    if job.written and tokens == job.missing == 1:
        batch.writing.append(job)
    else:
        batch.reading.append((job, tokens))


def _urgency(job: EngineJob) -> tuple[int, int]:
    return job.priority, job.ready_ticks
