"""The loads of the fidelity comparison: sizes, targets and rates that suit a calibrated engine.

Owns two tasks whose targets are multiples of what the profile says the engine needs alone, and the
rates: shares of the throughput that the twin's engine reaches when everything comes at once. Runs
nothing live. Called by `fidelity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import MS, SECOND, seconds_to_ns
from slalom.workload.arrivals import poisson
from slalom.workload.lengths import UniformLength
from slalom.workload.load import Group, Kind, LoadItem, LoadPlan, Popularity, draw_load
from slalom.workload.tasks import TaskSpec

#: Load -> its rate as a share of the saturated throughput.
LOADS: Mapping[str, float] = {"light": 0.4, "knee": 0.85, "overload": 1.4}
#: (Task, weight, prompt tokens, output tokens).
_MIX = (
    ("completion", 2.0, (60, 300), (8, 24)),
    ("generation", 1.0, (100, 500), (32, 96)),
)
#: Targets as multiples of the engine's time alone.
_E2E_TIMES, _TTFT_TIMES, _TPOT_TIMES = 6.0, 12.0, 6.0
_SATURATING = 300


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is sent."""

    #: Span of the arrivals of one run, seconds.
    seconds: float
    #: Time for the calibration's repeats, seconds.
    calibrate_s: float
    loads: tuple[str, ...]
    models: tuple[str, ...]


def tasks_for(engine: LlamaCppEngine) -> dict[str, TaskSpec]:
    """The tasks with targets that this engine meets alone and misses under load."""
    found = {}
    for name, _, prompt, output in _MIX:
        prompt_tokens, output_tokens = sum(prompt) // 2, sum(output) // 2
        alone_ms = engine.alone_ns(prompt_tokens, output_tokens) / MS
        first_ms = engine.alone_ns(prompt_tokens, 1) / MS
        if name == "completion":
            spec = TaskSpec(name, e2e_ms=_E2E_TIMES * alone_ms, predicted_tokens=output_tokens)
        else:
            spec = TaskSpec(
                name,
                ttft_ms=_TTFT_TIMES * first_ms,
                tpot_ms=_TPOT_TIMES * (alone_ms - first_ms) / (output_tokens - 1),
                predicted_tokens=output_tokens,
            )
        found[name] = spec
    return found


def load(
    model: str, tasks: Mapping[str, TaskSpec], rate_per_s: float, seconds: float, seed: int
) -> list[LoadItem]:
    """One load, Poisson arrivals."""
    kinds = tuple(
        Kind(
            task=tasks[name],
            popularity=Popularity((model,)),
            weight=weight,
            weight_to=weight,
            prompt=UniformLength(*prompt),
            output=UniformLength(*output),
            max_tokens=output[1],
        )
        for name, weight, prompt, output in _MIX
    )
    group = Group("load", kinds, arrivals=poisson(rate_per_s))
    return draw_load(LoadPlan((group,), seconds_to_ns(seconds)), seed)


def saturated_per_s(engine: LlamaCppEngine, model: str, seed: int) -> float:
    """Requests per second when all have come at once."""
    tasks = tasks_for(engine)
    items = load(model, tasks, _SATURATING, 1.0, seed)
    running = engine.build(0)
    for item in items:
        running.start(item.id, item.prompt_tokens, item.output_tokens, 0)
    ended_ns = 0
    while (at_ns := running.next_ns()) is not None:
        running.take_due(at_ns)
        ended_ns = at_ns
    return len(items) * SECOND / max(ended_ns, 1)
