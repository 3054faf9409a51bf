"""`slalom bench type`: people who type, against the bundled model or servers of the user's own.

Owns options; the simulator is `slalom.bench.typing`'s. Registered by `bench_commands`.
"""

import asyncio
import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slalom.cli.shape import KeyOption, examples
from slalom.errors import ConfigError

if TYPE_CHECKING:
    from slalom.bench.typing.report import Wanted
    from slalom.bench.typing.runs import Sizes
    from slalom.models.fim import FimTemplate

_TYPISTS_MAX = 256
#: Which editors there are: option -> whether each cancels.
_EDITORS = {"both": (True, False), "cancel": (True,), "never": (False,)}


TargetsOption = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="[NAME=]URL|NAME=COMMAND",
        help="A server; the last is compared with the others. May be repeated.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="ID", help="Who is asked.")
]
TypistsOption = Annotated[
    str | None, typer.Option(metavar="N,N…", help="How many type. Default: 1,8,32.")
]
EditorsOption = Annotated[
    str, typer.Option(metavar="both|cancel|never", help="Whether they cancel the older one.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(min=0.5, metavar="S", help="Typing in each run. Default: 6; 10 alone."),
]
RepeatsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Runs of each kind. Default: 3.")
]
FilesOption = Annotated[
    list[Path],
    typer.Option(
        exists=True,
        metavar="PATH",
        help="File or folder of code to type. Default: Python's own library.",
        show_default=False,
    ),
]
FollowOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        help="Pauses after which the suggestion is typed. Default: 0.3.",
    ),
]
BackgroundOption = Annotated[bool, typer.Option(help="With chats and a batch beside the typists.")]
FimOption = Annotated[
    str | None,
    typer.Option(
        metavar="'PRE SUF MID'",
        help="The model's gap marks, for servers that know no field suffix.",
    ),
]
MetricsOption = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=URL",
        help="Metrics page of the engine behind a target, if not the target's own.",
        show_default=False,
    ),
]
LiteLlmOption = Annotated[bool, typer.Option(help="With LiteLLM, if it is installed.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="A smoke test: figures mean nothing.")]
SeedOption = Annotated[int, typer.Option(help="Of files, keystrokes and background.")]
WaitOption = Annotated[
    float, typer.Option(min=0, metavar="S", help="For other programs to end, at most.")
]
WriteOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the page there, too.")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write every run's figures there.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "type",
        short_help="Let people type code, and see which completions come in time.",
        epilog=examples(
            "slalom bench type --quick --no-litellm",
            "slalom bench type --write docs/benchmarks/typing.md",
            "slalom bench type --target http://127.0.0.1:8642 --model coder --typists 8",
            note="Without a target: the bundled model directly, by LiteLLM and by Slalom.",
        ),
    )(bench_type)


def bench_type(
    *,
    target: TargetsOption = [],  # noqa: B006 - typer copies it
    model: ModelOption = None,
    typists: TypistsOption = None,
    editors: EditorsOption = "both",
    seconds: SecondsOption = None,
    repeats: RepeatsOption = None,
    files: FilesOption = [],  # noqa: B006 - as above
    follow: FollowOption = None,
    background: BackgroundOption = True,
    fim: FimOption = None,
    metrics: MetricsOption = [],  # noqa: B006 - as above
    key: KeyOption = None,
    litellm: LiteLlmOption = True,
    quick: QuickOption = False,
    seed: SeedOption = 0,
    wait: WaitOption = 0.0,
    write: WriteOption = None,
    json: JsonFileOption = None,
) -> None:
    """Let people type code, and see which completions come in time.

    Typists type real files with 40 to 100 ms between keystrokes, and pauses. Each keystroke asks
    for a streamed completion. Prints a page: how many answers were whole before the next key was
    hit, times to first token, and what the engine computed for nobody, by its own metrics.
    """
    from slalom.bench.typing.page import document, page
    from slalom.bench.typing.report import typing_report

    sizes = _sizes(typists, editors, seconds, repeats, follow, background=background, quick=quick)
    wanted = _wanted(
        replace(sizes, files=tuple(files)),
        target,
        metrics,
        model,
        fim,
        quick=quick,
        litellm=litellm,
    )
    facts, runs = asyncio.run(typing_report(replace(wanted, key=key, seed=seed, wait_s=wait)))
    text = page(facts, runs)
    sys.stdout.write(text)
    if write is not None:
        write.write_text(text, encoding="utf-8")
    if json is not None:
        json.write_text(json_text.dumps(document(facts, runs), indent=2) + "\n", encoding="utf-8")


def _sizes(
    typists: str | None,
    editors: str,
    seconds: float | None,
    repeats: int | None,
    follow: float | None,
    *,
    background: bool,
    quick: bool,
) -> "Sizes":
    from slalom.bench.typing.background import NOTHING
    from slalom.bench.typing.report import QUICK
    from slalom.bench.typing.runs import Sizes

    sizes = QUICK if quick else Sizes()
    if editors not in _EDITORS:
        raise ConfigError(f"--editors {editors!r} is none of {', '.join(_EDITORS)}")
    return replace(
        sizes,
        typists=_counts(typists) if typists is not None else sizes.typists,
        cancels=_EDITORS[editors],
        seconds=sizes.seconds if seconds is None else seconds,
        alone_seconds=sizes.alone_seconds if seconds is None else seconds,
        repeats=sizes.repeats if repeats is None else repeats,
        follow=sizes.follow if follow is None else follow,
        background=sizes.background if background else NOTHING,
    )


def _counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or any(not 1 <= count <= _TYPISTS_MAX for count in found):
        raise ConfigError(
            f"--typists {text!r} is no list of numbers from 1 to {_TYPISTS_MAX}: write 1,8,32"
        )
    return found


def _wanted(
    sizes: "Sizes",
    targets: Sequence[str],
    metrics: Sequence[str],
    model: str | None,
    fim: str | None,
    *,
    quick: bool,
    litellm: bool,
) -> "Wanted":
    from slalom.bench.scenario_compare import Target
    from slalom.bench.typing.report import MODEL, Wanted

    if targets and model is None:
        raise ConfigError("with --target, name the server's model with --model")
    pages = {name: url for name, _, url in (text.partition("=") for text in metrics)}
    read = [Target.read(text) for text in targets]
    unknown = sorted(set(pages) - {one.name for one in read})
    if unknown:
        raise ConfigError(f"--metrics {unknown[0]}=…: no --target has that name")
    return Wanted(
        sizes=sizes,
        command=_command(),
        model=model or ("slalom-mini" if quick else MODEL),
        targets=read,
        metrics=pages,
        fim=_marks(fim),
        litellm=litellm,
        calibrate_s=0.0 if quick else 25.0,
    )


def _marks(text: str | None) -> "FimTemplate | None":
    from slalom.models.fim import FimTemplate

    if text is None:
        return None
    marks = text.split()
    if len(marks) != 3:
        raise ConfigError(f"--fim {text!r} is not three marks with spaces between them")
    return FimTemplate(*marks)


def _command() -> str:
    """As it was called, without keys."""
    words = ["slalom", *sys.argv[1:]]
    for place, word in enumerate(words):
        if word == "--key" and place + 1 < len(words):
            words[place + 1] = "…"
        elif word.startswith("--key="):
            words[place] = "--key=…"
    return " ".join(words)
