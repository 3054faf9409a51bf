"""Options that say which part of which trace a scenario plays, and the reading of the scenario.

Owns their names and help, for every command that plays a scenario: `twin_commands` and
`bench_commands`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slalom.config.scenario_load import LoadedScenario, TraceSpan

FromOption = Annotated[
    float | None,
    typer.Option("--from", min=0, metavar="S", help="Begin a trace there.", show_default=False),
]
ToOption = Annotated[
    float | None,
    typer.Option("--to", min=0, metavar="S", help="End a trace there.", show_default=False),
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Play this file as the trace.", show_default=False
    ),
]


def span_of(trace: Path | None, start: float | None, end: float | None) -> "TraceSpan":
    """What the options say; None keeps the file's."""
    from slalom.config.scenario_load import TraceSpan

    return TraceSpan(start, end, trace)


def load(scenario: Path, span: "TraceSpan | None" = None) -> "LoadedScenario":
    """Read a scenario file, and the part of its trace."""
    from slalom.config.scenario_load import load_scenario

    return load_scenario(scenario, trace=span)
