"""`slalom bench run`: a scenario played in real time against any OpenAI-compatible server.

Owns one run from scenario file to `RunResult`. The load is drawn as the twin draws it, so the same
file and seed mean the same arrivals and lengths there and here. Called by the `bench` commands and
by `scenario_compare`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slalom.bench.load_client import ClientBounds, LoadClient, Progress
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.config.scenario_load import LoadedScenario
from slalom.errors import ConfigError
from slalom.metrics.records import RequestRecord
from slalom.metrics.results import Results, RunResult
from slalom.units import seconds_to_ns
from slalom.workload.load import LoadItem, draw_load, every_step


@dataclass(frozen=True, slots=True)
class Choices:
    """How a scenario is played."""

    #: Text for prompts; None is the standard library's sources.
    prompts: Path | None = None
    chat: bool = False
    #: Scenario's model -> the server's.
    models: Mapping[str, str] = field(default_factory=dict)
    #: The load is so many times as fast.
    rate_scale: float = 1.0
    #: Arrivals end after this, seconds; None for the scenario's own span.
    seconds: float | None = None
    #: How long answers are waited for after the last arrival, seconds.
    drain_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def load_of(loaded: LoadedScenario, seed: int, choices: Choices) -> list[LoadItem]:
    """The load of one run, as the twin would draw it.

    Raises:
        ConfigError: No request arrives within the span.
    """
    plan = loaded.plan if choices.rate_scale == 1 else loaded.plan.scaled(choices.rate_scale)
    if choices.seconds is not None:
        cut_ns = seconds_to_ns(choices.seconds)
        plan = replace(plan, duration_ns=min(plan.duration_ns or cut_ns, cut_ns))
    items = draw_load(plan, seed)
    if not items:
        raise ConfigError(
            f"{loaded.path}: seed {seed} draws no request within the span; make it longer"
        )
    return items


async def play(
    loaded: LoadedScenario,
    base_url: str,
    *,
    name: str,
    seed: int,
    choices: Choices,
    progress: Progress | None = None,
) -> RunResult:
    """Play a scenario once against a server.

    Args:
        loaded: The scenario.
        base_url: The server, without ``/v1``.
        name: Of the server, for the result.
        seed: Of the load.
        choices: How.
        progress: Kept up to date while it runs.

    Raises:
        ConfigError: There is no text to cut prompts from, or no request arrives.
        TargetError: The server does not answer.
    """
    items = load_of(loaded, seed, choices)
    texts = Texts(choices.prompts, seed=seed)
    speech = await _speech(base_url, items, texts, choices)
    client = LoadClient(
        base_url, bounds=ClientBounds(drain_s=choices.drain_s), progress=progress or Progress()
    )
    records = await client.open_loop(planned(items, texts, speech))
    return result_of(loaded, name, seed, records, span_ns(loaded, items, choices))


def result_of(
    loaded: LoadedScenario,
    name: str,
    seed: int,
    records: Sequence[RequestRecord],
    duration_ns: int,
) -> RunResult:
    """The figures of a run; the scenario's warm-up does not count."""
    warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds)
    counted = [record for record in records if record.scheduled_ns >= warm_up_ns]
    lag_ms = sorted(record.send_lag_ns / 1e6 for record in counted) or [0.0]
    more = {"client_lag_ms.p99": lag_ms[min(round(len(lag_ms) * 0.99), len(lag_ms) - 1)]}
    return RunResult.of(name, seed, counted, max(duration_ns - warm_up_ns, 1), more=more)


def span_ns(loaded: LoadedScenario, items: Sequence[LoadItem], choices: Choices) -> int:
    """The span of the arrivals: as chosen, else as the file says, else up to the last one."""
    file_ns = loaded.plan.duration_ns
    if choices.seconds is not None:
        cut_ns = seconds_to_ns(choices.seconds)
        return min(file_ns or cut_ns, cut_ns)
    return file_ns or max(item.at_ns for item in items)


def results(
    loaded: LoadedScenario, world: str, runs: Sequence[RunResult], choices: Choices
) -> Results:
    """Runs in the form that the twin's have."""
    rate = loaded.plan.rate_per_s * choices.rate_scale
    return Results(scenario=loaded.file.name, world=world, rate_per_s=rate, runs=runs)


async def _speech(
    base_url: str, items: Sequence[LoadItem], texts: Texts, choices: Choices
) -> Speech:
    """How to speak to this server: its names, and how it counts."""
    speech = Speech(chat=choices.chat, models=choices.models, headers=choices.headers)
    names = sorted({speech.model(item.model) for item in every_step(items)})
    sizes = {
        model: await token_size(base_url, model, texts, chat=choices.chat, headers=choices.headers)
        for model in names
    }
    return replace(speech, sizes=sizes)
