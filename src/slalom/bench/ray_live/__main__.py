"""The command: makes the models, finds the knee, measures every way, writes the page.

Owns the order and the arguments. Ray Serve and Slalom on Ray need `make ray-setup` first.
Run it with `python -m slalom.bench.ray_live [--quick] [--write docs/benchmarks/ray.md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slalom.bench.calibrate_command import run_calibrate
from slalom.bench.fidelity_cores import quiet
from slalom.bench.ray_live.compare import Bench, say
from slalom.bench.ray_live.knee import look
from slalom.bench.ray_live.load import tasks_for
from slalom.bench.ray_live.machine import engines_give_way
from slalom.bench.ray_live.page import Facts, page
from slalom.bench.ray_live.setting import (
    FULL,
    LOCAL,
    QUICK,
    WAYS,
    Setting,
    Sizes,
    configuration,
    prepared,
    twin_engine,
)
from slalom.bench.ray_live.ways import RAY_PYTHON, ray_version
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.setting import state_in
from slalom.clock import MonotonicClock
from slalom.errors import SlalomError
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import SECOND


async def report(
    sizes: Sizes,
    folder: Path,
    command: str,
    *,
    seed: int = 0,
    wait_s: float = 0.0,
    python: Path = RAY_PYTHON,
) -> str:
    """Everything, as the page.

    Args:
        sizes: How much.
        folder: For models, and for what the servers leave.
        command: Shown on the page.
        seed: Of the loads.
        wait_s: Longest wait for other programs before it begins, seconds.
        python: The interpreter that has Ray.

    Raises:
        SlalomError: A server, an engine or the calibration failed.
    """
    clock = MonotonicClock()
    await quiet(wait_s)
    began_ns, texts = clock.now_ns(), Texts(seed=seed)
    ray = ray_version(python)
    left_out = {way: "there is no Ray; `make ray-setup` installs it"
                for way in sizes.ways if way != LOCAL and not ray}  # fmt: skip
    sizes = replace(sizes, ways=tuple(way for way in sizes.ways if way not in left_out))
    setting = prepared(sizes, folder)
    with state_in(folder):
        engines, keys = await _calibrated(setting, folder, sizes.calibrate_s)
        tasks = tasks_for(engines)
        async with engines_give_way():
            say("how much the machine answers at most")
            knee = await look(setting, tasks, texts, sizes.saturate_s, seed=seed)
            say(f"{knee.most_per_s:.2f} requests per second at most")
            bench = Bench(sizes, setting, tasks, knee, texts, folder, seed, python)
            runs = await bench.measure()
    facts = Facts(
        command=command,
        machine=keys["device"],
        versions=f"{keys['engine']}; {ray or 'no Ray'}",
        parameters=sizes.parameters,
        tasks=tasks,
        most_per_s=knee.most_per_s,
        seconds=sizes.seconds,
        repeats=sizes.repeats,
        left_out=left_out,
        took_s=(clock.now_ns() - began_ns) / SECOND,
    )
    return page(facts, runs)


async def _calibrated(
    setting: Setting, folder: Path, seconds: float
) -> tuple[dict[str, LlamaCppEngine], dict[str, str]]:
    """The twin's engine of each model, and what the calibrations say of the machine."""
    engines, keys = {}, {}
    for name in setting.files:
        say(f"calibrate {name}")
        found = await run_calibrate(name, configuration(setting), folder, seconds, state=None)
        engines[name], keys = twin_engine(found), dict(found["key"])
    return engines, keys


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.ray_live", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test: figures mean nothing")
    add("--seed", type=int, default=0, help="of the loads")
    add("--ways", nargs="+", choices=WAYS, metavar="WAY", help=f"only these of {', '.join(WAYS)}")
    add("--repeats", type=int, help="how many times")
    add("--python", type=Path, default=RAY_PYTHON, metavar="FILE", help="interpreter with Ray")
    add("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    add("--wait", type=float, default=0.0, metavar="S", help="for other programs to end, at most")
    add("--keep", type=Path, metavar="FOLDER", help="keep models, journals and logs there")
    chosen = parser.parse_args(arguments)
    sizes = QUICK if chosen.quick else FULL
    sizes = replace(sizes, ways=tuple(chosen.ways or sizes.ways),
                    repeats=chosen.repeats or sizes.repeats)  # fmt: skip
    command = "make bench-ray" if chosen.write else parser.prog
    with tempfile.TemporaryDirectory(prefix="slalom-ray-") as passing:
        folder = (chosen.keep or Path(passing)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        made = report(
            *(sizes, folder, command),
            seed=chosen.seed,
            wait_s=chosen.wait,
            python=chosen.python.absolute(),
        )
        text = asyncio.run(made)
    sys.stdout.write(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except SlalomError as error:
        sys.exit(f"bench-ray: {error}")
