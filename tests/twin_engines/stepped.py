"""Engines stepped token by token: slow, and simple enough to be seen to be right.

Owns a second writing of the batching rules, without skipping, without running sums, and with
blocks counted anew in every step. The engine models must give the same times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slalom.twin.step_time import TICKS_PER_NS, StepProfile


@dataclass(frozen=True)
class Sent:
    """A job that comes at a time; the client may leave at another."""

    at_ns: int
    prompt: int
    output: int


@dataclass(eq=False)
class Job:
    """A job under way."""

    index: int
    sent: Sent
    ready: int
    written: int = 0
    computed: int = 0
    planned: int = 0
    joined: bool = False

    @property
    def missing(self) -> int:
        return self.sent.prompt + self.written - self.computed


@dataclass
class Outcome:
    """What became of all jobs: times in ns, rounded up."""

    first_ns: dict[int, int] = field(default_factory=dict)
    end_ns: dict[int, int] = field(default_factory=dict)
    steps: int = 0
    preemptions: int = 0
    blocks_most: int = 0


@dataclass
class Rules:
    """What both kinds of engines go by; `slots` makes it llama.cpp's."""

    budget: int = 8_192
    seqs_max: int = 256
    chunk: int = 1 << 30
    blocks: int = 0
    block_tokens: int = 16
    slots: int = 0
    micro_batch: int = 0
    #: One KV cache for all slots; else a piece of a step is of neighbours, with equal shares.
    kv_unified: bool = True


class Stepped:
    """One engine."""

    def __init__(self, profile: StepProfile, rules: Rules) -> None:
        self.profile = profile
        self.rules = rules
        self.running: list[Job] = []
        self.waiting: list[Job] = []
        self.slots: list[Job | None] = [None] * rules.slots
        #: Rank of the end of each slot's last job.
        self.freed = [0] * rules.slots
        self.outcome = Outcome()

    def play(self, sent: Sequence[Sent]) -> Outcome:
        """Serve all jobs."""
        ingest = round(self.profile.ingest_ns * TICKS_PER_NS)
        coming = [Job(i, s, s.at_ns * TICKS_PER_NS + ingest) for i, s in enumerate(sent)]
        coming.sort(key=lambda job: (job.ready, job.index))
        now = 0
        while coming or self.waiting or self.running:
            if not self.running and not self.waiting:
                now = max(now, coming[0].ready)
            while coming and coming[0].ready <= now:
                self.waiting.append(coming.pop(0))
            if self.rules.slots:
                self.plan_slots()
            else:
                self.plan_vllm()
            now += self.duration()
            self.outcome.steps += 1
            self.finish_step(now)
        return self.outcome

    def plan_vllm(self) -> None:
        rules = self.rules
        left = rules.budget
        gave_way = False
        for job in self.running:
            job.planned = 0
        index = 0
        while index < len(self.running) and left > 0:
            job = self.running[index]
            job.planned = min(job.missing, left, rules.chunk)
            while self.blocks() > rules.blocks > 0:
                victim = self.running.pop()
                victim.computed = victim.planned = 0
                self.waiting.insert(0, victim)
                self.outcome.preemptions += 1
                gave_way = True
                if victim is job:
                    break
            left -= job.planned
            index += 1
        while self.waiting and left > 0 and not gave_way and len(self.running) < rules.seqs_max:
            job = self.waiting[0]
            job.planned = min(job.missing, left, rules.chunk)
            self.running.append(job)
            if self.blocks() > rules.blocks > 0:
                self.running.pop()
                job.planned = 0
                break
            self.waiting.pop(0)
            left -= job.planned
        self.outcome.blocks_most = max(self.outcome.blocks_most, self.blocks())

    def plan_slots(self) -> None:
        while self.waiting and None in self.slots:
            free = [index for index, slot in enumerate(self.slots) if slot is None]
            longest_unused = min(free, key=self.freed.__getitem__)
            self.slots[longest_unused] = self.waiting.pop(0)
        self.running = [job for job in self.slots if job is not None]
        left = self.rules.budget - sum(job.written > 0 for job in self.running)
        for job in self.running:
            job.planned = 1 if job.written else min(job.missing, left)
            left -= 0 if job.written else job.planned

    def blocks(self) -> int:
        """Blocks that running jobs hold, with what this step adds."""
        size = self.rules.block_tokens
        return sum(-(-(job.computed + job.planned) // size) for job in self.running)

    def duration(self) -> int:
        """Of a step, straight from the coefficients."""
        p = self.profile

        def ticks(ns: float) -> int:
            return round(ns * TICKS_PER_NS)

        def dense(tokens: int) -> int:
            over = max(tokens - p.dense_flat_tokens, 0)
            return ticks(p.dense_flat_ns) + over * ticks(p.dense_ns_per_token)

        active = [job for job in self.running if job.planned]
        total = ticks(p.host_ns) + sum(not job.joined for job in active) * ticks(p.join_ns)
        for job in active:
            job.joined = True
        writing = [job for job in active if job.written and job.missing == 1]
        reading = [job for job in active if job not in writing]
        total += sum(dense(piece) for piece in self.pieces(writing + reading))
        if writing:
            context = sum(job.sent.prompt + job.written for job in writing)
            total += ticks(p.decode_flat_ns) + len(writing) * ticks(p.decode_seq_ns)
            total += context * ticks(p.decode_kv_ns_per_token)
        pair = ticks(p.prefill_attention_ns_per_token_ctx)
        doubled = sum(job.planned * (2 * job.computed + job.planned) for job in reading)
        return total + doubled * pair // 2

    def pieces(self, active: Sequence[Job]) -> list[int]:
        """Sizes in which a step's tokens are computed, token by token."""
        found = []
        if self.rules.kv_unified:
            tokens = sum(job.planned for job in active)
            piece = self.rules.micro_batch or tokens
            while tokens > 0:
                found.append(min(piece, tokens))
                tokens -= piece
            return found
        left = [self.slots.index(job) for job in active for _ in range(job.planned)]
        while left:
            neighbours: list[int] = []
            for slot in left:
                if not neighbours or slot == neighbours[-1] + 1:
                    neighbours.append(slot)
            del neighbours[self.rules.micro_batch :]
            size = 0
            while size + len(neighbours) <= self.rules.micro_batch:
                for slot in neighbours:
                    left.remove(slot)
                size += len(neighbours)
                if not all(slot in left for slot in neighbours):
                    break
            found.append(size)
        return found

    def finish_step(self, now: int) -> None:
        at_ns = -(-now // TICKS_PER_NS)
        for job in list(self.running):
            job.computed += job.planned
            job.planned = 0
            if job.missing == 0:
                job.written += 1
                self.outcome.first_ns.setdefault(job.index, at_ns)
            if job.written == job.sent.output:
                self.outcome.end_ns[job.index] = at_ns
                self.running.remove(job)
                if self.rules.slots:
                    index = self.slots.index(job)
                    self.slots[index] = None
                    self.freed[index] = len(self.outcome.end_ns)
