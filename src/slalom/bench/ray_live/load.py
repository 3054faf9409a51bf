"""What is sent: four coding tasks for two models at once, as they come or in bursts.

Owns the loads, their rates as shares of what the machine answers at most, and the requests that
come alone. Sends nothing. Called by the command, `knee` and `compare`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slalom.bench.ray_live.setting import CODER, MODEL_OF
from slalom.bench.sla_live.loads import MIX, kind_of, target_of
from slalom.core.request import Sla
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import seconds_to_ns
from slalom.workload.arrivals import ArrivalProcess, poisson
from slalom.workload.load import Group, LoadItem, LoadPlan, draw_load
from slalom.workload.shapes import EvenArrivals
from slalom.workload.tasks import TaskSpec

#: Requests of a burst.
BURST = 12
#: Of a request that comes alone, tokens: enough for a first token and the pace of the rest.
ALONE_PROMPT, ALONE_OUTPUT = 24, 9
#: Arrivals per second from which the closed loops take theirs.
_PLENTY = 400.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of load."""

    about: str
    #: Of the machine's throughput.
    share: float
    bursts: bool = False


LOADS: Mapping[str, Shape] = {
    "poisson": Shape("at the knee, Poisson arrivals", 0.85),
    "bursts": Shape(f"at the knee, bursts of {BURST}", 0.85, bursts=True),
    "beyond": Shape("beyond the knee, Poisson arrivals", 1.3),
}


def tasks_for(engines: Mapping[str, LlamaCppEngine]) -> dict[str, TaskSpec]:
    """The tasks, with targets that their model meets alone.

    Args:
        engines: By model.
    """
    return {row.task: target_of(row, engines[MODEL_OF[row.task]]) for row in MIX}


def shares() -> dict[str, float]:
    """Of all requests, those of each model."""
    weights = dict.fromkeys(dict.fromkeys(MODEL_OF.values()), 0.0)
    for row in MIX:
        weights[MODEL_OF[row.task]] += row.weight
    total = sum(weights.values())
    return {model: weight / total for model, weight in weights.items()}


def load(
    tasks: Mapping[str, TaskSpec], shape: Shape, most_per_s: float, seconds: float, *, seed: int,
    name: str
) -> list[LoadItem]:  # fmt: skip
    """One load.

    Args:
        tasks: With their targets.
        shape: Of which kind.
        most_per_s: The machine's throughput.
        seconds: Span of the arrivals.
        seed: Of the draw.
        name: Beginning of the requests' ids.
    """
    rate = shape.share * most_per_s
    process: ArrivalProcess = EvenArrivals(rate, BURST) if shape.bursts else poisson(rate)
    return _drawn(tasks, process, seconds, seed, name, tuple(tasks))


def plenty(
    tasks: Mapping[str, TaskSpec], model: str, seconds: float, *, seed: int, name: str
) -> list[LoadItem]:
    """More requests for one model than it answers within so many seconds."""
    own = [task for task, which in MODEL_OF.items() if which == model]
    return _drawn(tasks, poisson(_PLENTY), seconds, seed, name, own)


def _drawn(
    tasks: Mapping[str, TaskSpec],
    process: ArrivalProcess,
    seconds: float,
    seed: int,
    name: str,
    which: Sequence[str],
) -> list[LoadItem]:
    kinds = tuple(
        kind_of(row, MODEL_OF[row.task], tasks[row.task]) for row in MIX if row.task in which
    )
    group = Group(name, kinds, arrivals=process)
    return draw_load(LoadPlan((group,), seconds_to_ns(seconds)), seed)


def alone(count: int, name: str) -> list[LoadItem]:
    """Requests of one length, to be sent one at a time."""
    tokens = (ALONE_PROMPT, ALONE_OUTPUT, ALONE_OUTPUT, ALONE_OUTPUT)
    return [
        LoadItem(f"{name}-{number:03d}", 0, "generation", CODER, *tokens, Sla())
        for number in range(count)
    ]


def renamed(items: Sequence[LoadItem], way: str) -> list[LoadItem]:
    """The same sizes and times under names of their own: nothing read before is found again."""
    return [replace(item, id=f"{way}-{item.id}".replace(" ", "-")) for item in items]
