"""What is sent: completions on the quick models and longer answers on the others.

Owns the mix, its popularity that turns in phases, and targets taken from what this machine needs.
Sends nothing. Called by the command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.residency_live.setting import Setting, Sizes
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import MS, SECOND, seconds_to_ns
from slalom.workload.arrivals import poisson
from slalom.workload.lengths import UniformLength
from slalom.workload.load import Group, Kind, LoadItem, LoadPlan, Popularity, draw_load
from slalom.workload.tasks import TaskSpec

COMPLETION, GENERATION = "completion", "generation"
_ZIPF = 0.9
#: Phases of popularity in a run.
_PHASES = 3
#: Of the one core that computes, the share that the answers take if nothing else happened; the
#: loads take of it too.
_BUSY = 0.4


@dataclass(frozen=True, slots=True)
class Row:
    """A task of the mix."""

    task: str
    weight: float
    #: Tokens, from and to.
    prompt: tuple[int, int]
    output: tuple[int, int]
    #: Time to first token, as a multiple of what a load takes in the mean.
    ttft: float


#: A cold start breaks the first task's target and holds the second one's if it does not queue.
ROWS = (
    Row(COMPLETION, 4.0, (20, 60), (4, 10), 0.8),
    Row(GENERATION, 1.0, (20, 60), (6, 14), 3.0),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and where it comes from."""

    items: tuple[LoadItem, ...]
    rate_per_s: float
    tasks: Mapping[str, TaskSpec]


def tasks_for(load_ns: Sequence[int]) -> dict[str, TaskSpec]:
    """The tasks, with targets by the loads of this machine.

    Args:
        load_ns: What loading each model takes.
    """
    mean_ms = sum(load_ns) / len(load_ns) / MS
    return {
        row.task: TaskSpec(
            row.task,
            ttft_ms=round(row.ttft * mean_ms, 1),
            predicted_tokens=sum(row.output) // 2,
        )
        for row in ROWS
    }


def rate_per_s(setting: Setting, engines: Mapping[str, LlamaCppEngine], most_per_s: float) -> float:
    """Arrivals per second that keep the engines' core as busy as is wanted."""
    weights = sum(row.weight for row in ROWS)
    busy_ns = 0.0
    for row in ROWS:
        models = _models(setting, row)
        alone_ns = [
            engines[name].alone_ns(sum(row.prompt) // 2, sum(row.output) // 2) for name in models
        ]
        busy_ns += row.weight / weights * sum(alone_ns) / len(alone_ns)
    return min(_BUSY * SECOND / busy_ns, most_per_s)


def drawn(
    setting: Setting,
    sizes: Sizes,
    engines: Mapping[str, LlamaCppEngine],
    load_ns: Sequence[int],
    *,
    seed: int,
) -> Load:
    """The load of one repeat; every policy gets the same.

    Args:
        setting: The models.
        sizes: How long.
        engines: As timed.
        load_ns: What loading each model takes.
        seed: Of the draw.
    """
    tasks = tasks_for(load_ns)
    rate = rate_per_s(setting, engines, sizes.rate_max_per_s)
    kinds = tuple(
        Kind(
            task=tasks[row.task],
            popularity=Popularity(_models(setting, row), _ZIPF, sizes.seconds / _PHASES),
            weight=row.weight,
            weight_to=row.weight,
            prompt=UniformLength(*row.prompt),
            output=UniformLength(*row.output),
            max_tokens=row.output[1],
        )
        for row in ROWS
    )
    group = Group(f"r{seed}", kinds, arrivals=poisson(rate))
    items = draw_load(LoadPlan((group,), seconds_to_ns(sizes.seconds)), seed)
    return Load(tuple(items), rate, tasks)


def _models(setting: Setting, row: Row) -> tuple[str, ...]:
    return setting.quick if row.task == COMPLETION else setting.slow
