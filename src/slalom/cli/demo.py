"""`slalom demo`: a mixed coding load on real models, plain and with Slalom's policies.

Owns the options; the load and the table are `slalom.bench.demo`'s, imported when it runs.
"""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from slalom.cli.shape import JsonOption, examples

CodeOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        metavar="DIR",
        help="Folder with Python files to cut prompts from. Default: Python's own library.",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the load.")]
RepeatsOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Runs of each; who begins changes every time.")
]
RateOption = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="Requests per second. Default: found by a short probe of this machine.",
        show_default=False,
    ),
]
RequestsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Requests of one run. Default: as many as arrive in 40 seconds.",
        show_default=False,
    ),
]
KeepOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep each server's configuration, journal and log in this new folder. "
        "Default: the state folder, until the next demo.",
        show_default=False,
    ),
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Tiny models, a few requests: only to see it work.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "demo",
        short_help="Serve a coding load with real models, twice, and compare.",
        epilog=examples(
            "slalom demo                  about three minutes, with a live display",
            "slalom demo --code ~/src/x   prompts cut from your own Python files",
            "slalom demo --repeats 3      more runs, in turn, for steadier figures",
            "slalom demo --json           the result as JSON",
        ),
    )(demo)


def demo(
    *,
    code: CodeOption = None,
    seed: SeedOption = 0,
    repeats: RepeatsOption = 1,
    rate: RateOption = None,
    requests: RequestsOption = None,
    keep: KeepOption = None,
    quick: QuickOption = False,
    json: JsonOption = False,
) -> None:
    """Serve a few hundred coding requests with real models, twice, and compare.

    Starts a server with four models that do not fit into memory together and sends it an open-loop
    load of completions, generations, summaries and translations: first pass-through (fcfs, lru),
    then the same load to a fresh server with Slalom's policies. Ends with one table of latencies,
    targets met and goodput per task.
    """
    run = importlib.import_module("slalom.bench.demo").run
    code_of_exit = run(
        code=code,
        seed=seed,
        repeats=repeats,
        rate=rate,
        requests=requests,
        keep=keep,
        quick=quick,
        as_json=json,
    )
    raise typer.Exit(int(code_of_exit))
