"""`slalom version`: what runs here.

Owns the list of what a bug report needs. Also used by `slalom doctor`.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from slalom import __version__
from slalom.cli.output import print_json
from slalom.cli.shape import JsonOption, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "version",
        short_help="Print the versions that run here.",
        epilog=examples(
            "slalom version          for people",
            "slalom version --json   for a bug report",
        ),
    )(version)


def versions() -> dict[str, str]:
    """Slalom, Python, the embedded engine and the platform."""
    return {
        "slalom": __version__,
        "python": sys.version.split()[0],
        "xllamacpp": package_version("xllamacpp") or "not installed",
        "platform": platform.platform(),
    }


def package_version(name: str) -> str | None:
    """The installed version of a package; None if it is not there."""
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def version(*, json: JsonOption = False) -> None:
    """Print the versions of Slalom, Python and the embedded engine."""
    found = versions()
    if json:
        print_json(found)
        return
    for name, text in found.items():
        typer.echo(f"{name:<10} {text}")
