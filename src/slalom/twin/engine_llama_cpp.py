"""Who is in a step as llama.cpp's server decides it: slots, and one queue before them.

Owns the slots, the queue, what each slot remembers, and the pieces in which a step is computed.
All slots that write do so in every step; what is left of the batch reads prompts, slot after slot.
Called by `engine_steps`.

Source: the behaviour of llama.cpp's server as its documentation describes it and as its step times
show it (see `pieces_of`); no code of it.
"""

from collections import deque
from collections.abc import Iterable

from slalom.errors import ConfigError
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
        context_tokens: Longest prompt and answer of one slot; 0 for no bound.
        kv_unified: Whether all slots share one KV cache, so that any tokens can be computed
            together; else see `pieces_of`.
        micro_batch: Tokens in one piece of a step, where each slot has its own cache.
    """

    def __init__(
        self,
        *,
        slots: int,
        batch_tokens: int,
        prefix_caching: bool = True,
        context_tokens: int = 0,
        kv_unified: bool = True,
        micro_batch: int = 512,
    ) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._batch_tokens = batch_tokens
        self._prefix_caching = prefix_caching
        self._context_tokens = context_tokens
        self._kv_unified = kv_unified
        self._micro_batch = micro_batch
        self._waiting: deque[EngineJob] = deque()
        self._free = slots
        self._uses = 0

    def __repr__(self) -> str:
        return f"LlamaCppBatching(free={self._free}, waiting={len(self._waiting)})"

    def check(self, prompt_tokens: int, output_tokens: int) -> int:
        """As the protocol says."""
        if not self._context_tokens:
            return output_tokens
        room = self._context_tokens - max(prompt_tokens, 1)
        if room < 1:
            raise ConfigError(
                f"a prompt of {prompt_tokens} tokens leaves no room for an answer in a slot of "
                f"the llama-cpp engine, which has {self._context_tokens} tokens; give it more"
            )
        return min(output_tokens, room)

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
        if not self._kv_unified:
            by_slot = [(job.slot, 1) for job in writing]
            by_slot += [(job.slot, chunk) for job, chunk in batch.reading]
            batch.pieces = pieces_of(by_slot, self._micro_batch)
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


def pieces_of(tokens: Iterable[tuple[int, int]], most: int) -> tuple[int, ...]:
    """The sizes in which llama.cpp computes a step when each slot has its own KV cache.

    A piece takes as many tokens of each of its slots, and slots that follow one another by number:
    two streams in slots 0 and 1 are one piece, in 0 and 2 they are two, and a prompt beside them
    gives a token to their piece and has the rest for itself.

    Args:
        tokens: (slot, tokens) in the order of the batch: writing slots, then reading ones.
        most: Tokens in one piece.
    """
    left = [[slot, count] for slot, count in tokens]
    found = []
    while left:
        together = [left[0]]
        for entry in left[1:]:
            if entry[0] == together[-1][0] + 1 and len(together) < most:
                together.append(entry)
        each = min(*(count for _, count in together), most // len(together))
        found.append(each * len(together))
        for entry in together:
            entry[1] -= each
        left = [entry for entry in left if entry[1]]
    return tuple(found)
