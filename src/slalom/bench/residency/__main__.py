"""The command: plays every policy on every scenario and writes the page.

Owns which rows are played where, and the page's opening. Run it with
`python -m slalom.bench.residency [--seeds N] [--quick] [--write docs/benchmarks/residency.md]`.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from slalom.bench.residency import cost
from slalom.bench.residency.cells import Cell
from slalom.bench.residency.choices import (
    CACE,
    CLAIRVOYANT,
    LRU,
    OURS,
    Choice,
    cace_without,
    choices,
    penalty_without,
)
from slalom.bench.residency.pages import board, savings
from slalom.bench.residency.running import Runner, default_kept
from slalom.config.scenario_load import load_scenario
from slalom.errors import ConfigError

HEADLINE = "residency-h100"
SCENARIOS = (
    HEADLINE,
    *(f"residency-{name}" for name in ("h100-kv", "h100-four", "h100-24", "a100x2")),
)
_SEEDS = 10
#: Repetitions of an ablation: it is paired, and there are many of them.
_FEW = 3
#: Rows that are repeated as often as possible; the others as often as `--few` says.
_OFTEN = (LRU, CACE, OURS, *CLAIRVOYANT)
#: Beside the headline's scenario only these are compared.
_ELSEWHERE = (LRU, CACE, OURS, *CLAIRVOYANT)
_CYCLES = 2_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and print or write it."""
    chosen = _parser().parse_args(arguments)
    runner = Runner(chosen.processes, None if chosen.forget else chosen.keep)
    sections = [_OPENING.format(arguments=_repetitions(chosen))]
    for name in chosen.scenario or SCENARIOS:
        path = chosen.folder / f"{name}.yaml"
        sections.append("\n".join(_scenario(runner, path, chosen)))
    if not chosen.no_cost:
        sections.append(cost.section(100 if chosen.quick else _CYCLES))
    page = "\n\n".join(sections) + "\n"
    if chosen.write is None:
        sys.stdout.write(page)
    else:
        chosen.write.write_text(page, encoding="utf-8")


def _scenario(runner: Runner, path: Path, chosen: argparse.Namespace) -> Iterator[str]:
    """A scenario's section."""
    table = choices() if path.stem == HEADLINE or chosen.policy else _ELSEWHERE
    wanted = [one for one in table if not chosen.policy or one.name in chosen.policy]
    rows = [LRU, *(one for one in wanted if one is not LRU)]
    most = min(chosen.seeds, chosen.seeds if path.stem == HEADLINE else chosen.elsewhere)
    often = (*_OFTEN, *(wanted if chosen.policy else ()))
    played = _play(
        runner, path, {row: most if row in often else min(most, chosen.few) for row in rows}
    )
    yield from board(path.stem, load_scenario(path).file.about, played)
    if not chosen.policy or any(one.foresees for one in rows):
        yield from savings(played)
    if path.stem == HEADLINE and not chosen.policy:
        parts = [CACE, *cace_without().values(), *penalty_without().values()]
        yield "\nWithout each part:\n"
        few = min(most, chosen.few, _FEW)
        ablated = _play(runner, path, dict.fromkeys([LRU, *parts], few))
        yield from list(board("", "", ablated))[2:]


def _play(
    runner: Runner, path: Path, rows: Mapping[Choice, int]
) -> dict[str, list[dict[str, float]]]:
    """Results of rows, each repeated as often as said; the first repetitions of all come first."""
    cells = {
        (row.name, seed): Cell(str(path), seed, row)
        for seed in range(max(rows.values()))
        for row, count in rows.items()
        if seed < count
    }
    results = runner.play(cells.values(), path.stem)
    return {
        row.name: [dict(results[cells[row.name, seed]]) for seed in range(count)]
        for row, count in rows.items()
    }


def _repetitions(chosen: argparse.Namespace) -> str:
    """The arguments of repetitions that are not as usual, as one would give them again."""
    asked = {name: getattr(chosen, name) for name in ("seeds", "few", "elsewhere")}
    said = " ".join(f"--{name} {count}" for name, count in asked.items() if count != _SEEDS)
    return f' ARGS="{said}"' if said else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.residency", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--scenario", action="append", metavar="NAME", help="only this one; may be repeated")
    add("--policy", action="append", metavar="NAME", help="only these beside lru")
    add("--quick", action="store_true", help="few rounds of the cost: a smoke test")
    add("--no-cost", action="store_true", help="leave the cost of a choice out")
    add("--seeds", type=int, default=_SEEDS, help=f"repetitions; {_SEEDS} by default")
    add("--elsewhere", type=int, default=_SEEDS, help="the same, beside the headline's scenario")
    add("--few", type=int, default=_SEEDS, help="of rows that others stand for, at most")
    add("--processes", type=int, default=os.cpu_count() or 1, help="runs at a time")
    add("--folder", type=Path, default=Path("scenarios"), help="scenario files")
    add("--keep", type=Path, default=default_kept(), help="file of results, for quick reruns")
    add("--forget", action="store_true", help="neither read nor keep results")
    add("--write", type=Path, metavar="FILE", help="the page")
    return parser


_OPENING = """\
# Residency: every policy where memory is short

What each policy of the residency slot is worth in the twin, with the same arrivals for all;
intervals of 95 %. Latencies are of whole answers. *Cold* is time spent loading from disk, *swapped*
the weights that were moved. The clairvoyants know all arrivals and weigh them as `penalty` weighs
what it expects: the best known, no proven limit. CACE's formula is not public: `cace` is a
reconstruction with weights of ours. Made by:

<!-- skip: takes long -->
```console
make bench-residency{arguments}
```"""


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"bench-residency: {error}")
