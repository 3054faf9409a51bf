"""`slalom models command`: the command line by which a model's engine is started.

Owns how it is shown; which flags there are is the launchers' affair. Starts nothing.
"""

import shlex
from typing import Annotated

import typer

from slalom.cli.output import print_json, stdout
from slalom.cli.shape import ConfigOption, JsonOption, examples


def register(models_app: typer.Typer) -> None:
    """Add the command."""
    models_app.command(
        "command",
        short_help="Show how a model's engine is started.",
        epilog=examples(
            "slalom models command qwen-coder          the flags that vLLM gets here",
            "slalom models command qwen-coder --json",
        ),
    )(command)


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its id, or another name.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show the variables and the command line of a model's engine; nothing is started.

    Values of variables from the configuration are secrets and are not shown. The port is chosen
    when the engine is started.
    """
    from slalom.assembly.launchers import launcher_for
    from slalom.config.load import load
    from slalom.config.nearest import nearest
    from slalom.engines.command import CommandLauncher
    from slalom.errors import ConfigError

    loaded, _ = load(config)
    found = next((one for one in loaded.models if model in (one.id, *one.aliases)), None)
    if found is None:
        hint = nearest(model, [one.id for one in loaded.models])
        raise ConfigError(f"there is no model {model!r} in the configuration; {hint}")
    gpus = {device.id: device.gpu for device in loaded.devices}
    launcher, _ = launcher_for(found, tokens_max=1, gpu=gpus[found.homes[0]])
    if not isinstance(launcher, CommandLauncher):
        raise ConfigError(
            f"model {found.id!r} runs on the engine {found.engine.kind}, which has no command "
            "line: vllm and command have one"
        )
    secret = frozenset(getattr(found.engine, "env", {}))
    shown = {
        name: "***" if name in secret else value for name, value in launcher.options.env.items()
    }
    words = launcher.words
    if json:
        print_json({"model": found.id, "env": shown, "command": words})
        return
    lines = [f"{name}={shlex.quote(value)}" for name, value in shown.items()]
    lines += _lines(words)
    stdout().print(" \\\n  ".join(lines), soft_wrap=True, highlight=False, markup=False)


def _lines(words: list[str]) -> list[str]:
    """One line for the program and what stands alone before its options, one for each option."""
    lines: list[str] = []
    for word in words:
        quoted = word if word == "${PORT}" else shlex.quote(word)
        if word.startswith("--") or not lines:
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return lines
