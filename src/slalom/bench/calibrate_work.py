"""What an engine computed in a span that was timed, in the terms of a step profile.

Owns the sums over steps, and who is in which step while clients keep all places busy: as the twin's
llama.cpp has it, which is as good as any rule for engines that batch continuously. Times nothing.
Called by `calibrate_probe`; read by `calibrate_fit`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.twin.engine_jobs import EngineJob
from slalom.twin.engine_llama_cpp import LlamaCppBatching, pieces_of


@dataclass(frozen=True, slots=True)
class Shape:
    """How an engine arranges its steps."""

    #: Streams at a time.
    places: int
    #: Whether streams can be sent to places by number, as llama.cpp lets us.
    numbered: bool = False
    #: Whether any tokens can be computed together; else only as `pieces_of` says.
    kv_unified: bool = True
    #: Tokens in one piece of a step, and in one step; 0 for no bound.
    micro_batch: int = 0
    batch_tokens: int = 0

    def pieces(self, writing: Sequence[int], reading: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Sizes of the pieces of one step, tokens.

        Args:
            writing: Places whose streams write.
            reading: (place, tokens) of those that read.
        """
        most = self.micro_batch or 1 << 30
        if not self.kv_unified:
            return pieces_of([*((place, 1) for place in writing), *reading], most)
        whole, rest = divmod(len(writing) + sum(count for _, count in reading), most)
        return (most,) * whole + ((rest,) if rest else ())


@dataclass(frozen=True, slots=True)
class Work:
    """Sums over the steps of a span."""

    #: Sizes of the batches computed one after another, tokens.
    pieces: tuple[int, ...]
    #: Tokens written by streams that wrote before, and the context they looked at.
    decode_seqs: int = 0
    kv_tokens: int = 0
    #: Pairs of a prompt's token and one before it.
    prefill_pairs: float = 0.0
    #: Requests whose reading began.
    requests: int = 0
    #: Whether it begins with the sending of a request to an idle engine.
    from_idle: bool = False


def busy(shape: Shape, sizes: Sequence[tuple[int, int]]) -> Work:
    """What it takes to serve requests of which there is one for each place until the last is sent.

    One that comes for another that has ended misses a step: its client had to see the end.

    Args:
        shape: Of the engine.
        sizes: (prompt tokens, output tokens) of each, in the order of their sending.
    """
    batching = LlamaCppBatching(
        slots=shape.places,
        batch_tokens=shape.batch_tokens or 1 << 30,
        prefix_caching=False,
        kv_unified=shape.kv_unified,
    )
    unsent = deque(EngineJob(number, *size) for number, size in enumerate(sizes))
    coming = [unsent.popleft() for _ in range(min(shape.places, len(unsent)))]
    pieces: list[int] = []
    seqs, kv, pairs = 0, 0, 0.0
    late: list[EngineJob] = []
    while True:
        for job in coming:
            batching.add(job)
        coming, late = late, []
        batch = batching.plan()
        if batch is None:
            if not coming:
                break
            continue
        if coming:
            batch.steps = 1
        reading = [(job.slot, tokens) for job, tokens in batch.reading]
        pieces += batch.steps * shape.pieces([job.slot for job in batch.writing], reading)
        for job in batch.writing:
            seqs += batch.steps
            kv += batch.steps * job.context + batch.steps * (batch.steps - 1) // 2
            batching.grow(job, batch.steps)
            job.written += batch.steps
        for job, tokens in batch.reading:
            pairs += tokens * (job.computed + tokens / 2)
            batching.grow(job, tokens)
            job.written += not job.missing
        for job in (*batch.writing, *(job for job, _ in batch.reading)):
            if job.written >= job.output_tokens:
                batching.remove(job)
                if unsent:
                    late.append(unsent.popleft())
    return Work(tuple(pieces), seqs, kv, pairs, len(sizes), from_idle=True)
