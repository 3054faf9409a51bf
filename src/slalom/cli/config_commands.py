"""`slalom config`: show what holds and where it comes from, check a file, print schema and example.

Owns the commands only; the configuration itself is `slalom.config`.
"""

import json as json_module
from typing import Annotated, Any

import typer

from slalom.cli.output import print_json, print_table, stdout
from slalom.cli.shape import ConfigOption, JsonOption, examples, group

config_app = group(
    "config",
    "Show, check and start a configuration.",
    examples(
        "slalom config example > slalom.yaml   every option, explained",
        "slalom config check                   whether the file is right",
        "slalom config show --origins          what holds, and where from",
    ),
)


@config_app.command(
    "show",
    short_help="Print what holds, and where it comes from.",
    epilog=examples(
        "slalom config show                      what holds, as YAML",
        "slalom config show --origins            with its file and line",
        "slalom config show --json -c prod.yaml  as JSON",
        "SLALOM__SERVER__PORT=9000 slalom config show",
        note="Secrets are shown as ***.",
    ),
)
def show(
    *,
    config: ConfigOption = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Say where each value comes from.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the configuration that holds: file, over it the environment, over it defaults."""
    from slalom.config.load import load
    from slalom.config.plain import inline_yaml, plain, settings, to_yaml

    loaded, found = load(config)
    if not origins:
        data = plain(loaded)
        if json:
            print_json(data)
        else:
            stdout().print(to_yaml(data), end="", markup=False)
        return
    rows = list(settings(loaded, found))
    if json:
        print_json({row.path: {"value": row.value, "origin": row.origin} for row in rows})
        return
    print_table(
        ("setting", "origin", "value"),
        ((row.path, row.origin, inline_yaml(row.value)) for row in rows),
        fold=("origin", "value"),
    )


@config_app.command(
    "check",
    short_help="Say what is wrong in which line.",
    epilog=examples(
        "slalom config check                ./slalom.yaml, else the user's file",
        "slalom config check -c prod.yaml   another file; exit code 1 if it is wrong",
        note="Models and the machine are checked by 'slalom doctor'.",
    ),
)
def check(*, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Say whether the configuration is right, and what is wrong in which line."""
    from slalom.config.load import load
    from slalom.errors import ConfigError

    try:
        loaded, origins = load(config)
    except ConfigError as error:
        if json:
            print_json({"ok": False, "error": str(error)})
            raise typer.Exit(1) from None
        raise
    file = str(origins.file) if origins.file else None
    if json:
        print_json({"ok": True, "file": file, "models": [model.id for model in loaded.models]})
        return
    where = file or "no configuration file: the built-in configuration"
    models = ", ".join(model.id for model in loaded.models) or "none"
    stdout().print(f"ok: {where} (models: {models})", markup=False, soft_wrap=False)


@config_app.command(
    "schema",
    short_help="Print the JSON schema of the file.",
    epilog=examples(
        "slalom config schema > slalom.schema.json",
        note="An editor with a YAML language server then completes and checks a file that "
        "begins with: # yaml-language-server: $schema=slalom.schema.json",
    ),
)
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from slalom.config.schema import Config

    document: dict[str, Any] = Config.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    typer.echo(json_module.dumps(document, indent=2, ensure_ascii=False))


@config_app.command(
    "example",
    short_help="Print every option with its default, explained.",
    epilog=examples("slalom config example > slalom.yaml", "slalom config example | less"),
)
def example() -> None:
    """Print a complete configuration: every option with its default, bounds and a sentence."""
    from slalom.config import example as written

    typer.echo(written.example(), nl=False)
