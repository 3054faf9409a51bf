"""`slalom explain`: prints the story of one request.

Owns the layout; the story is `slalom.journal.explain`'s.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slalom.cli.eviction_stories import show_eviction
from slalom.cli.output import print_json, print_table, stderr, stdout
from slalom.cli.shape import ConfigOption, JsonOption, examples
from slalom.errors import ConfigError, RequestError
from slalom.units import format_duration

if TYPE_CHECKING:
    from slalom.journal.explain import Story
    from slalom.journal.what_if import Verdict


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "explain",
        short_help="Tell why a request was late, refused or lost.",
        epilog=examples(
            "slalom explain latest            the request that ended last",
            "slalom explain req-4f1c          by its id (reply header x-request-id)",
            "slalom explain --eviction last   why models gave way, with everyone's score",
            "slalom explain latest --json     for programs",
            "slalom explain req-4f1c --journal /var/lib/slalom/journal",
            note="The beginning of an id is enough where only one request begins so.",
        ),
    )(explain)


def explain(
    request_id: Annotated[
        str | None,
        typer.Argument(help="Id of the request, or 'latest'.", metavar="[REQUEST_ID]"),
    ] = None,
    *,
    eviction: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="Tell of an eviction instead: its number, or 'last'.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the journal. Default: the configured one.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tell why a request was late, refused or lost: its story from the journal.

    What it waited for (a model to load, a place, others it was paused for), what was evicted for
    it, its attempts with what was expected of them, its first token and its end, whether each
    target of its SLA held, and by how much, and what would have had to be different. With
    --eviction, why models gave way: the need, the score of everyone who could have, what followed.
    """
    from slalom.config.load import load
    from slalom.config.places import journal_dir
    from slalom.journal.evictions import explain_eviction
    from slalom.journal.explain import explain as tell

    directory = _written(journal or journal_dir(load(config)[0].journal))
    if eviction is not None:
        with stderr().status("reading the journal …"):
            decided = explain_eviction(directory, eviction)
        show_eviction(decided, as_json=json)
        return
    if request_id is None:
        raise RequestError("name a request, 'latest', or an eviction with --eviction")
    with stderr().status("reading the journal …") as status:
        story = tell(
            directory,
            request_id,
            on_progress=lambda done, total: status.update(
                f"reading the journal: file {done} of {total}"
            ),
        )
    if json:
        print_json(_document(story))
    else:
        _print(story)


def _written(directory: Path | None) -> Path:
    """The folder of the journal, if there is one."""
    if directory is None:
        raise ConfigError(
            "no journal is written (journal.dir is none), so there is nothing to explain: set "
            "journal.dir, or name a folder with --journal"
        )
    return directory


def _document(story: "Story") -> dict[str, Any]:
    return {
        "request": story.request,
        "arrived_unix_ns": story.arrived_unix_ns,
        "steps": story.steps,
        "waited_ns": {
            "loading": story.waits.loading_ns,
            "places": story.waits.places_ns,
            "paused": story.waits.paused_ns,
        },
        "targets": [
            {
                "objective": verdict.objective,
                "limit_ns": verdict.limit_ns,
                "measured_ns": verdict.measured_ns,
                "held": verdict.held,
            }
            for verdict in story.verdicts()
        ],
        "needed": story.needed(),
        "end": story.end,
    }


def _print(story: "Story") -> None:
    request, console = story.request, stdout()
    console.print(f"Request {request.id}", style="bold", markup=False)
    when = ""
    if story.arrived_unix_ns:
        at = datetime.fromtimestamp(story.arrived_unix_ns / 1e9, UTC).astimezone()
        when = f", arrived {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    key = f", key {request.key}" if request.key else ""
    console.print(f"{request.task} on {request.model}{key}{when}", markup=False)
    console.print(
        f"about {request.prompt_tokens} prompt tokens, at most {request.max_tokens} to answer\n"
    )
    print_table(
        ("after", "what happened"),
        ((format_duration(step.at_ns), step.text) for step in story.steps),
        right=("after",),
        fold=("what happened",),
    )
    console.print(f"\n{_waited(story)}")
    verdicts = story.verdicts()
    if verdicts:
        console.print()
        print_table(
            ("target", "limit", "measured", "verdict"),
            (_row(verdict) for verdict in verdicts),
            right=("limit", "measured"),
        )
    elif story.end is None:
        console.print("It has not ended yet, as far as the journal tells.")
    if needed := story.needed():
        console.print("\nWhat would have had to be different:", style="bold")
        for sentence in needed:
            console.print(f"- {sentence}", markup=False)


def _waited(story: "Story") -> str:
    waits = story.waits
    parts = []
    if waits.loading_ns:
        parts.append(f"{format_duration(waits.loading_ns)} for {story.request.model} to be loaded")
    if waits.places_ns:
        parts.append(f"{format_duration(waits.places_ns)} for a free place")
    if waits.paused_ns:
        parts.append(f"{format_duration(waits.paused_ns)} while it was paused for others")
    if not parts:
        return "It did not wait."
    return f"It waited {', and '.join(parts)}."


def _row(verdict: "Verdict") -> tuple[str, str, str, str]:
    limit = format_duration(verdict.limit_ns)
    if verdict.measured_ns < 0:
        return verdict.objective, limit, "-", "missed: never reached"
    margin = format_duration(abs(verdict.limit_ns - verdict.measured_ns))
    verdict_text = f"held, {margin} to spare" if verdict.held else f"missed by {margin}"
    return verdict.objective, limit, format_duration(verdict.measured_ns), verdict_text
