"""What the core knows of a request, its SLA and its model: ids, sizes and deadlines, no text.

Owns the frozen inputs of the scheduler. Built by the gateway (live) and by workloads (twin).
"""

from dataclasses import dataclass
from enum import StrEnum

from slalom.core.chain import Link
from slalom.errors import RequestError


class Swap(StrEnum):
    """What others may suffer so that a model comes up."""

    #: Idle replicas give way at once, busy ones are drained if that takes too long.
    NORMAL = "normal"
    #: Only idle ones give way.
    IDLE = "idle"
    #: Nobody does: it uses what is free.
    NEVER = "never"


class Choice(StrEnum):
    """Which of several models serves a request."""

    #: The first that is ready, else the first.
    WARM_FIRST = "warm-first"
    #: The first that a request needs not wait for longer than allowed.
    SPILLOVER = "spillover"
    #: The first that is expected to hold the request's objectives.
    DEADLINE = "deadline"
    #: The first that is ready; once, the last takes over where the first one's answer is doubted.
    CONFIDENT = "confident"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Models that may serve a request, and what decides between them when it arrives."""

    #: The best first.
    models: tuple[str, ...]
    choice: Choice
    #: `SPILLOVER`: the longest expected wait, ns, and the most requests that wait for the model
    #: before this one; -1 for any number.
    wait_ns: int = 0
    waiting_max: int = -1


@dataclass(frozen=True, slots=True)
class Sla:
    """Service-level objectives of one request; `None` means no such objective."""

    #: Time to first token, from the scheduled arrival, ns.
    ttft_ns: int | None = None
    #: Mean time per output token after the first, ns.
    tpot_ns: int | None = None
    #: End-to-end time, from the scheduled arrival, ns.
    e2e_ns: int | None = None

    def first_deadline_ns(self, arrived_ns: int, *, default_ns: int) -> int:
        """The earliest instant at which an objective breaks if nothing has been produced.

        Args:
            arrived_ns: Scheduled arrival of the request.
            default_ns: Allowance for a request without TTFT and E2E objectives, ns.
        """
        limits = [limit for limit in (self.ttft_ns, self.e2e_ns) if limit is not None]
        return arrived_ns + (min(limits) if limits else default_ns)

    def held(
        self, *, arrived_ns: int, first_token_ns: int, ended_ns: int, output_tokens: int
    ) -> bool:
        """Whether a finished answer met every objective.

        TTFT counts from the scheduled arrival, TPOT = (E2E - TTFT)/(output tokens - 1). An answer
        that was not streamed has no first token of its own (`first_token_ns` = -1): its TTFT and
        TPOT objectives then hold together, as E2E <= TTFT + TPOT x (output tokens - 1).
        """
        e2e_ns = ended_ns - arrived_ns
        gaps = max(output_tokens - 1, 0)
        if self.e2e_ns is not None and e2e_ns > self.e2e_ns:
            return False
        if first_token_ns < 0:
            if self.ttft_ns is None:
                return self.tpot_ns is None or e2e_ns <= self.tpot_ns * (gaps + 1)
            return e2e_ns <= self.ttft_ns + (self.tpot_ns or 0) * gaps
        if self.ttft_ns is not None and first_token_ns - arrived_ns > self.ttft_ns:
            return False
        return self.tpot_ns is None or ended_ns - first_token_ns <= self.tpot_ns * gaps or not gaps


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a client as the core sees it."""

    id: str
    model: str
    task: str
    sla: Sla
    #: Scheduled arrival; latency counts from here.
    arrived_ns: int
    #: Estimated tokens of the prompt.
    prompt_tokens: int
    #: Upper bound of the output the client allows, tokens.
    max_tokens: int
    #: Prediction of the output length, tokens; never the true length (oracle boundary).
    predicted_tokens: int
    #: The caller's key (an opaque name, never the secret), for accounting.
    key: str = ""
    #: Of requests of one key for one model that share this name, the newest replaces the others:
    #: a client that types on in one document. Empty for a request that replaces none.
    supersedes: str = ""
    #: Whether its client sees the answer grow. Of one that it gets as a whole nobody sees the first
    #: token: its TTFT and TPOT objectives hold together.
    streamed: bool = True
    #: Whether its answer can be broken off and continued behind the tokens produced so far.
    resumable: bool = False
    #: Name of the conversation or document that its prompt continues, opaque; empty for none.
    prefix: str = ""
    #: Tokens at its beginning that an earlier prompt had too: the latest one of its own name, or
    #: of `prefix_from` where that says whose beginning it is.
    prefix_tokens: int = 0
    prefix_from: str = ""
    #: Nobody wants its answer late: a planner refuses it as soon as its objectives cannot be met,
    #: whatever becomes of other late ones.
    drop_when_late: bool = False
    #: How long its model is kept after it, ns; it then leaves if idle. -1 says nothing.
    keep_ns: int = -1
    #: What others may suffer so that its model comes up; a model's own limit may allow less.
    allow_swap: Swap = Swap.NORMAL
    #: Its place in a chain of calls that share a deadline; None for a call by itself.
    link: Link | None = None
    #: What it is worth that it is on time, beside others, where not all can be.
    weight: float = 1.0
    #: Share of its key's requests of its task that should be on time: while fewer are, they count
    #: for more; 0 for none but the policy's own.
    floor: float = 0.0
    #: Models of which one is chosen when it arrives; `model` is the first, and then the chosen one.
    alternatives: Alternatives | None = None

    @property
    def has_objectives(self) -> bool:
        """Whether anything is expected of its times."""
        return self.sla != Sla() or (self.link is not None and self.link.has_deadline)

    @property
    def stand_in(self) -> str:
        """The model that takes over if its own one's answer is doubted; empty for none."""
        how = self.alternatives
        if how is None or how.choice is not Choice.CONFIDENT or self.model == how.models[-1]:
            return ""
        return how.models[-1]

    @property
    def asked(self) -> str:
        """The model it was sent for, whichever serves it."""
        return self.alternatives.models[0] if self.alternatives else self.model

    def __post_init__(self) -> None:
        """Reject impossible sizes at the door, so that no policy needs to.

        Raises:
            RequestError: A size is negative, or the model is none of the alternatives.
        """
        least = min(self.prompt_tokens, self.max_tokens, self.predicted_tokens, self.prefix_tokens)
        if least < 0:
            raise RequestError(
                f"request {self.id}: token counts must not be negative "
                f"(prompt {self.prompt_tokens}, max {self.max_tokens})",
                param="max_tokens",
            )
        if self.alternatives is not None and self.model not in self.alternatives.models:
            raise RequestError(
                f"request {self.id}: model {self.model} is none of those that may serve it "
                f"({', '.join(self.alternatives.models)})",
                param="model",
            )

    def was_good(self, first_token_ns: int, ended_ns: int, output_tokens: int) -> bool:
        """Whether a finished answer met what is expected of it.

        A call of a chain with a deadline has no objectives of its own: it is good if it ended
        before the chain's deadline.
        """
        if self.link is not None and self.link.has_deadline:
            return ended_ns <= self.link.deadline_ns
        return self.sla.held(
            arrived_ns=self.arrived_ns,
            first_token_ns=first_token_ns,
            ended_ns=ended_ns,
            output_tokens=output_tokens,
        )


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step of an engine takes: the sum of these times their counts, ns.

    A step gives every decoding sequence one token and reads some prompt tokens.
    """

    #: Every step.
    step_ns: float
    #: For each decoding sequence.
    sequence_ns: float = 0.0
    #: For each token of context that the decoding sequences hold.
    context_ns: float = 0.0
    #: For each prompt token read.
    prompt_ns: float = 0.0
    #: For each request, before its prompt is read: parsing, tokenising.
    request_ns: float = 0.0
    #: Times the square of the decoding sequences. May be negative: a step then grows up to the
    #: turn of the parabola and stays as it is.
    sequence_sq_ns: float = 0.0
    #: For each pair of a prompt token and a token before it in its prompt.
    prompt_pair_ns: float = 0.0
    #: Prompt tokens and sequences that a step computes while it waits for memory: so many of
    #: them, the sequences first, cost no `prompt_ns`.
    free_tokens: float = 0.0

    def of(
        self,
        sequences: float,
        context_tokens: float,
        prompt_tokens: float,
        prompt_pairs: float = 0.0,
    ) -> float:
        """Duration of one step, ns.

        Args:
            sequences: That each get a token.
            context_tokens: That these hold, summed.
            prompt_tokens: Read in this step.
            prompt_pairs: Tokens looked at, summed over those prompt tokens.
        """
        ns = self.step_ns + self.context_ns * context_tokens
        square = self.sequence_sq_ns
        if square:
            if square < 0.0 and sequences > (turn := -0.5 * self.sequence_ns / square):
                ns += (self.sequence_ns + square * turn) * turn
            else:
                ns += (self.sequence_ns + square * sequences) * sequences
        else:
            ns += self.sequence_ns * sequences
        if prompt_tokens:
            free = self.free_tokens - sequences
            if free > 0.0:
                prompt_tokens -= free
            if prompt_tokens > 0.0:
                ns += self.prompt_ns * prompt_tokens
            ns += self.prompt_pair_ns * prompt_pairs
        return ns

    def reading_ns(
        self, prompt_tokens: float, sequences: float = 0.0, cached_tokens: float = 0.0
    ) -> float:
        """What reading a whole prompt beside so many sequences adds to the steps, ns.

        Args:
            prompt_tokens: Of the prompt.
            sequences: That run beside.
            cached_tokens: At its beginning that the engine has read before.
        """
        paid = prompt_tokens - cached_tokens - max(self.free_tokens - sequences, 0.0)
        pairs = (prompt_tokens * prompt_tokens - cached_tokens * cached_tokens) * 0.5
        return (self.prompt_ns * paid if paid > 0.0 else 0.0) + self.prompt_pair_ns * pairs

    def scaled(self, factor: float) -> "StepCost":
        """The same shape, so many times as long."""
        return StepCost(
            step_ns=self.step_ns * factor,
            sequence_ns=self.sequence_ns * factor,
            context_ns=self.context_ns * factor,
            prompt_ns=self.prompt_ns * factor,
            request_ns=self.request_ns * factor,
            sequence_sq_ns=self.sequence_sq_ns * factor,
            prompt_pair_ns=self.prompt_pair_ns * factor,
            free_tokens=self.free_tokens,
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that can be served: how much it needs and what one replica can take."""

    id: str
    #: Device whose ledger pays for a replica; of several, the most preferred one.
    device: str
    #: Bytes one replica needs: weights + KV + runtime. 0 for a remote engine.
    bytes_needed: int
    #: Attempts one replica runs at a time (the engine's slots): its window.
    places: int
    #: Replicas to hold while there is demand. The first may evict others, the rest may not.
    replicas: int = 1
    #: Loaded at start and never evicted.
    pinned: bool = False
    #: What a calibration of its engine says, for planners to start from; None where there is none.
    step_cost: StepCost | None = None
    #: How a replica that gives way may sleep instead of ending: 0 not at all, 1 with its weights in
    #: host memory, 2 without them. Its process stays, its KV cache does not.
    sleep_level: int = 0
    #: Bytes a sleeper takes in its device's host memory.
    host_bytes: int = 0
    #: Bytes a sleeper keeps on its device.
    residual_bytes: int = 0
    #: What a load and a wake are expected to take before one was seen, ns; 0 where nobody knows.
    load_ns: int = 0
    wake_ns: int = 0
    #: The same of a wake from level 2, for a model that sleeps at level 1 where host memory has
    #: room and could sleep at level 2 where it has not; 0 if it could not.
    deep_wake_ns: int = 0
    #: What others may suffer so that it comes up.
    swap: Swap = Swap.NORMAL
    #: Idle for so long it sleeps, or ends, ns; 0 for never.
    idle_sleep_ns: int = 0
    idle_unload_ns: int = 0
    #: It is loaded at start where it fits without anybody giving way.
    preload: bool = False
    #: Groups of models of which only one is up at a time on a device.
    apart: tuple[str, ...] = ()
    #: How long it is kept after an answer that calls tools, ns.
    hold_ns: int = 0
    #: All devices that may hold a replica, most preferred first; empty for `device` alone.
    devices: tuple[str, ...] = ()

    @property
    def homes(self) -> tuple[str, ...]:
        """Devices that may hold a replica, most preferred first."""
        return self.devices or (self.device,)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A memory domain with a byte budget and, where replicas share compute, a window."""

    id: str
    budget_bytes: int
    #: Attempts in flight over all replicas on this device; 0 means no such bound.
    window: int = 0
    #: The device, host memory, whose ledger pays for what sleeps here; empty if none does.
    host: str = ""
    #: So many times as fast as the step times of its models say.
    speed: float = 1.0
