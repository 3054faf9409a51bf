"""The command: makes and calibrates models, plays every policy, asks the twin, writes the page.

Owns the order and the arguments. It fails where the engines took more memory than was allowed.
Run it with `python -m slalom.bench.residency_live [--quick] [--write docs/benchmarks/….md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slalom.bench.calibrate_command import run_calibrate
from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.handle_report import machine
from slalom.bench.residency_live.compare import Run, first_look, measure, say
from slalom.bench.residency_live.forecast import forecasts
from slalom.bench.residency_live.load import drawn
from slalom.bench.residency_live.page import Facts, overruns, page
from slalom.bench.residency_live.setting import (
    CONTEXT_TOKENS,
    FULL,
    PLACES,
    QUICK,
    Setting,
    Sizes,
    configuration,
    prepared,
)
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.setting import state_in
from slalom.clock import MonotonicClock
from slalom.errors import SlalomError
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import SECOND

#: A calibration that saw too little is made again with so many times its time.
_PATIENCE = (1, 3, 9)


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
        SlalomError: A server or a calibration failed.
    """
    clock = MonotonicClock()
    await quiet(wait_s)
    began_ns = clock.now_ns()
    say("make the models")
    setting = prepared(sizes, folder)
    texts = Texts(seed=seed)
    with state_in(folder):
        async with separate_cores() as separate:
            engines = await _calibrated(setting, sizes, folder)
            say("load each model once")
            known = await first_look(setting, texts, folder)
            load_ns = list(known.load_ns.values())
            loads = [
                drawn(setting, sizes, engines, load_ns, seed=seed + repeat)
                for repeat in range(sizes.repeats)
            ]
            runs = await measure(setting, sizes, known, loads, texts=texts, folder=folder)
    told = forecasts(runs, setting, sizes, known, engines)
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


async def _calibrated(setting: Setting, sizes: Sizes, folder: Path) -> Mapping[str, LlamaCppEngine]:
    """Every engine as the twin has it; the servers find the same profiles."""
    found = {}
    for name in setting.files:
        document = await _calibration(name, setting, sizes, folder)
        found[name] = LlamaCppEngine(
            StepProfile.from_json(document["profile"]),
            slots=PLACES,
            prefix_caching=False,
            context_tokens=CONTEXT_TOKENS,
            kv_unified=False,
        )
    return found


async def _calibration(
    name: str, setting: Setting, sizes: Sizes, folder: Path
) -> Mapping[str, Any]:
    """One model's, with more time where too little was seen."""
    document = configuration(setting, "lru")
    for patience in _PATIENCE[:-1]:
        say(f"calibrate {name}")
        try:
            return await run_calibrate(
                name, document, folder, sizes.calibrate_s * patience, state=None
            )
        except SlalomError as problem:
            say(str(problem).strip())
    return await run_calibrate(
        name, document, folder, sizes.calibrate_s * _PATIENCE[-1], state=None
    )


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
