"""Chains in a load: a request, the calls that follow its answer, and one deadline for them all.

Owns the law of a chain and the drawing of its later calls. What a client could say beforehand of a
later call (its task's expectation, the mean of what is added) is all that its `Link` says: true
lengths stay in the items. Called by `load`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slalom.core.chain import Later, Link
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.lengths import LengthLaw
from slalom.workload.streams import stream
from slalom.workload.tasks import TaskSpec, sla_for

if TYPE_CHECKING:
    from slalom.workload.load import LoadItem


@dataclass(frozen=True, slots=True)
class ChainCall:
    """A later call of a chain."""

    task: TaskSpec
    model: str
    #: Tokens of its prompt beside what it carries over.
    prompt: LengthLaw
    output: LengthLaw
    max_tokens: int
    #: Median pause before it, seconds, and its spread (logarithmic).
    gap_s: float = 0.0
    gap_sigma: float = 0.0
    #: Whether its prompt begins with the prompt and the answer before it.
    carries: bool = True

    def predicted_for(self, prompt_tokens: int) -> int:
        """What its client expects of its answer to a prompt of that length, tokens."""
        return min(self.task.predicted_for(prompt_tokens), self.max_tokens)


@dataclass(frozen=True, slots=True)
class ChainLaw:
    """What follows a request, and by when it must all have happened."""

    deadline_s: float
    then: tuple[ChainCall, ...]

    def rest(self, first: "LoadItem") -> tuple[Later, ...]:
        """What the client of a first call can say of the later ones."""
        before, answered, found = first.prompt_tokens, first.predicted_tokens, []
        for call in self.then:
            carried = before + answered if call.carries else 0
            before = carried + round(call.prompt.mean(carried))
            answered = call.predicted_for(before)
            gap_ns = seconds_to_ns(call.gap_s)
            later = Later(call.model, call.task.name, before, answered, call.max_tokens, gap_ns)
            found.append(later)
        return tuple(found)


def chained(law: ChainLaw, first: "LoadItem", seed: int) -> "LoadItem":
    """The first call of a chain, from which the others hang.

    Args:
        law: The chain.
        first: Its first call, drawn as any request.
        seed: Of the load.
    """
    rng = stream(seed, "chain", first.id)
    rest, steps = law.rest(first), 1 + len(law.then)
    whole = Link(first.id, 1, steps, first.at_ns + seconds_to_ns(law.deadline_s), rest)
    head = replace(first, id=f"{first.id}.0", session=first.id, link=whole)
    calls = [head]
    #: By model: tokens that its last call of this chain has read and written.
    read: dict[str, int] = {}
    for place, call in enumerate(law.then, 1):
        before = calls[-1]
        read[before.model] = before.prompt_tokens + before.output_tokens
        link = replace(whole, step=place + 1, rest=rest[place:])
        later = _later(call, before, rng, read)
        calls.append(replace(later, id=f"{first.id}.{place}", link=link))
    item: LoadItem | None = None
    for one in reversed(calls):
        item = replace(one, then=item)
    assert item is not None  # noqa: S101 - there is a first one
    return item


def _later(
    call: ChainCall, before: "LoadItem", rng: random.Random, read: Mapping[str, int]
) -> "LoadItem":
    carried = before.prompt_tokens + before.output_tokens if call.carries else 0
    prompt = carried + call.prompt.draw(rng, carried)
    gap_ns = round(call.gap_s * rng.lognormvariate(0, call.gap_sigma) * SECOND)
    return replace(
        before,
        at_ns=-1,
        task=call.task.name,
        model=call.model,
        prompt_tokens=prompt,
        output_tokens=min(max(call.output.draw(rng, prompt), 1), call.max_tokens),
        max_tokens=call.max_tokens,
        predicted_tokens=call.predicted_for(prompt),
        sla=sla_for(call.task, prompt),
        give_up_after_ns=-1,
        shared_tokens=min(read.get(call.model, 0), prompt) if call.carries else 0,
        gap_ns=gap_ns,
        weight=call.task.weight,
    )
