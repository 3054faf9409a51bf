"""What is sent: chains of three calls beside a mix of coding tasks, and the three ways to say so.

Owns the load, what a chain takes alone, and the headers of each way. Sends nothing. Called by the
command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.loads import MIX, mixed
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import MS, SECOND, seconds_to_ns
from slalom.workload.arrivals import poisson
from slalom.workload.chained_load import ChainCall, ChainLaw
from slalom.workload.lengths import UniformLength
from slalom.workload.load import Group, Kind, LoadItem, LoadPlan, Popularity, draw_load
from slalom.workload.plan import PlannedRequest
from slalom.workload.tasks import TaskSpec

#: The ways: calls by themselves with their tasks' targets; each with its share of the deadline as
#: a target of its own; and calls that say which chain they are of.
BY_ITSELF, SPLIT, CHAINED = "calls by themselves", "deadline split up", "chains"
WAYS = (BY_ITSELF, SPLIT, CHAINED)
TEMPLATE = "fix"
_TASK = "generation"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the chain; lengths from and to, tokens."""

    name: str
    prompt: tuple[int, int]
    output: tuple[int, int]
    gap_s: float = 0.0


STEPS = (
    Step("generate", (150, 400), (32, 80)),
    Step("review", (20, 40), (12, 36), gap_s=0.2),
    Step("repair", (10, 30), (32, 80)),
)


@dataclass(frozen=True, slots=True)
class Mixture:
    """How much of what."""

    #: Chains, and requests of the mix, per second.
    chains_per_s: float
    people_per_s: float
    seconds: float
    #: From the first call of a chain to its last answer, seconds.
    deadline_s: float


def alone_s(engine: LlamaCppEngine) -> list[float]:
    """What each call of a chain takes alone, with the pause before it, seconds."""
    found, before = [], 0.0
    for step in STEPS:
        prompt, output = before + _middle(step.prompt), _middle(step.output)
        found.append(step.gap_s + engine.alone_ns(round(prompt), round(output)) / SECOND)
        before = prompt + output
    return found


def load(
    model: str, tasks: Mapping[str, TaskSpec], what: Mixture, *, seed: int, name: str
) -> list[LoadItem]:
    """Chains and people's requests, in the order of arrival.

    Args:
        model: Who is asked.
        tasks: Of the mix, with their targets.
        what: How much.
        seed: Of the draw.
        name: Beginning of the requests' ids.
    """
    first, *later = STEPS
    calls = tuple(_call(model, tasks[_TASK], step) for step in later)
    kind = Kind(
        task=_spec(tasks[_TASK], first),
        popularity=Popularity((model,)),
        weight=1.0,
        weight_to=1.0,
        prompt=UniformLength(*first.prompt),
        output=UniformLength(*first.output),
        max_tokens=first.output[1],
        chain=ChainLaw(what.deadline_s, calls),
    )
    agents = Group(f"{name}-agent", (kind,), arrivals=poisson(what.chains_per_s))
    chains = draw_load(LoadPlan((agents,), seconds_to_ns(what.seconds)), seed)
    people = mixed(
        model, tasks, what.people_per_s, what.seconds, seed=seed + 1, name=f"{name}-people"
    )
    return sorted([*chains, *people], key=lambda item: (item.at_ns, item.id))


def renamed(item: LoadItem, way: str) -> LoadItem:
    """The same sizes and times under names of their own: nothing that was read before is found."""
    name = f"w{WAYS.index(way)}"
    link = item.link and replace(item.link, chain=f"{name}-{item.link.chain}")
    return replace(
        item,
        id=f"{name}-{item.id}",
        session=item.session and f"{name}-{item.session}",
        link=link,
        then=item.then and renamed(item.then, way),
    )


def _spec(task: TaskSpec, step: Step) -> TaskSpec:
    return replace(task, predicted_tokens=round(_middle(step.output)))


def _call(model: str, task: TaskSpec, step: Step) -> ChainCall:
    return ChainCall(
        task=_spec(task, step),
        model=model,
        prompt=UniformLength(*step.prompt),
        output=UniformLength(*step.output),
        max_tokens=step.output[1],
        gap_s=step.gap_s,
    )


def requests(
    items: Sequence[LoadItem],
    texts: Texts,
    speech: Speech,
    way: str,
    shares: Sequence[float],
) -> list[PlannedRequest]:
    """The load in one of the ways; each is judged alike, by the chain's deadline.

    Args:
        items: The load.
        texts: For prompts.
        speech: How the engine counts tokens.
        way: Of `WAYS`.
        shares: Of the deadline, by call, for those that split it up.
    """
    return [_said(one, way, shares) for one in planned(items, texts, speech)]


def _said(request: PlannedRequest, way: str, shares: Sequence[float]) -> PlannedRequest:
    link = request.link
    if link is None:
        return request
    headers = dict(request.headers)
    if way == CHAINED:
        headers["x-slalom-chain-template"] = TEMPLATE
    else:
        headers = {name: it for name, it in headers.items() if "slalom-chain" not in name}
    if way == SPLIT:
        headers = {name: it for name, it in headers.items() if not name.startswith("x-slo-")}
        headers["x-slo-e2e-ms"] = f"{shares[link.step - 1] * SECOND / MS:.6g}"
    then = _said(request.then, way, shares) if request.then is not None else None
    return replace(request, headers=headers, then=then)


def template(model: str) -> dict[str, Any]:
    """The `chains` section of the server's configuration."""
    steps = [
        {
            "name": step.name,
            "model": model,
            "task": _TASK,
            "output_tokens": round(_middle(step.output)),
            "gap_ms": step.gap_s * SECOND / MS,
        }
        for step in STEPS
    ]
    return {TEMPLATE: {"steps": steps}}


def requests_per_chain(engine: LlamaCppEngine) -> float:
    """How many requests of the mix a chain is worth, by their time alone."""
    weights = sum(row.weight for row in MIX)
    mean_ns = sum(
        row.weight * engine.alone_ns(sum(row.prompt) // 2, sum(row.output) // 2) for row in MIX
    )
    pauses_s = sum(step.gap_s for step in STEPS)
    return (sum(alone_s(engine)) - pauses_s) * SECOND * weights / mean_ns


def _middle(span: tuple[int, int]) -> float:
    return sum(span) / 2
