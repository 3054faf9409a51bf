"""`slalom models load`, `sleep`, `pin` and their like: what a running server keeps in memory.

Owns the words; what is asked is done, or refused, by the server's admin routes.
"""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from slalom.cli.output import print_json, print_told, stderr, stdout
from slalom.cli.shape import ConfigOption, JsonOption, KeyOption, UrlOption, examples
from slalom.units import format_bytes

_LOOK_EVERY_S = 0.2
#: Command -> what it is for, the help's further sentence, and the state that ends a wait for it.
_ASKS: Mapping[str, tuple[str, str, str]] = {
    "load": (
        "Bring a model up, as if a request waited for it.",
        "Others may give way to it as they would to a request.",
        "ready",
    ),
    "wake": (
        "Wake a model that sleeps.",
        "One that is not loaded at all is refused: load it instead.",
        "ready",
    ),
    "sleep": (
        "Put a model to sleep, where its engine can.",
        "What runs on it comes to its end first. Its weights move to host memory, or are dropped.",
        "asleep",
    ),
    "unload": (
        "End a model's processes and free its memory.",
        "What runs on it comes to its end first. The next request loads it again.",
        "cold",
    ),
    "pin": (
        "Keep a model in memory: it never gives way.",
        "It is loaded if it is not. Refused where what is pinned would not fit together.",
        "ready",
    ),
    "unpin": ("Let a pinned model give way again.", "It stays until others need its memory.", ""),
}
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Its id, or another name.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, metavar="S", help="Wait so long for it to have happened.")
]


def register(models_app: typer.Typer) -> None:
    """Add the commands."""
    for name, (short, more, _) in _ASKS.items():
        models_app.command(
            name,
            short_help=short,
            help=f"{short}\n\n{more}",
            epilog=examples(
                f"slalom models {name} slalom-mini",
                f"slalom models {name} slalom-mini --wait 60",
                f"slalom models {name} slalom-mini --url http://gpu-box:8642",
                note="Needs a running server, and an admin key where it has keys.",
            ),
        )(_ask(name))
    models_app.command(
        "plan",
        short_help="Tell what loading a model would take, without doing it.",
        epilog=examples(
            "slalom models plan slalom-small           does it fit, who gives way",
            "slalom models plan slalom-small --json    with everyone's score",
            note="Needs a running server, and an admin key where it has keys.",
        ),
    )(plan)


def _ask(what: str) -> Callable[..., None]:
    def ask(
        model: ModelArgument,
        *,
        wait: WaitOption = 0.0,
        config: ConfigOption = None,
        url: UrlOption = None,
        key: KeyOption = None,
        json: JsonOption = False,
    ) -> None:
        client = _client(config, url, key)
        found = client.post(f"/admin/models/{model}/{what}", {}, accepts=202)
        wanted = _ASKS[what][2]
        if wait and wanted:
            found["state"] = _awaited(client, str(found["model"]), wanted, wait)
        if json:
            print_json(found)
        else:
            stdout().print(f"{found['model']}: {found['state']}", markup=False)
        if wait and wanted and found["state"] != wanted:
            stderr().print(f"It is not {wanted} after {wait:g} s.", style="yellow")
            raise typer.Exit(1)

    return ask


def _awaited(client: Any, model: str, wanted: str, seconds: float) -> str:
    """Its state as soon as it is the wanted one, or when the time is over."""
    until_s = time.monotonic() + seconds
    while True:
        cards = {card.get("id"): card.get("slalom") or {} for card in client.models()}
        state = str(cards.get(model, {}).get("state", ""))
        if state == wanted or time.monotonic() >= until_s:
            return state
        time.sleep(_LOOK_EVERY_S)


def plan(
    model: ModelArgument,
    *,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what loading a model would take: room, who would give way, and when.

    Nothing is done. The figures are those of this moment.
    """
    found = _client(config, url, key).get(f"/admin/plan?model={model}")
    print_told(found, told(found), json_wanted=json)


def told(found: Mapping[str, Any]) -> list[str]:
    """A dry run in words."""
    name = found["model"]
    if found["resident"]:
        return [f"{name} is up, or comes up already."]
    needs = f"{name} needs {format_bytes(found['needed_bytes'])} on {found['device']}"
    if not found["fits"]:
        return [f"{needs} and can never have them: {found['detail']}"]
    lines = [f"{needs}; {format_bytes(max(found['free_bytes'], 0))} are free."]
    if found["victims"]:
        lines.append(f"Would give way: {', '.join(found['victims'])}.")
        if found["patience_s"]:
            lines.append(f"They would be told to after {found['patience_s']:g} s of waiting.")
    elif found["shortfall_bytes"] and found["patience_s"] is None:
        lines.append("Nobody can give way to it now: what holds the memory is busy or kept.")
    else:
        lines.append("Nobody would have to give way.")
    if found["takes_s"]:
        what = "wake" if found["asleep"] else "load"
        lines.append(f"The {what} itself is expected to take {found['takes_s']:.1f} s.")
    lines += [
        f"{one['replica_id']} holds {format_bytes(one['held_bytes'])} ({one['state']})."
        for one in found["holders"]
    ]
    return lines


def _client(config: Any, url: str | None, key: str | None) -> Any:
    from slalom.cli.server_client import ServerClient
    from slalom.cli.spare_server import configured_url
    from slalom.config.load import load

    return ServerClient(url or configured_url(load(config)[0]), key)
