"""A load, planned whole before it is sent: what is sent when, byte for byte.

Owns the joining of arrivals, mix and prompts into `PlannedRequest`s. The same arguments give the
same plan, so two servers can be given the same load. Sends nothing. Called by the demo and the
benchmarks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slalom.core.chain import Link
from slalom.core.request import Sla
from slalom.units import MS, seconds_to_ns
from slalom.workload.arrivals import ArrivalProcess, arrival_times_ns
from slalom.workload.clients import Retries
from slalom.workload.mix import MixEntry, draw
from slalom.workload.prompts import CHAT_PATH, CUTTERS, Prompt
from slalom.workload.source_code import Corpus
from slalom.workload.streams import stream
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec, sla_for

#: Header by which a request declares its task.
TASK_HEADER = "x-slalom-task"
#: Headers by which a request names whose it is, and the document it is for: the one counts only
#: with the other.
SESSION_HEADER = "x-slalom-session"
DOCUMENT_HEADER = "x-slalom-document"
#: As the gateway estimates prompts: bytes of code per token, tokens around a chat message.
_BYTES_PER_TOKEN = 3.5
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request with everything needed to send and to judge it."""

    id: str
    #: When to send it, ns from the start of the load.
    at_ns: int
    task: str
    model: str
    path: str
    headers: Mapping[str, str]
    #: JSON, complete. Hidden from `repr`: it holds a prompt.
    body: bytes = field(repr=False)
    #: What its user expects.
    sla: Sla
    #: Where the prompt was cut.
    origin: str
    #: The client gives up this long after the scheduled arrival if the answer is not whole; None
    #: for never. A user who types on.
    give_up_after_ns: int | None = None
    #: The next step of the same session: sent `gap_ns` after the whole answer to this one. Its
    #: own `at_ns` does not count.
    then: "PlannedRequest | None" = None
    gap_ns: int = 0
    #: Its client has sent a newer request this long after the scheduled arrival: it reads this
    #: one's answer to its end, but nobody waits for it. None for never.
    stale_after_ns: int | None = None
    #: Whether a refused client comes again; None for never.
    retries: Retries | None = None
    #: Its place in a chain of calls; the deadline counts from the start of the load.
    link: Link | None = None

    def was_good(
        self, scheduled_ns: int, first_token_ns: int, ended_ns: int, output_tokens: int
    ) -> bool:
        """Whether a whole answer met what is expected of it; times since the start of the load."""
        if self.link is not None and self.link.has_deadline:
            return ended_ns <= self.link.deadline_ns
        return self.sla.held(
            arrived_ns=scheduled_ns,
            first_token_ns=first_token_ns,
            ended_ns=ended_ns,
            output_tokens=output_tokens,
        )


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """A load described in a few numbers."""

    entries: Sequence[MixEntry]
    arrivals: ArrivalProcess
    count: int
    seed: int = 0
    #: Beginning of every request's id.
    name: str = "load"
    #: Stretch the arrivals evenly so that the last one comes at `count` over the rate: a short
    #: load of a bursty process would else be far off its rate.
    fitted: bool = False
    #: Share of completions whose user types on, and the span in which that happens, ms.
    typed_on_share: float = 0.0
    typed_on_ms: tuple[float, float] = (100.0, 600.0)
    #: Sampling fields and others sent with every request.
    extra: Mapping[str, Any] = field(default_factory=dict)


def plan(
    spec: LoadSpec, corpus: Corpus, *, tasks: Mapping[str, TaskSpec] = DEFAULT_TASKS
) -> tuple[PlannedRequest, ...]:
    """Plan a load, in the order of arrival.

    Args:
        spec: What to plan.
        corpus: Where prompts are cut from.
        tasks: Targets by task.
    """
    times_ns = _times_ns(spec)
    order = stream(spec.seed, "mix")
    numbers = dict.fromkeys(CUTTERS, 0)
    planned = []
    for index, at_ns in enumerate(times_ns):
        entry = draw(spec.entries, order)
        number = numbers[entry.task]
        numbers[entry.task] += 1
        planned.append(_request(spec, corpus, entry, (index, number, at_ns), tasks[entry.task]))
    return tuple(planned)


def _times_ns(spec: LoadSpec) -> list[int]:
    times_ns = arrival_times_ns(spec.arrivals, spec.count, seed=spec.seed)
    if not spec.fitted:
        return times_ns
    stretch = seconds_to_ns(spec.count / spec.arrivals.rate_per_s) / times_ns[-1]
    return [round(at_ns * stretch) for at_ns in times_ns]


def _request(
    spec: LoadSpec, corpus: Corpus, entry: MixEntry, place: tuple[int, int, int], task: TaskSpec
) -> PlannedRequest:
    index, number, at_ns = place
    rng = stream(spec.seed, "prompt", entry.task, number)
    prompt = CUTTERS[entry.task](rng, corpus, number)
    fields = {
        "model": entry.model,
        **prompt.fields,
        "max_tokens": rng.randint(*entry.max_tokens),
        "stream": True,
        "stream_options": {"include_usage": True},
        **spec.extra,
    }
    return PlannedRequest(
        id=f"{spec.name}-{index:04d}",
        at_ns=at_ns,
        task=entry.task,
        model=entry.model,
        path=prompt.path,
        headers={TASK_HEADER: entry.task},
        body=json.dumps(fields).encode(),
        sla=sla_for(task, prompt_tokens(prompt)),
        origin=prompt.origin,
        give_up_after_ns=_give_up_after_ns(spec, entry.task, number),
    )


def _give_up_after_ns(spec: LoadSpec, task: str, number: int) -> int | None:
    # A stream of its own, so that the share changes no prompt.
    rng = stream(spec.seed, "typed-on", task, number)
    if not task.startswith("completion") or rng.random() >= spec.typed_on_share:
        return None
    return round(rng.uniform(*spec.typed_on_ms) * MS)


def prompt_tokens(prompt: Prompt) -> int:
    """Estimated tokens of a prompt, by the gateway's rule: targets may grow with it."""
    if prompt.path == CHAT_PATH:
        texts = [message["content"] for message in prompt.fields["messages"]]
    else:
        texts = [prompt.fields["prompt"], prompt.fields["suffix"]]
    extra = _TOKENS_PER_MESSAGE if prompt.path == CHAT_PATH else 0
    return sum(int(len(text.encode()) / _BYTES_PER_TOKEN) + 1 + extra for text in texts)
