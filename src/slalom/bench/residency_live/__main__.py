"""The command: makes and times models, plays every policy, asks the twin, writes the page.

Owns the order and the arguments. It fails where the engines took more memory than was allowed.
Run it with `python -m slalom.bench.residency_live [--quick] [--write docs/benchmarks/….md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.handle_report import machine
from slalom.bench.residency_live.compare import Run, first_look, measure, say
from slalom.bench.residency_live.forecast import forecasts
from slalom.bench.residency_live.load import drawn
from slalom.bench.residency_live.page import Facts, overruns, page
from slalom.bench.residency_live.setting import (
    FULL,
    QUICK,
    Setting,
    Sizes,
    prepared,
)
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.setting import state_in
from slalom.clock import MonotonicClock
from slalom.errors import SlalomError
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    page: str
    runs: Sequence[Run]
    setting: Setting


async def report(
    sizes: Sizes, folder: Path, command: str, *, seed: int = 0, wait_s: float = 0.0
) -> Report:
    """Everything.

    Args:
        sizes: How much.
        folder: For the models and for what the servers leave.
        command: Shown on the page.
        seed: Of the loads.
        wait_s: Longest wait for other programs before it begins, seconds.

    Raises:
        SlalomError: A server failed.
    """
    clock = MonotonicClock()
    await quiet(wait_s)
    began_ns = clock.now_ns()
    say("make the models")
    setting = prepared(sizes, folder)
    texts = Texts(seed=seed)
    with state_in(folder):
        async with separate_cores() as separate:
            say("load and time each model")
            known = await first_look(setting, texts, folder)
            load_ns = list(known.load_ns.values())
            loads = [
                drawn(setting, sizes, known.engines, load_ns, seed=seed + repeat)
                for repeat in range(sizes.repeats)
            ]
            runs = await measure(setting, sizes, known, loads, texts=texts, folder=folder)
    told = forecasts(runs, setting, sizes, known)
    facts = Facts(
        command=command,
        machine=machine(),
        setting=setting,
        known=known,
        load=loads[0],
        seconds=sizes.seconds,
        warm_s=sizes.warm_s,
        repeats=sizes.repeats,
        separate_cores=separate,
        took_s=(clock.now_ns() - began_ns) / SECOND,
    )
    return Report(page(facts, runs, told), runs, setting)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.residency_live", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test: figures mean nothing")
    add("--seed", type=int, default=0, help="of the loads")
    add("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    add("--wait", type=float, default=0.0, metavar="S", help="for other programs to end, at most")
    add("--keep", type=Path, metavar="FOLDER", help="keep models, journals and logs there")
    chosen = parser.parse_args(arguments)
    command = "make bench-residency-live" if chosen.write else parser.prog
    with tempfile.TemporaryDirectory(prefix="slalom-residency-live-") as passing:
        folder = (chosen.keep or Path(passing)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        sizes = QUICK if chosen.quick else FULL
        found = asyncio.run(report(sizes, folder, command, seed=chosen.seed, wait_s=chosen.wait))
    sys.stdout.write(found.page)
    if chosen.write:
        chosen.write.write_text(found.page, encoding="utf-8")
    if overruns(found.runs, found.setting.budget_bytes):
        sys.exit("bench-residency-live: the engines took more memory than is allowed")


if __name__ == "__main__":
    try:
        main()
    except SlalomError as error:
        sys.exit(f"bench-residency-live: {error}")
