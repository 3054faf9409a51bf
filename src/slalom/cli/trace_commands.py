"""`slalom trace`: recorded loads.

Owns the command only; what a trace is, is `slalom.workload.traces`.
"""

from pathlib import Path
from typing import Annotated

import typer

from slalom.cli.output import stderr
from slalom.cli.shape import ConfigOption, examples, group
from slalom.errors import ConfigError

trace_app = group(
    "trace",
    "Record loads, to play them again.",
    examples(
        "slalom trace export -o monday.jsonl   what this server was asked, as a trace",
        note="A scenario plays it: arrivals: {kind: trace, path: monday.jsonl}",
    ),
)


@trace_app.callback()
def trace() -> None:
    """Record loads, to play them again."""


@trace_app.command(
    "export",
    short_help="Write a live server's journal as a trace.",
    epilog=examples(
        "slalom trace export > load.jsonl",
        "slalom trace export -o load.jsonl --from 3600 --to 7200",
        note="A trace holds arrival times, lengths, tasks and models; no prompts and no keys.",
    ),
)
def export(
    *,
    config: ConfigOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the journal. Default: the configured one.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to. Default: stdout.", show_default=False
        ),
    ] = None,
    start: Annotated[
        float, typer.Option("--from", min=0, metavar="S", help="Leave out what came before.")
    ] = 0,
    end: Annotated[
        float, typer.Option("--to", min=0, metavar="S", help="Leave out what came later.")
    ] = 1e9,
) -> None:
    """Write what a live server was asked as a trace, from its journal."""
    from slalom.config.load import load
    from slalom.config.places import journal_dir
    from slalom.units import seconds_to_ns
    from slalom.workload import trace_export
    from slalom.workload.traces import trace_lines

    directory = journal or journal_dir(load(config)[0].journal)
    if directory is None:
        raise ConfigError(
            "no journal is written (journal.dir is none), so there is nothing to export: set "
            "journal.dir, or name a folder with --journal"
        )
    found = trace_export.export(directory)
    rows = trace_export.only(found.rows, seconds_to_ns(start), seconds_to_ns(end))
    text = "".join(trace_lines(rows))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        span_s = rows[-1].at_ns / 1e9 if rows else 0.0
        stderr().print(f"{len(rows)} requests over {span_s:.0f} s in {out}", markup=False)
    if found.unfinished:
        stderr().print(
            f"{found.unfinished} of them had no whole answer; their length is the predicted one",
            markup=False,
        )
