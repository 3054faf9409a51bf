"""`slalom reload`: has a running server read its configuration anew, and says what that did.

Owns the words. What is done is the server's, and so is the reading: it reads the file that it was
started with.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from slalom.cli.output import print_told
from slalom.cli.shape import ConfigOption, JsonOption, KeyOption, UrlOption, examples

_DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, or what is wrong.")
]
#: What is done to a model: what is done to it, and what would be.
_DONE: Mapping[str, str] = {
    "added": "added",
    "replaced": "replaced: what runs ends on the old engine, the next load takes the new one",
    "adjusted": "adjusted without a restart",
    "removed": "removed: what waits or runs for it ends first",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "reload",
        short_help="Have a running server read its configuration anew.",
        epilog=examples(
            "slalom reload --dry-run        what would be done, and is anything wrong?",
            "slalom reload                  do it: only models that changed are touched",
            "slalom reload --json           what was done, for programs",
            note="Needs a running server, and an admin key where it has keys. The server reads the "
            "file that it was started with; a wrong one changes nothing. SIGHUP does the same.",
        ),
    )(reload)


def reload(
    *,
    dry_run: _DryRunOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Have a running server read its configuration anew.

    Models that have not changed keep their processes, their requests and what was learned of them.
    """
    from slalom.cli.server_client import ServerClient
    from slalom.cli.spare_server import configured_url
    from slalom.config.load import load

    client = ServerClient(url or configured_url(load(config)[0]), key)
    found = client.post(f"/admin/reload?dry_run={str(dry_run).lower()}", {})
    print_told(found, told(found), json_wanted=json)


def told(found: Mapping[str, Any]) -> list[str]:
    """What was done, or would be, in words."""
    lines = ["Nothing is changed yet; a reload would do this:"] if found["dry_run"] else []
    touched = [one for one in found["models"] if one["done"] in _DONE]
    for one in touched:
        options = f" ({', '.join(one['options'])})" if one["options"] else ""
        lines.append(f"{one['model']}: {_DONE[one['done']]}{options}")
    rest = len(found["models"]) - len(touched)
    if rest:
        lines.append(f"{rest} {'model' if rest == 1 else 'models'} untouched.")
    if found["applied"]:
        lines.append(f"In force at once: {', '.join(found['applied'])}.")
    if found["needs_restart"]:
        lines.append(f"Only a restart changes these: {', '.join(found['needs_restart'])}.")
    lines += found["notes"]
    return lines
