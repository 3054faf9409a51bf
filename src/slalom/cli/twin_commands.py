"""`slalom twin`: scenarios in virtual time, judged without a machine that could run them.

Owns the commands and their options; running and comparing is `slalom.twin`'s, figures are
`slalom.metrics`'s.
"""

import json as json_module
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from slalom.cli.output import print_table, stderr, stdout
from slalom.cli.shape import examples, group
from slalom.cli.trace_span import FromOption, ToOption, TraceOption, load, span_of
from slalom.cli.twin_output import (
    point_row,
    progress_bar,
    rate_text,
    read_json,
    read_rates,
    rounded,
    signed,
    write_json,
)

twin_app = group(
    "twin",
    "Play scenarios in virtual time. The scheduler is the one that serves; engines are laws.",
    examples(
        "slalom twin run scenarios/poisson.yaml        its policies, side by side",
        "slalom twin run S.yaml --policy ordering=fcfs --policy ordering=edf",
        "slalom twin capacity S.yaml                   up to which rate promises hold",
        "slalom twin sweep S.yaml --rates 2,4,8        over rates, on all cores",
        "slalom twin diff before.json after.json       what a change changed",
    ),
)

ScenarioArgument = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML).", show_default=False)
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="P",
        help="A set of the file, or slot=kind,slot=kind over its scheduler section; again for "
        "more. Default: all sets of the file.",
        show_default=False,
    ),
]
SeedsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Repetitions. Default: the file's.", show_default=False),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write all figures there; - is stdout.", show_default=False
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="DIR", help="Draw figures into this folder (SVG)."),
]


@twin_app.command(
    "run",
    short_help="Play a scenario, policies side by side.",
    epilog=examples(
        "slalom twin run scenarios/saber-w1.yaml",
        "slalom twin run S.yaml --seeds 10 --json after.json --plot figures",
        "slalom twin run S.yaml --policy admission=drop-late,ordering=edf --bound",
        "slalom twin run S.yaml --trace code.csv --from 600 --to 1200",
        "slalom twin run S.yaml --seeds 1 --records requests.jsonl",
        note="Intervals are 95 %, over seeds. Every policy meets the same loads.",
    ),
)
def run(
    scenario: ScenarioArgument,
    *,
    policy: PolicyOption = None,
    seeds: SeedsOption = None,
    rate_scale: Annotated[
        float, typer.Option(min=1e-6, metavar="X", help="Play the load X times as fast.")
    ] = 1,
    bound: Annotated[
        bool, typer.Option("--bound", help="Add what no policy could exceed (takes longer).")
    ] = False,
    trace: TraceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    json: JsonFileOption = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what became of each request there, one JSON line each.",
            show_default=False,
        ),
    ] = None,
    plot: PlotOption = None,
) -> None:
    """Play a scenario: every policy on the same loads, one column each."""
    from slalom.twin.compare import compare
    from slalom.twin.from_file import policy_sets
    from slalom.twin.records_file import RecordsFile
    from slalom.twin.report import table

    loaded = load(scenario, span_of(trace, start, end))
    chosen = policy_sets(loaded, policy or ())
    numbers = range(seeds or loaded.file.seeds)
    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar(loaded.file.name, len(chosen) * len(numbers)))
        file = stack.enter_context(RecordsFile(records)) if records is not None else None
        results = compare(
            loaded,
            chosen,
            numbers,
            rate_scale=rate_scale,
            with_bound=bound,
            tell=lambda _: advance(1),
            record=file.add if file is not None else None,
        )
    if plot is not None:
        from slalom.twin.plots import plot_run

        for path in plot_run(loaded, chosen, rate_scale, plot):
            stderr().print(f"wrote {path}", markup=False)
    if write_json(json, results.document()):
        return
    head, rows = table(results)
    print_table(head, rows, right=head[1:])
    stdout().print(
        f"\n{loaded.file.name}: {results.rate_per_s:.3g} requests/s, {len(numbers)} seeds",
        markup=False,
    )


