"""`slalom doctor`: prints what is wrong with this machine or configuration, and what to do.

Owns the layout and the exit code; the checks are in `checks` and `machine_checks`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from slalom.cli.output import print_facts, print_json, stderr
from slalom.cli.shape import FAILED, ConfigOption, JsonOption, examples

if TYPE_CHECKING:
    from slalom.cli.checks import Finding

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "doctor",
        short_help="Say what is wrong here, and what to do.",
        epilog=examples(
            "slalom doctor                this machine and the configuration here",
            "slalom doctor -c prod.yaml   before the server is restarted with it",
            "slalom doctor --json         for monitoring; exit code 1 if a check fails",
        ),
    )(doctor)


def doctor(*, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check the machine, the configuration, the models and the keys; say what to do."""
    from slalom.cli.checks import run_checks

    with stderr().status("checking …"):
        findings = list(run_checks(config))
    worst = "fail" if any(f.status == "fail" for f in findings) else "ok"
    if json:
        print_json({"ok": worst == "ok", "checks": findings})
    else:
        print_facts(row for finding in findings for row in _rows(finding))
    if worst == "fail":
        raise typer.Exit(FAILED)


def _rows(finding: "Finding") -> Iterator[tuple[Text, Text, Text]]:
    mark, style = _MARKS[finding.status]
    yield Text(mark, style=style), Text(finding.name), Text(finding.found)
    if finding.advice:
        yield Text(), Text(), Text(f"-> {finding.advice}", style="bold")
