"""`slalom serve`: runs the server, and says how to use it once it listens.

Owns the flags that override the configuration and the text for newcomers. The server is
`slalom.assembly`'s.
"""

import json as json_module
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from slalom.cli.shape import ConfigOption, examples
from slalom.errors import ConfigError

if TYPE_CHECKING:
    from slalom.config.schema import Config
    from slalom.fleet.serving import FleetFacts


class Where(StrEnum):
    """Where the server's parts run."""

    LOCAL = "local"
    RAY = "ray"


_OnOption = Annotated[
    Where, typer.Option("--on", help="Where to run: on this machine, or on a Ray cluster.")
]
_AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster: HOST:PORT, auto, or local to start one. [ray.address]",
        show_default=False,
    ),
]
_IngressesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="On Ray: ingresses that take clients. [ray.ingress_replicas]",
        show_default=False,
    ),
]
_DetachOption = Annotated[
    bool | None,
    typer.Option(
        "--detach",
        help="On Ray: leave it running on the cluster, and return. [ray.detach]",
        show_default=False,
    ),
]
_StopOption = Annotated[
    bool, typer.Option("--stop", help="On Ray: drain and end the server that runs there.")
]
_HostOption = Annotated[
    str | None,
    typer.Option(metavar="HOST", help="Address to listen on. [server.host]", show_default=False),
]
_PortOption = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", help="TCP port; 0 takes a free one. [server.port]", show_default=False
    ),
]
_InsecureOption = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Serve off loopback without keys. [server.insecure]",
        show_default=False,
    ),
]
_BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for models on the first device, such as 2GiB. [devices.0.budget]",
        show_default=False,
    ),
]
_OrderingOption = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="Ordering policy. [scheduler.ordering.kind]", show_default=False
    ),
]
_AdmissionOption = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="Admission policy. [scheduler.admission.kind]", show_default=False
    ),
]
_JournalOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the journal. [journal.dir]", show_default=False),
]
_LevelOption = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL", help="debug, info, warning or error. [log.level]", show_default=False
    ),
]
_ReadyOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON line when ready, and log as JSON.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "serve",
        short_help="Serve the configured models over the OpenAI API.",
        epilog=examples(
            "slalom serve                              the bundled models, on loopback",
            "slalom serve --port 0 --budget 2GiB       a free port, 2 GiB for models",
            "slalom serve -c prod.yaml --host 0.0.0.0  for others: needs keys in the file",
            "slalom serve --ordering fcfs              another policy (docs: policies)",
            "slalom serve --on ray                     on a Ray cluster, for several",
            note="Ctrl-C or SIGTERM drains: nothing new is taken, running requests finish; a "
            "second one ends at once. Exit code 0 if everything accepted was finished. SIGHUP, or "
            "slalom reload, reads the configuration anew.",
        ),
    )(serve)


def serve(
    *,
    config: ConfigOption = None,
    host: _HostOption = None,
    port: _PortOption = None,
    insecure: _InsecureOption = None,
    budget: _BudgetOption = None,
    ordering: _OrderingOption = None,
    admission: _AdmissionOption = None,
    journal: _JournalOption = None,
    log_level: _LevelOption = None,
    json: _ReadyOption = False,
    on: _OnOption = Where.LOCAL,
    address: _AddressOption = None,
    ingresses: _IngressesOption = None,
    detach: _DetachOption = None,
    stop: _StopOption = False,
) -> None:
    """Serve the configured models over the OpenAI API until a signal comes.

    Without any configuration the bundled code models are served on 127.0.0.1:8642. Each option
    overrides the configuration's value that its text names.
    """
    from slalom.assembly.parts import Parts
    from slalom.assembly.serving import serve as run
    from slalom.config.load import load

    flags: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "server.insecure": insecure,
        "devices.0.budget": budget,
        "scheduler.ordering": {"kind": ordering} if ordering else None,
        "scheduler.admission": {"kind": admission} if admission else None,
        "journal.dir": str(journal.absolute()) if journal else None,
        "log.level": log_level,
        "log.format": "json" if json else None,
        "ray.address": address,
        "ray.ingress_replicas": ingresses,
        "ray.detach": detach,
    }
    loaded, _ = load(config, flags=flags)
    if on is Where.RAY:
        _on_ray(loaded, json=json, stop=stop)
    if stop or any(value is not None for value in (address, ingresses, detach)):
        raise ConfigError("--address, --ingresses, --detach and --stop are for --on ray: add it")

    def reread() -> "Config":
        return load(config, flags=flags)[0]

    def ready(url: str, parts: Parts) -> None:
        models = [model.id for model in parts.config.models]
        text = _ready_json(url, models) if json else how_to_use(url, models)
        sys.stdout.write(text)
        sys.stdout.flush()

    raise typer.Exit(run(loaded, on_ready=ready, reread=reread))


def _on_ray(config: "Config", *, json: bool, stop: bool) -> NoReturn:
    """The same on a Ray cluster."""
    from slalom.fleet.serving import serve_on_ray, stop_fleet

    if stop:
        raise typer.Exit(stop_fleet(config))

    def ready(fleet: "FleetFacts", config: "Config") -> None:
        models = [model.id for model in config.models]
        if json:
            facts = {"url": fleet.url, "pid": os.getpid(), "models": models}
            facts |= {"core": asdict(fleet.core)}
            facts |= {"ingresses": [asdict(one) for one in fleet.ingresses]}
            text = json_module.dumps(facts) + "\n"
        else:
            others = "".join(f"  and at   {one.url}\n" for one in fleet.ingresses[1:])
            text = others + how_to_use(fleet.url, models)
        sys.stdout.write(text)
        sys.stdout.flush()

    raise typer.Exit(serve_on_ray(config, on_ready=ready))


def _ready_json(url: str, models: list[str]) -> str:
    return json_module.dumps({"url": url, "pid": os.getpid(), "models": models}) + "\n"


def how_to_use(url: str, models: list[str]) -> str:
    """How to point curl, the openai SDK and an editor at a server."""
    if not models:
        return f"Slalom serves {url}, but no model is configured: see 'slalom config example'\n"
    first, last = models[0], models[-1]
    body = f'{{"model": "{first}", "prompt": "def add(a, b):"}}'
    return f"""\
Slalom serves {url}
  models   {", ".join(models)}
           (each is loaded when it is first asked for)
  try      slalom complete FILE:LINE, slalom chat, slalom models ls
  watch    {url}/dashboard
  curl     curl {url}/v1/completions \\
             -H 'content-type: application/json' \\
             -d '{body}'
  python   openai.OpenAI(base_url="{url}/v1", api_key="none")
  editor   any OpenAI-compatible plug-in; Continue's config.yaml:
    models:
    - {{name: complete, roles: [autocomplete], model: {first},
       provider: openai, apiKey: none, apiBase: "{url}/v1"}}
    - {{name: chat, roles: [chat, edit], model: {last},
       provider: openai, apiKey: none, apiBase: "{url}/v1"}}
Ctrl-C drains and ends.
"""
