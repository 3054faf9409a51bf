"""What every command has in common: the group that reports errors, examples in the help, options.

Owns the exit codes (0 it worked, 1 it failed, 2 wrong usage) and the spelling of options that
several commands share. Used by the command modules only.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from slalom.errors import SlalomError

FAILED = 1


class CommandGroup(TyperGroup):
    """A group whose commands may raise `SlalomError`: it becomes one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except SlalomError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from None


def group(name: str, text: str, epilog: str, *, completion: bool = False) -> typer.Typer:
    """An empty group of commands with its help."""
    return typer.Typer(
        name=name,
        cls=CommandGroup,
        help=text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def examples(*lines: str, note: str = "") -> str:
    """The end of a help text: example command lines with what they do, and a note."""
    shown = "\n".join(f"  {line}" for line in lines)
    after = f"\n\n{note}" if note else ""
    return f"\b\nExamples:\n{shown}{after}"


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="SLALOM_CONFIG",
        help="Configuration file. Default: ./slalom.yaml, then ~/.config/slalom/slalom.yaml, "
        "then the built-in one with the bundled models.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="SLALOM_URL",
        help="Server to ask. Default: the configured address.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="SLALOM_API_KEY",
        help="API key for it; better in the variable than on the command line.",
        show_default=False,
    ),
]
