"""The command: live ways in turn, then the twin's sweep, then the page and its figure.

Owns the order and the arguments.
Run it with `python -m slalom.bench.confidence [--quick] [--write docs/benchmarks/confidence.md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slalom.bench.confidence.live import Measured, measured, say
from slalom.bench.confidence.page import Facts, page
from slalom.bench.confidence.setting import FULL, QUICK, Sizes
from slalom.bench.confidence.twin_page import draw
from slalom.bench.confidence.twin_sweep import swept
from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.handle_report import machine
from slalom.clock import MonotonicClock
from slalom.errors import SlalomError
from slalom.units import SECOND


async def live(sizes: Sizes, folder: Path, *, seed: int, wait_s: float) -> tuple[Measured, bool]:
    """The live half, and whether the engines had a core of their own."""
    await quiet(wait_s)
    async with separate_cores() as separate:
        return await measured(sizes, folder, seed=seed), separate


def _command(chosen: argparse.Namespace) -> str:
    """The page's command, with what of it is not as usual."""
    asked = {name: getattr(chosen, name) for name in ("completions", "repeats")}
    said = " ".join(f"--{name} {count}" for name, count in asked.items() if count is not None)
    return "make bench-confidence" + (f' ARGS="{said}"' if said else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.confidence", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test: figures mean nothing")
    add("--seed", type=int, default=0, help="of the holes")
    add("--completions", type=int, metavar="N", help="of each way in each repeat")
    add("--repeats", type=int, metavar="N", help="of the live half")
    add("--scenarios", type=Path, default=Path("scenarios"), help="folder of scenario files")
    add("--wait", type=float, default=0.0, metavar="S", help="for other programs to end, at most")
    add("--keep", type=Path, metavar="FOLDER", help="keep the model, the journal and logs there")
    add("--write", type=Path, metavar="FILE", help="also write the page to FILE, and its figure")
    chosen = parser.parse_args(arguments)
    sizes = QUICK if chosen.quick else FULL
    for name in ("completions", "repeats"):
        if (count := getattr(chosen, name)) is not None:
            sizes = replace(sizes, **{name: count})
    clock = MonotonicClock()
    began_ns = clock.now_ns()
    with tempfile.TemporaryDirectory(prefix="slalom-confidence-") as passing:
        folder = (chosen.keep or Path(passing)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        found, separate = asyncio.run(live(sizes, folder, seed=chosen.seed, wait_s=chosen.wait))
    say("the twin")
    twin = swept(sizes, chosen.scenarios)
    facts = Facts(
        command=_command(chosen) if chosen.write else parser.prog,
        machine=machine(),
        sizes=sizes,
        separate_cores=separate,
        took_s=(clock.now_ns() - began_ns) / SECOND,
    )
    text = page(facts, found, twin)
    sys.stdout.write(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")
        draw(twin, sizes, chosen.write.parent)


if __name__ == "__main__":
    try:
        main()
    except SlalomError as error:
        sys.exit(f"bench-confidence: {error}")
