"""The command: runs the parts, writes their sections of the page, their data and figures.

Owns the order of the page, and that a single part can be written anew without the others.
Run it with `python -m slalom.bench.sla [--part NAME] [--quick] [--write docs/benchmarks/sla.md]`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slalom.bench.sla import ablation, cost, robustness, saber, standing
from slalom.bench.sla.choices import choices
from slalom.bench.sla.drawings import draw
from slalom.bench.sla.pages import joined
from slalom.bench.sla.running import Runner, default_kept
from slalom.bench.sla.settings import Part, Settings
from slalom.errors import ConfigError

#: Name -> what runs it, in the order of the page.
PARTS: Mapping[str, Callable[[Settings, Runner], Part]] = {
    "saber": saber.part,
    "standing": standing.part,
    "robustness": robustness.part,
    "ablation": ablation.part,
    "cost": cost.part,
}
_SEEDS = 10
_QUICK_SEEDS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and print or write it."""
    chosen = _parser().parse_args(arguments)
    seeds = chosen.seeds or (_QUICK_SEEDS if chosen.quick else _SEEDS)
    unknown = set(chosen.policy or ()) - {choice.name for choice in choices()}
    if unknown:
        known = ", ".join(choice.name for choice in choices())
        raise ConfigError(f"--policy: there is no {', '.join(sorted(unknown))}; known: {known}")
    settings = Settings(chosen.folder, seeds, chosen.quick, tuple(chosen.policy or ()))
    runner = Runner(chosen.processes, None if chosen.forget else chosen.keep)
    parts = {name: PARTS[name](settings, runner) for name in chosen.part or PARTS}
    only = "".join(f" --policy '{name}'" for name in settings.only)
    flags = f"--seeds {seeds}{' --quick' if chosen.quick else ''}{only}"
    texts = {
        name: f"{part.text}\n\nThis section: `python -m slalom.bench.sla --part {name} {flags}`."
        for name, part in parts.items()
    }
    page = joined(_read(chosen.write), texts, PARTS)
    if chosen.json is not None:
        document = {name: part.document for name, part in parts.items()}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if chosen.write is None:
        sys.stdout.write(page)
        return
    chosen.write.write_text(page, encoding="utf-8")
    for name, part in parts.items():
        for path in draw(name, part.document, chosen.write.parent):
            sys.stderr.write(f"wrote {path}\n")


def _read(page: Path | None) -> str:
    return page.read_text(encoding="utf-8") if page is not None and page.exists() else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.sla", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--part", action="append", choices=list(PARTS), help="only this part; may be repeated")
    add("--policy", action="append", metavar="NAME", help="only these policies; may be repeated")
    add("--quick", action="store_true", help="little of everything: a smoke test")
    add("--seeds", type=int, help=f"repetitions of each load; {_SEEDS} by default")
    add("--processes", type=int, default=os.cpu_count() or 1, help="runs at a time")
    add("--folder", type=Path, default=Path("scenarios"), help="scenario files")
    add("--keep", type=Path, default=default_kept(), help="file of results, for quick reruns")
    add("--forget", action="store_true", help="neither read nor keep results")
    add("--write", type=Path, metavar="FILE", help="the page; sections of other parts stay")
    add("--json", type=Path, metavar="FILE", help="also write the results as data")
    return parser


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"bench-sla: {error}")
