"""Who is in a step as llama.cpp's server decides it: slots, and one queue before them.

Owns the slots, the queue and what each slot remembers. All slots that write do so in every step;
what is left of the batch reads prompts, slot after slot. Called by `engine_steps`.

Source: the behaviour of llama.cpp's server as its documentation describes it; no code of it.
"""

from collections import deque

from slalom.twin.engine_jobs import Batch, EngineJob


class _Slot:
    """A place with its own part of the KV cache."""

    __slots__ = ("job", "name", "tokens", "used")

    def __init__(self) -> None:
        self.job: EngineJob | None = None
        #: Prefix whose tokens are still there, and how many.
        self.name = ""
        self.tokens = 0
        #: Rank of its last use.
        self.used = 0


class LlamaCppBatching:
    """The rule of one engine.

    Args:
        slots: Jobs at a time.
        batch_tokens: Tokens in one step.
        prefix_caching: Whether a slot's memory serves the next job with the same prefix.
    """

    def __init__(self, *, slots: int, batch_tokens: int, prefix_caching: bool = True) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._batch_tokens = batch_tokens
        self._prefix_caching = prefix_caching
        self._waiting: deque[EngineJob] = deque()
        self._free = slots
        self._uses = 0

    def __repr__(self) -> str:
        return f"LlamaCppBatching(free={self._free}, waiting={len(self._waiting)})"

    def check(self, prompt_tokens: int, output_tokens: int) -> int:
        """As the protocol says: a slot's context has no bound here."""
        return output_tokens

    def add(self, job: EngineJob) -> None:
        """As the protocol says."""
        self._waiting.append(job)

    def remove(self, job: EngineJob) -> None:
        """As the protocol says."""
        if not job.running:
            self._waiting.remove(job)
            return
        slot = self._slots[job.slot]
        slot.job = None
        slot.name = job.prefix.name if job.prefix else ""
        slot.tokens = job.computed if job.prefix else 0
        self._uses += 1
        slot.used = self._uses
        self._free += 1
        job.running = False

    def is_full(self) -> bool:
        """As the protocol says."""
        return self._free == 0

    def grow(self, job: EngineJob, tokens: int) -> None:
        """As the protocol says."""
        job.computed += tokens

    def plan(self) -> Batch | None:
        """As the protocol says."""
        while self._waiting and self._free:
            self._place(self._waiting.popleft())
        jobs = [slot.job for slot in self._slots if slot.job is not None]
        if not jobs:
            return None
        writing = [job for job in jobs if job.written]
        batch = Batch(writing, [])
        left = self._batch_tokens - len(writing)
        for job in jobs:
            if not job.written and left > 0:
                tokens = min(job.missing, left)
                batch.reading.append((job, tokens))
                left -= tokens
        if not batch.reading:
            batch.steps = min(job.output_tokens - job.written for job in writing)
        return batch

    def _place(self, job: EngineJob) -> None:
        """Give a job the free slot that remembers most of its prompt, else the longest unused."""
        free = [index for index, slot in enumerate(self._slots) if slot.job is None]
        index = min(free, key=lambda i: (-self._remembered(self._slots[i], job), self._used(i)))
        slot = self._slots[index]
        job.computed = self._remembered(slot, job)
        slot.job = job
        job.slot = index
        job.running = True
        self._free -= 1

    def _used(self, index: int) -> int:
        return self._slots[index].used

    def _remembered(self, slot: _Slot, job: EngineJob) -> int:
        if not self._prefix_caching or job.prefix is None or slot.name != job.prefix.name:
            return 0
        return min(slot.tokens, job.prefix.tokens, job.prompt_tokens - 1)
