"""`slalom demo`: a mixed coding load on real models, plain and with Slalom's policies.

Owns the options; the load and the table are `slalom.bench.demo`'s, imported when it runs.
"""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from slalom.cli.shape import JsonOption, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "demo",
        short_help="Serve a coding load with real models, twice, and compare.",
        epilog=examples(
            "slalom demo                  about three minutes, with a live display",
            "slalom demo --code ~/src/x   prompts cut from your own Python files",
            "slalom demo --json           the result as JSON",
        ),
    )(demo)


def demo(
    *,
    code: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Folder with Python files to cut prompts from. Default: Python's own library.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the load.")] = 0,
    json: JsonOption = False,
) -> None:
    """Serve a few hundred coding requests with real models, twice, and compare.

    Starts a server with three models that do not fit into memory together, sends it the same
    open-loop load pass-through (fcfs, lru) and with Slalom's best policies, and ends with one
    table of latencies, attainment and goodput per task.
    """
    run = importlib.import_module("slalom.bench.demo").run
    raise typer.Exit(int(run(code=code, seed=seed, as_json=json) or 0))
