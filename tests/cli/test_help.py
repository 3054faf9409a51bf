"""Help teaches: every command has a text and examples that work, within 80 columns."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from slalom.cli import app

RUNNER = CliRunner()


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(app)
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the rest of them."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def help_of(*path: str) -> str:
    result = RUNNER.invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


ALL = [" ".join(path) for path in commands()]


def test_all_promised_commands_are_there() -> None:
    top = {"serve", "demo", "chat", "complete", "models", "config", "explain", "doctor", "version"}
    top |= {"calibrate", "estimate", "reload", "bench", "bench run", "bench compare", "bench type"}
    models = {f"models {name}" for name in ("ls", "synth", "pull", "inspect", "profile")}
    models |= {f"models {name}" for name in ("load", "wake", "sleep", "unload", "pin", "unpin")}
    models |= {"models plan", "models command"}
    config = {f"config {name}" for name in ("show", "check", "schema", "example")}
    twin = {f"twin {name}".strip() for name in ("", "run", "capacity", "sweep", "diff", "schema")}
    trace = {"trace", "trace export"}
    assert set(ALL) == {""} | twin | trace | top | models | config


@pytest.mark.parametrize("path", ALL)
def test_help_fits_80_columns_and_has_examples(path: str) -> None:
    text = help_of(*path.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "Examples:" in text
    assert "..." not in text.split("Commands:")[-1].split("Examples:")[0] or "Commands:" not in text


@pytest.mark.parametrize("path", ALL)
def test_examples_name_real_commands_and_options(path: str) -> None:
    text = help_of(*path.split())
    shown = re.findall(r"^ +(?:\w+=\S+ )?slalom (.+?)(?: {2,}.*)?$", text, re.MULTILINE)
    assert shown
    for line in shown:
        words = shlex.split(re.split(r" [|<>] ", line)[0])
        command, rest = find(words)
        options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        given = {word for word in rest if word.startswith("-")}
        assert given <= options | {"--install-completion"}, line


@pytest.mark.parametrize("path", ALL)
def test_every_option_has_a_sentence(path: str) -> None:
    command, _ = find(path.split())
    for parameter in command.params:
        assert getattr(parameter, "help", None), (path, parameter.name)


def test_tables_can_be_had_as_json() -> None:
    for path in (
        "models ls",
        "models inspect",
        "config show",
        "config check",
        "doctor",
        "explain",
        "version",
        "chat",
        "complete",
        "serve",
        "demo",
    ):
        assert "--json" in help_of(*path.split()), path


def test_exit_codes_are_told_and_kept() -> None:
    assert "Exit codes: 0" in help_of()
    assert RUNNER.invoke(app, ["nonsense"]).exit_code == 2
    assert RUNNER.invoke(app, ["serve", "--nonsense"]).exit_code == 2
    assert RUNNER.invoke(app, ["config", "check", "-c", "/nowhere.yaml"]).exit_code == 1
    assert RUNNER.invoke(app, ["version"]).exit_code == 0


def test_an_error_is_one_line_without_a_traceback() -> None:
    result = RUNNER.invoke(app, ["config", "check", "-c", "/nowhere.yaml"])
    assert result.stdout == ""
    assert result.stderr.startswith("error: /nowhere.yaml: no such file")
    assert result.stderr.count("\n") == 1


def test_completion_can_be_installed() -> None:
    shown = RUNNER.invoke(app, [], prog_name="slalom", env={"_SLALOM_COMPLETE": "source_bash"})
    assert "complete" in shown.stdout
