"""Reads a scenario file: its schema, what its parts must agree on, and the load it describes.

Owns the checks across sections and the way from sections to a `LoadPlan`. Every complaint names
file, line and remedy. Called by the twin (`twin.from_file`) and by load clients.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slalom.config.document import read_document
from slalom.config.origins import Origins
from slalom.config.params import tasks_over_defaults
from slalom.config.problems import config_error
from slalom.config.scenario_checks import disagreements, models_of
from slalom.config.scenario_file import ScenarioFile
from slalom.config.scenario_loads import (
    Arrivals,
    ChainLawSection,
    ClientBursts,
    ClientsSection,
    DayShape,
    EvenGaps,
    FixedTokens,
    GammaGaps,
    KeystrokesSection,
    Lengths,
    LogNormalTokens,
    MixEntrySection,
    PoissonArrivals,
    QuantileTokens,
    RetriesSection,
    StepsSection,
    TraceReplay,
    UniformTokens,
)
from slalom.config.tree import KeyPath, path_text
from slalom.errors import ConfigError
from slalom.units import seconds_to_ns
from slalom.workload.arrivals import ArrivalProcess, GammaArrivals
from slalom.workload.chained_load import ChainCall, ChainLaw
from slalom.workload.clients import Keystrokes, Retries
from slalom.workload.lengths import (
    FixedLength,
    LengthLaw,
    LogNormalLength,
    QuantileLength,
    RatioLength,
    UniformLength,
)
from slalom.workload.load import Group, Kind, LoadPlan, Popularity, Steps
from slalom.workload.shapes import ClientArrivals, EvenArrivals, ShapedArrivals, day
from slalom.workload.tasks import TaskSpec
from slalom.workload.traces import TraceRow, read_trace

#: Unknown models that a message names.
_LISTED_MAX = 5
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """What a command line says about the traces of a scenario; None keeps the file's."""

    from_s: float | None = None
    to_s: float | None = None
    #: Played instead of the file's own arrivals' path.
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario file that was found right."""

    path: Path
    file: ScenarioFile
    tasks: Mapping[str, TaskSpec]
    plan: LoadPlan


def load_scenario(path: Path, *, trace: TraceSpan | None = None) -> LoadedScenario:
    """Read a scenario file, and the traces it names.

    Args:
        path: The file.
        trace: Overrides of the trace's span.

    Raises:
        ConfigError: Something is wrong; the message has one line per problem.
    """
    document = read_document(path, absent="name one of those in scenarios/, or your own")
    origins = Origins(file=path)
    for at, line in document.lines.items():
        origins.note_line(at, line)
    try:
        file = ScenarioFile.model_validate(document.data)
    except ValidationError as error:
        raise config_error(error, ScenarioFile, origins) from None
    tasks = tasks_over_defaults(file.tasks)
    problems = [
        f"{origins.near(at)}: {path_text(at)}: {what}" for at, what in disagreements(file, tasks)
    ]
    if problems:
        raise ConfigError("\n  ".join(problems))
    has_trace = any(isinstance(group.arrivals, TraceReplay) for group in file.clients)
    if trace is not None and trace != TraceSpan() and not has_trace:
        raise ConfigError(
            f"{path}: no group of clients plays a trace, so there is none to replace or to cut: "
            "write arrivals: {kind: trace, path: FILE}"
        )
    models = frozenset([*(one.id for one in file.models), *(one.id for one in file.aliases)])
    reading = _Reading(path, origins, trace or TraceSpan(), models)
    groups = tuple(
        _group(section, tasks, reading, ("clients", index))
        for index, section in enumerate(file.clients)
    )
    plan = LoadPlan(
        groups=groups,
        duration_ns=seconds_to_ns(file.duration_seconds) if file.duration_seconds else 0,
        count=file.requests or 0,
        exact_mix=file.exact_mix,
    )
    return LoadedScenario(path, file, tasks, plan)


@dataclass(frozen=True, slots=True)
class _Reading:
    path: Path
    origins: Origins
    trace: TraceSpan
    models: frozenset[str]


def _group(
    section: ClientsSection, tasks: Mapping[str, TaskSpec], reading: _Reading, at: KeyPath
) -> Group:
    kinds = tuple(_kind(entry, tasks) for entry in section.mix)
    steps = _steps(section.steps) if section.steps else None
    if isinstance(section.arrivals, TraceReplay):
        rows = _rows(section.arrivals, reading, (*at, "arrivals", "path"))
        return Group(section.name, kinds, trace=rows, retries=_retries(section.retries))
    return Group(
        section.name,
        kinds,
        arrivals=_process(section.arrivals),
        steps=steps,
        retries=_retries(section.retries),
    )


def _retries(section: RetriesSection | None) -> Retries | None:
    if section is None:
        return None
    return Retries(section.tries, seconds_to_ns(section.backoff_seconds), section.jitter)


def _keystrokes(section: KeystrokesSection | None) -> Keystrokes | None:
    if section is None:
        return None
    return Keystrokes(section.share, section.after_ms, section.cancels, section.supersede)


def _rows(section: TraceReplay, reading: _Reading, at: KeyPath) -> tuple[TraceRow, ...]:
    text = str(reading.trace.path or section.path)
    for name in (found.strip("{}") for found in _VARIABLE.findall(text)):
        if name not in os.environ:
            raise ConfigError(
                f"{reading.origins.near(at)}: {path_text(at)}: {text} needs the environment "
                f"variable {name}, the folder with the trace: set it, or write the path itself"
            )
    path = Path(os.path.expandvars(text)).expanduser()
    if reading.trace.path is None:
        path = reading.path.parent / path
    span = reading.trace
    rows = read_trace(
        path,
        section.format,
        from_s=section.from_seconds if span.from_s is None else span.from_s,
        to_s=section.to_seconds if span.to_s is None else span.to_s,
        rate_scale=section.rate_scale,
    )
    unknown = sorted({row.model for row in rows} - reading.models - {""})
    if unknown:
        raise ConfigError(
            f"{reading.origins.near(at)}: {path_text(at)}: {path} asks for models that the "
            f"scenario lacks: {', '.join(unknown[:_LISTED_MAX])}; add them to models"
        )
    return rows


def _kind(entry: MixEntrySection, tasks: Mapping[str, TaskSpec]) -> Kind:
    return Kind(
        task=tasks[entry.task],
        popularity=Popularity(models_of(entry), entry.zipf, entry.phase_seconds),
        weight=entry.weight,
        weight_to=entry.weight if entry.weight_to is None else entry.weight_to,
        prompt=_lengths(entry.prompt),
        output=_lengths(entry.output),
        max_tokens=entry.max_tokens,
        typed_on_share=entry.typed_on_share,
        typed_on_ms=entry.typed_on_ms,
        keystrokes=_keystrokes(entry.keystrokes),
        chain=_chain(entry.chain, tasks),
    )


def _chain(section: ChainLawSection | None, tasks: Mapping[str, TaskSpec]) -> ChainLaw | None:
    if section is None:
        return None
    calls = tuple(
        ChainCall(
            task=tasks[call.task],
            model=call.model,
            prompt=_lengths(call.prompt),
            output=_lengths(call.output),
            max_tokens=call.max_tokens,
            gap_s=call.gap_seconds,
            gap_sigma=call.gap_sigma,
            carries=call.carries,
        )
        for call in section.then
    )
    return ChainLaw(section.deadline_seconds, calls)


def _steps(section: StepsSection) -> Steps:
    return Steps(
        count=_lengths(section.count),
        gap_s=section.gap_seconds,
        gap_sigma=section.gap_sigma,
        appended=_lengths(section.appended),
    )


def _lengths(section: Lengths) -> LengthLaw:
    if isinstance(section, FixedTokens):
        return FixedLength(section.tokens)
    if isinstance(section, UniformTokens):
        return UniformLength(section.low, section.high)
    if isinstance(section, QuantileTokens):
        return QuantileLength(section.points)
    if isinstance(section, LogNormalTokens):
        return LogNormalLength(section.median, section.sigma, section.most)
    return RatioLength(section.ratio, section.sigma, section.most)


def _process(section: Arrivals) -> ArrivalProcess:
    rate = section.rate_per_s  # type: ignore[union-attr]  # traces are dealt with before
    if isinstance(section, PoissonArrivals):
        return GammaArrivals(rate)
    if isinstance(section, GammaGaps):
        return GammaArrivals(rate, section.burstiness)
    if isinstance(section, EvenGaps):
        return EvenArrivals(rate, section.batch)
    if isinstance(section, ClientBursts):
        return ClientArrivals(
            rate, section.clients, section.skew, section.on_seconds, section.off_seconds
        )
    if isinstance(section, DayShape):
        return day(rate, section.day_seconds, section.burstiness)
    assert not isinstance(section, TraceReplay)  # noqa: S101 - for the type checker
    pieces = (
        (section.before_seconds, 1.0),
        (section.step_seconds, section.factor),
        (section.after_seconds, 1.0),
    )
    return ShapedArrivals(rate, pieces, section.burstiness)
