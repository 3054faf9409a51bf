"""What is sent: a mix of coding tasks whose targets suit the calibrated engine, and a typist.

Owns the mix, the targets as multiples of the engine's time alone, and the shares of the saturated
throughput. Sends nothing. Called by the command, the comparison and the typing part.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import MS, seconds_to_ns
from slalom.workload.arrivals import poisson
from slalom.workload.clients import Keystrokes
from slalom.workload.lengths import UniformLength
from slalom.workload.load import Group, Kind, LoadItem, LoadPlan, Popularity, draw_load
from slalom.workload.tasks import TaskSpec

#: Load -> its rate as a share of the saturated throughput.
LOADS: Mapping[str, float] = {"light": 0.4, "knee": 0.85, "overload": 1.4}
#: Rate of first keystrokes as a share of the saturated throughput. A burst has two and a half
#: requests in the mean.
TYPING_SHARE = 0.36
#: Prompts and answers of a typist's requests, tokens.
_TYPED_PROMPT, _TYPED_OUTPUT = (200, 900), (24, 64)


@dataclass(frozen=True, slots=True)
class Row:
    """A task of the mix; targets are multiples of the engine's time alone, None for no target."""

    task: str
    weight: float
    #: Tokens, from and to.
    prompt: tuple[int, int]
    output: tuple[int, int]
    ttft: float | None
    tpot: float | None
    e2e: float | None


MIX = (
    Row("completion", 5.0, (60, 300), (8, 24), 6.0, None, 6.0),
    Row("generation", 2.0, (100, 500), (32, 96), 12.0, 6.0, None),
    Row("summarisation", 1.0, (300, 900), (24, 48), None, None, 10.0),
    Row("translation", 1.0, (200, 500), (48, 128), None, None, 12.0),
)


def tasks_for(engine: LlamaCppEngine) -> dict[str, TaskSpec]:
    """The tasks with targets that this engine meets alone and misses under load."""
    return {row.task: target_of(row, engine) for row in MIX}


def target_of(row: Row, engine: LlamaCppEngine) -> TaskSpec:
    """A task with targets that an engine meets alone and misses under load."""
    prompt_tokens, output_tokens = sum(row.prompt) // 2, sum(row.output) // 2
    alone_ms = engine.alone_ns(prompt_tokens, output_tokens) / MS
    first_ms = engine.alone_ns(prompt_tokens, 1) / MS
    token_ms = (alone_ms - first_ms) / (output_tokens - 1)
    return TaskSpec(
        row.task,
        ttft_ms=_times(row.ttft, first_ms),
        tpot_ms=_times(row.tpot, token_ms),
        e2e_ms=_times(row.e2e, alone_ms),
        predicted_tokens=output_tokens,
    )


def _times(factor: float | None, alone_ms: float) -> float | None:
    return None if factor is None else round(factor * alone_ms, 1)


def mixed(
    model: str,
    tasks: Mapping[str, TaskSpec],
    rate_per_s: float,
    seconds: float,
    *,
    seed: int,
    name: str,
) -> list[LoadItem]:
    """Coding tasks, Poisson arrivals.

    Args:
        model: Who is asked.
        tasks: Of the mix, with their targets.
        rate_per_s: Of arrivals.
        seconds: Their span.
        seed: Of the draw.
        name: Beginning of the requests' ids.
    """
    kinds = tuple(kind_of(row, model, tasks[row.task]) for row in MIX)
    group = Group(name, kinds, arrivals=poisson(rate_per_s))
    return draw_load(LoadPlan((group,), seconds_to_ns(seconds)), seed)


def kind_of(row: Row, model: str, task: TaskSpec) -> Kind:
    """Requests of one row, to be drawn."""
    return Kind(
        task=task,
        popularity=Popularity((model,)),
        weight=row.weight,
        weight_to=row.weight,
        prompt=UniformLength(*row.prompt),
        output=UniformLength(*row.output),
        max_tokens=row.output[1],
    )


def typed(
    model: str,
    engine: LlamaCppEngine,
    rate_per_s: float,
    seconds: float,
    *,
    seed: int,
    name: str,
) -> list[LoadItem]:
    """Keystrokes of people whose editors ask anew and never cancel.

    A pause between two keystrokes is between a half and two times what the engine needs alone.

    Args:
        model: Who is asked.
        engine: As calibrated.
        rate_per_s: Of first keystrokes.
        seconds: Span of these.
        seed: Of the draw.
        name: Beginning of the requests' ids.
    """
    alone_ms = engine.alone_ns(sum(_TYPED_PROMPT) // 2, sum(_TYPED_OUTPUT) // 2) / MS
    kind = Kind(
        task=TaskSpec("completion", e2e_ms=6 * alone_ms, predicted_tokens=sum(_TYPED_OUTPUT) // 2),
        popularity=Popularity((model,)),
        weight=1.0,
        weight_to=1.0,
        prompt=UniformLength(*_TYPED_PROMPT),
        output=UniformLength(*_TYPED_OUTPUT),
        max_tokens=_TYPED_OUTPUT[1],
        keystrokes=Keystrokes(0.6, (0.5 * alone_ms, 2 * alone_ms), cancels=0.0, named=True),
    )
    group = Group(name, (kind,), arrivals=poisson(rate_per_s))
    return draw_load(LoadPlan((group,), seconds_to_ns(seconds)), seed)
