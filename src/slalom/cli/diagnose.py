"""`slalom doctor`: prints what is wrong with this machine or configuration, and what to do.

Owns the layout and the exit code; the checks are in `checks` and `machine_checks`.
"""

import typer
from rich.text import Text

from slalom.cli.output import print_json, stderr, stdout
from slalom.cli.shape import FAILED, ConfigOption, JsonOption, examples

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
    from slalom.cli.checks import Finding, run_checks

    findings: list[Finding] = []
    with stderr().status("checking …"):
        findings.extend(run_checks(config))
    worst = "fail" if any(f.status == "fail" for f in findings) else "ok"
    if json:
        print_json({"ok": worst == "ok", "checks": findings})
    else:
        console = stdout()
        for finding in findings:
            mark, style = _MARKS[finding.status]
            console.print(Text(mark, style=style), Text(f"{finding.name:<14}"), finding.found)
            if finding.advice:
                console.print(f"     {'':<14} -> {finding.advice}", markup=False)
    if worst == "fail":
        raise typer.Exit(FAILED)
