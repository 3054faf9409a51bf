"""The command: plays the loads, prints the page or writes it.

Owns the options. Run it with `python -m slalom.bench.fleet [--write docs/benchmarks/fleet.md]`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slalom.bench.fleet import cost, knee, large, paper, summary
from slalom.bench.fleet.day import Day
from slalom.bench.fleet.running import DayRunner, Runner, default_kept
from slalom.errors import ConfigError

_SEEDS = 10
_BOUND_SEEDS = 3
#: So many times 150 requests a minute.
_RATES = (2 / 3, 1.0, 4 / 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and print or write it."""
    chosen = _parser().parse_args(arguments)
    runner = Runner(chosen.processes, None if chosen.forget else chosen.keep)
    rates = chosen.rate or _RATES
    found = paper.loads(runner, chosen.folder, chosen.seeds, rates, chosen.bound_seeds)
    at_knee = () if chosen.no_knee else knee.loads(runner, chosen.folder, chosen.seeds)
    lines = [_OPENING, "", *summary.section(found, at_knee)]
    if not chosen.no_day:
        kept = None if chosen.forget else chosen.keep
        lines += ["", *large.section(DayRunner(chosen.processes, kept), Day())]
    if not chosen.no_cost:
        lines += ["", *cost.section(chosen.decisions)]
    lines += ["", *paper.section(found)]
    page = "\n".join(lines) + "\n"
    if chosen.write is None:
        sys.stdout.write(page)
    else:
        summary.draw(found, chosen.write.parent)
        chosen.write.write_text(page, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.fleet", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--seeds", type=int, default=_SEEDS, help=f"repetitions; {_SEEDS} by default")
    add("--bound-seeds", type=int, default=_BOUND_SEEDS, help="of which the bound is found")
    add("--rate", type=float, action="append", help="times 150 a minute; may be repeated")
    add("--processes", type=int, default=os.cpu_count() or 1, help="runs at a time")
    add("--decisions", type=int, default=20_000, help="requests by which the cost is measured")
    add("--no-cost", action="store_true", help="leave the cost of a decision out")
    add("--no-knee", action="store_true", help="leave out what is played at the knees")
    add("--no-day", action="store_true", help="leave the day of a large fleet out")
    add("--folder", type=Path, default=Path("scenarios"), help="scenario files")
    add("--keep", type=Path, default=default_kept(), help="file of results, for quick reruns")
    add("--forget", action="store_true", help="neither read nor keep results")
    add("--write", type=Path, metavar="FILE", help="the page")
    return parser


_OPENING = """\
# Fleets: routing, placement and scaling in the twin

What several replicas on several machines are worth under each way to route requests and to decide
how many replicas there are; the same arrivals for all, intervals of 95 %. Made by:

<!-- skip: takes long -->
```console
make bench-fleet
```
"""


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"bench-fleet: {error}")
