"""`slalom bench run` and `compare`: scenarios in real time against OpenAI-compatible servers.

Owns options and layout; playing is `slalom.bench.scenario_run`'s and `scenario_compare`'s.
"""

import asyncio
import json as json_text
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slalom.cli import typing_command
from slalom.cli.output import print_table, stderr
from slalom.cli.shape import KeyOption, examples, group
from slalom.cli.trace_span import FromOption, ToOption, TraceOption, load, span_of
from slalom.errors import ConfigError

if TYPE_CHECKING:
    from slalom.bench.load_client import Progress
    from slalom.bench.scenario_compare import Target
    from slalom.bench.scenario_run import Choices
    from slalom.config.scenario_load import LoadedScenario
    from slalom.metrics.results import Results

bench_app = group(
    "bench",
    "Play scenarios in real time. Any server will do that speaks the OpenAI API.",
    examples(
        "slalom bench run --url http://127.0.0.1:8080 mine.yaml",
        "slalom bench compare mine.yaml --target a=http://… --target b=http://…",
        "slalom bench type --quick --no-litellm",
        note="The same files are played in virtual time by `slalom twin run`.",
    ),
)
typing_command.register(bench_app)

ScenarioArgument = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="Scenario file.", dir_okay=False)
]
SeedsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Runs, with seeds 0, 1, 2 …")]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        metavar="PATH",
        help="File or folder of text to cut prompts from. Default: Python's own library.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        metavar="[NAME=]ID",
        help="The server's model for the scenario's NAME, or for every one. May be repeated.",
        show_default=False,
    ),
]
RateScaleOption = Annotated[
    float, typer.Option(metavar="X", help="Play the load so many times as fast.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(metavar="S", help="Arrivals end after this. Default: the scenario's span."),
]
ChatOption = Annotated[
    bool, typer.Option("--chat", help="Ask /v1/chat/completions instead of /v1/completions.")
]
DrainOption = Annotated[
    float, typer.Option(min=0, metavar="S", help="Wait so long for answers after the arrivals.")
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write all figures there; - is stdout, in place of tables.",
        show_default=False, allow_dash=True,
    ),
]  # fmt: skip

#: What a comparison shows.
_FIGURES = (
    "goodput_per_s",
    "attainment",
    "throughput_per_s",
    "ttft_ms.p50",
    "ttft_ms.p95",
    "tpot_ms.p50",
    "tpot_ms.p95",
    "e2e_ms.p50",
    "e2e_ms.p95",
)


@bench_app.command(
    "run",
    short_help="Play a scenario against one server.",
    epilog=examples(
        "slalom bench run --url http://127.0.0.1:8080 mine.yaml --model coder",
        "slalom bench run --url http://127.0.0.1:8080 mine.yaml --json out.json",
    ),
)
def bench_run(
    scenario: ScenarioArgument,
    *,
    url: Annotated[str, typer.Option(metavar="URL", help="The server, with or without /v1.")],
    seeds: SeedsOption = 1,
    model: ModelOption = [],  # noqa: B006 - typer copies it
    prompts: PromptsOption = None,
    rate_scale: RateScaleOption = 1.0,
    seconds: SecondsOption = None,
    trace: TraceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    chat: ChatOption = False,
    drain: DrainOption = 60.0,
    key: KeyOption = None,
    json: JsonFileOption = None,
) -> None:
    """Play a scenario against one server.

    Every request leaves at its time, whatever became of those before it; users who type on cancel
    theirs; prompts are cut to the drawn lengths, and answers are forced to theirs. Latencies count
    from the scheduled arrival. The figures have the names that `slalom twin run` gives them.
    """
    from slalom.bench.scenario_compare import Target

    choices = _choices(model, prompts, rate_scale, seconds, key, chat=chat, drain=drain)
    loaded = load(scenario, span_of(trace, start, end))
    found = _measure(loaded, [Target.read(url)], seeds, choices)
    _show(found, json)


