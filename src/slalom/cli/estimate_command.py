"""`slalom estimate`: what a running server expects of a request, without asking it.

Owns the layout; the figures are the server's (`POST /v1/estimate`).
"""

from typing import Annotated, Any

import typer

from slalom.cli.output import print_json, stdout
from slalom.cli.shape import ConfigOption, JsonOption, KeyOption, UrlOption, examples

_FIGURES = (
    ("start", "predicted_start_ms", None),
    ("first token", "predicted_ttft_ms", "ttft_ms"),
    ("end", "predicted_e2e_ms", "e2e_ms"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "estimate",
        short_help="Tell what would become of a request that came now.",
        epilog=examples(
            "slalom estimate 'Explain this'                     by its task's targets",
            "slalom estimate --task completion --max-tokens 16  as an editor would ask",
            "slalom estimate 'Explain this' --e2e-ms 2000 --json",
            note="Needs a running server whose admission policy plans, such as plan-and-trim.",
        ),
    )(estimate)


def estimate(
    question: Annotated[str, typer.Argument(help="What would be asked.")] = "",
    *,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Default: the first.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Task to declare.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Longest answer.")] = 256,
    e2e_ms: Annotated[
        float | None, typer.Option(min=0.001, metavar="MS", help="Target for the end.")
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what would become of a request that came now; nothing is asked.

    When it would start, get its first token and end, and whether its targets would hold.
    """
    from slalom.cli.server_client import ServerClient
    from slalom.cli.spare_server import configured_url
    from slalom.config.load import load

    client = ServerClient(url or configured_url(load(config)[0]), key)
    body = {
        "model": model or str(client.models()[0]["id"]),
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
    }
    headers = {} if task is None else {"x-slalom-task": task}
    if e2e_ms is not None:
        headers["x-slo-e2e-ms"] = f"{e2e_ms:g}"
    found = client.post("/v1/estimate", body, headers)
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    console = stdout()
    where = f" on {found['replica']}" if found.get("replica") else ""
    console.print(f"{found.get('task')} for {found.get('model')}{where}", markup=False)
    targets = found.get("targets") or {}
    for name, figure, target in _FIGURES:
        value, limit = found.get(figure), targets.get(target)
        if value is not None:
            allowed = f" (target {limit:.0f} ms)" if limit is not None else ""
            console.print(f"{name:<12}after {value:.0f} ms{allowed}", markup=False)
    if found.get("chance") is not None:
        console.print(f"{'chance':<12}{found['chance']:.0%}", markup=False)
    console.print(str(found.get("reason", "")), markup=False)