@twin_app.command(
    "capacity",
    short_help="Find the rate up to which promises hold.",
    epilog=examples(
        "slalom twin capacity scenarios/poisson.yaml",
        "slalom twin capacity S.yaml --policy ordering=edf --at 99 --seeds 10",
    ),
)
def capacity(
    scenario: ScenarioArgument,
    *,
    policy: PolicyOption = None,
    seeds: SeedsOption = None,
    at: Annotated[
        list[float] | None,
        typer.Option(
            min=0.1, max=100, metavar="PCT", help="Attainment; again for more. [90, 95, 99]"
        ),
    ] = None,
    trace: TraceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    json: JsonFileOption = None,
) -> None:
    """Find the highest rates at which 90, 95 and 99 % of requests meet their targets."""
    from slalom.twin.capacity import capacity as search
    from slalom.twin.from_file import policy_sets

    loaded = load(scenario, span_of(trace, start, end))
    shares = [share / 100 for share in at or (90, 95, 99)]
    numbers = range(seeds or loaded.file.seeds)
    found = []
    with progress_bar(loaded.file.name, None) as advance:
        for name, chosen in policy_sets(loaded, policy or ()).items():
            found.append(
                search(loaded, name, chosen, seeds=numbers, shares=shares, tell=lambda: advance(1))
            )
    document = {
        "slalom_capacity": 1,
        "scenario": loaded.file.name,
        "policies": {
            one.policy: {
                f"{share:g}": rate
                and {"rate_per_s": round(rate.mean, 6), "margin": rounded(rate.margin)}
                for share, rate in one.rates.items()
            }
            for one in found
        },
    }
    if write_json(json, document):
        return
    head = ["requests/s at attainment", *(f"{share:.0%}" for share in shares)]
    rows = [[one.policy, *(rate_text(one.rates[share]) for share in shares)] for one in found]
    print_table(head, rows, right=head[1:])


@twin_app.command(
    "sweep",
    short_help="Play rates × policies × seeds on all cores.",
    epilog=examples(
        "slalom twin sweep S.yaml --rates 1,2,4,8 --json sweep.json",
        "slalom twin sweep S.yaml --rates 1,2,4,8 --keep cells.jsonl",
        note="A sweep that was ended goes on from the cells it kept.",
    ),
)
def sweep(
    scenario: ScenarioArgument,
    *,
    rates: Annotated[
        str, typer.Option(metavar="R,R…", help="Requests per second, separated by commas.")
    ],
    policy: PolicyOption = None,
    seeds: SeedsOption = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="At a time. Default: one a core.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep each cell there, and go on from it."),
    ] = None,
    trace: TraceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    json: JsonFileOption = None,
    plot: PlotOption = None,
) -> None:
    """Play a scenario at several rates, under several policies and seeds."""
    from slalom.twin.from_file import policy_sets
    from slalom.twin.sweep import Sweep
    from slalom.twin.sweep import sweep as run_sweep

    span = span_of(trace, start, end)
    loaded = load(scenario, span)
    plan = Sweep(
        path=scenario,
        rates=tuple(read_rates(rates)),
        policies=tuple(policy_sets(loaded, policy or ())),
        seeds=tuple(range(seeds or loaded.file.seeds)),
        trace=span,
    )
    with progress_bar(loaded.file.name, len(plan.cells())) as advance:
        known = 0

        def tell(done: int) -> None:
            nonlocal known
            advance(done - known)
            known = done

        document = run_sweep(plan, processes=processes or os.cpu_count() or 1, kept=keep, tell=tell)
    if plot is not None:
        from slalom.twin.plots import plot_sweep

        stderr().print(f"wrote {plot_sweep(document, plot)}", markup=False)
    if write_json(json, document):
        return
    head = ["requests/s", *(f"{name}: good/s, %" for name in plan.policies)]
    rows = [point_row(point, plan.policies) for point in document["points"]]
    print_table(head, rows, right=head)


@twin_app.command(
    "diff",
    short_help="Say what differs between two results.",
    epilog=examples(
        "slalom twin diff before.json after.json",
        "slalom twin diff before.json after.json --exit-code   1 if anything differs",
        note="Runs of the same policy and seed met the same load: differences are paired. * marks "
        "those whose 95 % interval leaves out zero.",
    ),
)
def diff(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Written by --json.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 if anything differs.")
    ] = False,
) -> None:
    """Say what differs between two results, figure by figure."""
    from slalom.metrics.difference import changes

    found = list(changes(read_json(before), read_json(after), (before.name, after.name)))
    if not found:
        stdout().print("no figure differs")
        return
    head = ["policy", "figure", "before", "after", "difference", ""]
    rows = [
        [
            one.policy,
            one.figure,
            f"{one.before:.4g}",
            f"{one.after:.4g}",
            signed(one.difference.mean, one.difference.margin),
            "*" if one.is_sure else "",
        ]
        for one in found
    ]
    print_table(head, rows, right=head[2:5])
    if exit_code:
        raise typer.Exit(1)


@twin_app.command(
    "schema",
    short_help="Print the JSON schema of scenario files.",
    epilog=examples("slalom twin schema > scenario.schema.json"),
)
def schema() -> None:
    """Print the JSON schema of scenario files, for an editor."""
    from slalom.config.scenario_file import ScenarioFile

    document: dict[str, Any] = ScenarioFile.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    typer.echo(json_module.dumps(document, indent=2, ensure_ascii=False))