@bench_app.command(
    "compare",
    short_help="Play a scenario against several servers in turn.",
    epilog=examples(
        "slalom bench compare mine.yaml --target a=http://127.0.0.1:8080 --seeds 5",
        "slalom bench compare mine.yaml --target 'b=serve m.gguf --port ${PORT}'",
        note="A command is started for each of its runs and stopped after it.",
    ),
)
def bench_compare(
    scenario: ScenarioArgument,
    *,
    target: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=URL|COMMAND",
            help="A server; the first is what others are compared with. Repeat it.",
        ),
    ],
    health: Annotated[
        str, typer.Option(metavar="PATH", help="Answers 200 once a started server is ready.")
    ] = "/health",
    seeds: SeedsOption = 3,
    model: ModelOption = [],  # noqa: B006 - typer copies it
    prompts: PromptsOption = None,
    rate_scale: RateScaleOption = 1.0,
    seconds: SecondsOption = None,
    trace: TraceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    chat: ChatOption = False,
    drain: DrainOption = 60.0,
    key: KeyOption = None,
    json: JsonFileOption = None,
) -> None:
    """Play a scenario against several servers in turn.

    Each seed's load goes to every server, and which begins changes with the seed. Shows every
    server's figures, then each one's over the first one's: mean and 95 per cent interval of the
    seeds' ratios, with the smallest and the largest.
    """
    from slalom.bench.scenario_compare import Target, ratios

    targets = [Target.read(text, health_path=health) for text in target]
    if len(targets) < 2:
        raise ConfigError("a comparison needs two targets: repeat --target")
    choices = _choices(model, prompts, rate_scale, seconds, key, chat=chat, drain=drain)
    loaded = load(scenario, span_of(trace, start, end))
    found = _measure(loaded, targets, seeds, choices)
    _show(found, json)
    print_table(
        ("figure", "server", f"over {targets[0].name}", "95 %", "smallest", "largest"),
        (
            (
                ratio.figure,
                ratio.target,
                f"{ratio.ratio.mean:.3f}",
                "-" if ratio.ratio.margin is None else f"±{ratio.ratio.margin:.3f}",
                f"{ratio.low:.3f}",
                f"{ratio.high:.3f}",
            )
            for ratio in ratios(found, _FIGURES)
        ),
        right=(f"over {targets[0].name}", "95 %", "smallest", "largest"),
    )


def _choices(
    models: Sequence[str],
    prompts: Path | None,
    rate_scale: float,
    seconds: float | None,
    key: str | None,
    *,
    chat: bool,
    drain: float,
) -> "Choices":
    from slalom.bench.scenario_requests import EVERY
    from slalom.bench.scenario_run import Choices

    if rate_scale <= 0 or (seconds is not None and seconds <= 0):
        raise ConfigError("--rate-scale and --seconds must be positive")
    named = [text.partition("=") for text in models]
    return Choices(
        prompts=prompts,
        chat=chat,
        models={name if mark else EVERY: value if mark else name for name, mark, value in named},
        rate_scale=rate_scale,
        seconds=seconds,
        drain_s=drain,
        headers={"authorization": f"Bearer {key}"} if key else {},
    )


def _measure(
    loaded: "LoadedScenario", targets: Sequence["Target"], seeds: int, choices: "Choices"
) -> "Results":
    from slalom.bench.scenario_compare import compare
    from slalom.bench.scenario_run import results

    with _display() as on_run:
        runs = asyncio.run(compare(loaded, targets, range(seeds), choices, on_run=on_run))
    world = ", ".join(target.url or target.command for target in targets)
    return results(loaded, world, runs, choices)


class _Display:
    """One line on stderr that follows the run under way; nothing where nobody watches."""

    def __init__(self) -> None:
        self._line = ""
        self._progress: Progress | None = None

    def __call__(self, target: str, seed: int, progress: "Progress") -> None:
        self._line, self._progress = f"{target}, seed {seed}", progress

    def __rich__(self) -> str:
        if self._progress is None:
            return "preparing …"
        done = sum(self._progress.ended.values())
        return (
            f"{self._line}: {done} of {self._progress.total} ended, {self._progress.good} good, "
            f"{self._progress.in_flight} in flight"
        )


@contextmanager
def _display() -> Iterator[_Display]:
    from rich.live import Live

    display = _Display()
    with Live(display, console=stderr(), refresh_per_second=4, transient=True):
        yield display


def _show(found: "Results", json: Path | None) -> None:
    from slalom.twin.report import table

    text = json_text.dumps(found.document(), indent=2, ensure_ascii=False) + "\n"
    if json is not None and str(json) == "-":
        sys.stdout.write(text)
        return
    columns, rows = table(found)
    print_table(columns, rows, right=columns[1:])
    lag = max(run.more.get("client_lag_ms.p99", 0.0) for run in found.runs)
    stderr().print(f"The load client was late by at most {lag:.1f} ms (p99 of its worst run).")
    if json is not None:
        json.write_text(text, encoding="utf-8")
