"""A load in sizes: which request comes when, how long it is, what its user expects.

Owns the drawing of a whole load from its description. A load knows no text and no server: the
twin plays it as it is, and a load client cuts prompts to its lengths. Each quantity has a random
stream of its own, so that a change of one changes no other. Called by `config.scenario_load`.
"""

import bisect
import heapq
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from slalom.core.chain import Link
from slalom.core.request import Sla
from slalom.units import MS, SECOND
from slalom.workload.arrivals import ArrivalProcess
from slalom.workload.chained_load import ChainLaw, chained
from slalom.workload.clients import Keystrokes, Retries, burst
from slalom.workload.lengths import LengthLaw
from slalom.workload.streams import stream
from slalom.workload.tasks import TaskSpec, sla_for
from slalom.workload.traces import TraceRow

#: A load of more requests than this is a mistake in its description.
ITEMS_MAX = 20_000_000


@dataclass(frozen=True, slots=True)
class LoadItem:
    """One request in sizes, with the request that follows from it."""

    id: str
    #: Scheduled arrival from the start of the load; of a later step -1: see `gap_ns`.
    at_ns: int
    task: str
    model: str
    prompt_tokens: int
    #: What it will write; a server is told `max_tokens` only.
    output_tokens: int
    max_tokens: int
    predicted_tokens: int
    sla: Sla
    #: The client leaves this long after the arrival; -1 for never.
    give_up_after_ns: int = -1
    #: Whose request it is; requests of one session share a prefix. Empty for none.
    session: str = ""
    #: Tokens at the start of the prompt that the session's request before it had too.
    shared_tokens: int = 0
    #: A later step arrives this long after the whole answer of the step before.
    gap_ns: int = 0
    #: The next step of the session, if there is one.
    then: "LoadItem | None" = None
    #: The client has sent a newer request this long after the arrival and, without cancelling,
    #: does not look at this one's answer any more; -1 for never.
    stale_after_ns: int = -1
    #: The document it is for, where the server is told: of its requests the newest replaces the
    #: others. Empty for none.
    supersedes: str = ""
    #: Whether the client comes again after a refusal; None for never.
    retries: Retries | None = None
    #: Its place in a chain of calls; the deadline counts from the start of the load.
    link: Link | None = None
    #: What it is worth that it is on time, beside others.
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Popularity:
    """Which model is asked for: Zipf weights by rank, the ranks turning with each phase."""

    models: tuple[str, ...]
    exponent: float = 1.0
    #: Length of a phase, seconds; 0 for a single one.
    phase_s: float = 0.0

    def pick(self, rng: random.Random, at_s: float) -> str:
        """The model of a request."""
        if len(self.models) == 1:
            return self.models[0]
        weights = [1 / (rank + 1) ** self.exponent for rank in range(len(self.models))]
        rank = rng.choices(range(len(weights)), weights)[0]
        turns = int(at_s / self.phase_s) if self.phase_s else 0
        return self.models[(rank + turns) % len(self.models)]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request of a mix."""

    task: TaskSpec
    popularity: Popularity
    #: Weight among the kinds at the start and at the end of the load; linear between.
    weight: float
    weight_to: float
    prompt: LengthLaw
    output: LengthLaw
    max_tokens: int
    #: Share whose user types on, and when, ms after the arrival.
    typed_on_share: float = 0.0
    typed_on_ms: tuple[float, float] = (100.0, 600.0)
    #: Users who type on and ask anew each time: what arrives is then the first of a burst.
    keystrokes: Keystrokes | None = None
    #: Calls that follow it, with one deadline for all.
    chain: ChainLaw | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """How a session goes on: think time of a person, or tools between an agent's calls."""

    #: Steps of a session: a length law, drawn as it were tokens.
    count: LengthLaw
    #: Median pause between an answer and the next step, seconds, and its spread (logarithmic).
    gap_s: float
    gap_sigma: float
    #: Tokens that each step adds to the prompt beside the answer before it.
    appended: LengthLaw


@dataclass(frozen=True, slots=True)
class Group:
    """Clients of one kind of behaviour."""

    name: str
    kinds: tuple[Kind, ...]
    arrivals: ArrivalProcess | None = None
    #: Replayed instead of drawn arrivals, with their lengths.
    trace: tuple[TraceRow, ...] = ()
    steps: Steps | None = None
    retries: Retries | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load described: groups of clients, and how long or how many."""

    groups: tuple[Group, ...]
    #: Arrivals (of first steps) end here, ns; 0 where `count` says it.
    duration_ns: int
    #: Arrivals in all (of first steps); 0 where the duration says it.
    count: int = 0
    #: Requests counted exactly by kind and then shuffled, instead of drawn one by one.
    exact_mix: bool = False

    @property
    def rate_per_s(self) -> float:
        """Mean rate of arrivals (of first steps and first keystrokes), requests per second."""
        return sum(_rate(group) for group in self.groups)

    def scaled(self, factor: float) -> "LoadPlan":
        """The same load, `factor` times as fast; a count stays, a trace is squeezed."""
        groups = tuple(_scaled(group, factor) for group in self.groups)
        return replace(self, groups=groups)


def _rate(group: Group) -> float:
    if group.arrivals is not None:
        return group.arrivals.rate_per_s
    span_ns = group.trace[-1].at_ns if group.trace else 0
    return len(group.trace) * SECOND / span_ns if span_ns else 0.0


def _scaled(group: Group, factor: float) -> Group:
    if group.arrivals is not None:
        faster = replace(group.arrivals, rate_per_s=group.arrivals.rate_per_s * factor)  # type: ignore[type-var]
        return replace(group, arrivals=faster)
    rows = tuple(replace(row, at_ns=round(row.at_ns / factor)) for row in group.trace)
    return replace(group, trace=rows)


def draw_load(plan: LoadPlan, seed: int) -> list[LoadItem]:
    """Draw a load, in the order of arrival; later steps hang from their first.

    Args:
        plan: What to draw.
        seed: Of the draw; the same gives the same load on every machine.
    """
    return list(iter_load(plan, seed))


def iter_load(plan: LoadPlan, seed: int) -> Iterator[LoadItem]:
    """The same, drawn as it is asked for: a load of millions needs no memory."""
    drawn = [_in_order(_draw_group(plan, group, seed)) for group in plan.groups]
    whole = heapq.merge(*drawn, key=lambda item: (item.at_ns, item.id))
    return itertools.islice(whole, plan.count or None)


def _draw_group(plan: LoadPlan, group: Group, seed: int) -> Iterator[list[LoadItem]]:
    """Each arrival's requests; those of a burst of keystrokes come later than their first."""
    times: Iterable[tuple[int, TraceRow | None]] = _times(plan, group, seed)
    order, end_s = None, plan.duration_ns / SECOND
    drifts = any(kind.weight != kind.weight_to for kind in group.kinds)
    if plan.exact_mix or (drifts and not end_s):
        times = listed = list(times)
        end_s = end_s or (listed[-1][0] / SECOND if listed else 0.0)
        order = _exact_order(group, len(listed), seed) if plan.exact_mix else None
    rng = stream(seed, group.name, "mix")
    for index, (at_ns, row) in enumerate(times):
        at_s = at_ns / SECOND
        kind = order[index] if order else _pick(group.kinds, rng, at_s / end_s if end_s else 0.0)
        # A recorded task is kept where the mix has a kind of it.
        if row is not None:
            kind = next((one for one in group.kinds if one.task.name == row.task), kind)
        first = _first_step(group, kind, index, (at_ns, row), seed)
        yield [first] if kind.keystrokes is None else list(_typed(kind, first, seed))


def _in_order(drawn: Iterable[list[LoadItem]]) -> Iterator[LoadItem]:
    """Requests by (time, id); those of an arrival are no earlier than the arrival itself."""
    ahead: list[tuple[int, str, LoadItem]] = []
    for items in drawn:
        while ahead and ahead[0][0] < items[0].at_ns:
            yield heapq.heappop(ahead)[2]
        for item in items:
            heapq.heappush(ahead, (item.at_ns, item.id, item))
    while ahead:
        yield heapq.heappop(ahead)[2]


def _typed(kind: Kind, first: LoadItem, seed: int) -> Iterator[LoadItem]:
    """A user's requests while typing: each grows by a token and repeats the one before it."""
    assert kind.keystrokes is not None  # noqa: S101 - asked by the caller
    document = first.id
    rng = stream(seed, "keystroke answers", document)
    for number, key in enumerate(burst(kind.keystrokes, seed, document)):
        prompt = first.prompt_tokens + key.typed_tokens
        output = first.output_tokens
        if number:
            output = min(max(kind.output.draw(rng, prompt), 1), first.max_tokens)
        yield replace(
            first,
            id=f"{document}.{number}",
            at_ns=first.at_ns + key.after_ns,
            prompt_tokens=prompt,
            output_tokens=output,
            sla=sla_for(kind.task, prompt),
            give_up_after_ns=key.stale_after_ns if key.cancels else -1,
            stale_after_ns=-1 if key.cancels else key.stale_after_ns,
            session=document,
            shared_tokens=prompt - 1 if number else 0,
            supersedes=document if kind.keystrokes.named else "",
        )


def _times(plan: LoadPlan, group: Group, seed: int) -> Iterator[tuple[int, TraceRow | None]]:
    if group.arrivals is None:
        for row in group.trace:
            if not plan.duration_ns or row.at_ns < plan.duration_ns:
                yield row.at_ns, row
        return
    gaps = group.arrivals.gaps_s(stream(seed, group.name, "arrivals"))
    # With several groups a count is of all together: each draws as many, the earliest stay.
    most = plan.count or ITEMS_MAX
    for at_s in itertools.islice(itertools.accumulate(gaps), most):
        at_ns = round(at_s * SECOND)
        if plan.duration_ns and at_ns >= plan.duration_ns:
            return
        yield at_ns, None


def _pick(kinds: Sequence[Kind], rng: random.Random, part: float) -> Kind:
    part = min(part, 1.0)
    weights = [kind.weight + (kind.weight_to - kind.weight) * part for kind in kinds]
    return rng.choices(kinds, weights)[0]


def _exact_order(group: Group, count: int, seed: int) -> list[Kind]:
    """As many of each kind as its weight says (largest remainders), shuffled."""
    total = sum(kind.weight for kind in group.kinds)
    edges = list(itertools.accumulate(kind.weight / total * count for kind in group.kinds))
    order = [
        group.kinds[min(bisect.bisect(edges, place + 0.5), len(edges) - 1)]
        for place in range(count)
    ]
    stream(seed, group.name, "order").shuffle(order)
    return order


def _first_step(
    group: Group, kind: Kind, index: int, place: tuple[int, TraceRow | None], seed: int
) -> LoadItem:
    at_ns, row = place
    name = f"{group.name}-{index}"
    # A stream for each request, by what it is for: another policy, rate or mix keeps the rest.
    rng = stream(seed, group.name, kind.task.name, "request", index)
    model = row.model if row and row.model else kind.popularity.pick(rng, at_ns / SECOND)
    prompt = row.prompt_tokens if row else kind.prompt.draw(rng, 0)
    steps = max(group.steps.count.draw(rng, 0), 1) if group.steps else 1
    session = name if steps > 1 else ""
    if row and row.session:
        session = row.session
    sizes = [(prompt, row.output_tokens if row else kind.output.draw(rng, prompt), 0, 0)]
    for _ in range(steps - 1):
        assert group.steps is not None  # noqa: S101 - for the type checker
        before, answered, _, _ = sizes[-1]
        shared = before + answered
        grown = shared + group.steps.appended.draw(rng, shared)
        pause_s = group.steps.gap_s * rng.lognormvariate(0, group.steps.gap_sigma)
        sizes.append((grown, kind.output.draw(rng, grown), shared, round(pause_s * SECOND)))
    item: LoadItem | None = None
    for step in range(steps - 1, -1, -1):
        prompt, output, shared, gap_ns = sizes[step]
        most = max(kind.max_tokens, 1) if row is None else max(kind.max_tokens, output)
        item = LoadItem(
            id=f"{name}.{step}" if steps > 1 else name,
            at_ns=at_ns if step == 0 else -1,
            task=kind.task.name,
            model=model,
            prompt_tokens=prompt,
            output_tokens=min(max(output, 1), most),
            max_tokens=most,
            predicted_tokens=min(kind.task.predicted_for(prompt), most),
            sla=sla_for(kind.task, prompt),
            give_up_after_ns=_give_up_ns(kind, seed, group.name, index, step),
            session=session,
            shared_tokens=shared,
            gap_ns=gap_ns,
            then=item,
            retries=group.retries,
            weight=kind.task.weight,
        )
    assert item is not None  # noqa: S101 - steps >= 1
    return item if kind.chain is None else chained(kind.chain, item, seed)


def _give_up_ns(kind: Kind, seed: int, *names: str | int) -> int:
    # A stream of its own, so that the share changes nothing else.
    rng = stream(seed, "typed-on", *names)
    if rng.random() >= kind.typed_on_share:
        return -1
    return round(rng.uniform(*kind.typed_on_ms) * MS)


def every_step(items: Sequence[LoadItem]) -> Iterator[LoadItem]:
    """All requests of a load, later steps after the step before them."""
    for first in items:
        item: LoadItem | None = first
        while item is not None:
            yield item
            item = item.then
