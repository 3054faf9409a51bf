"""The command: calibrates, measures every way and the typist, asks the twin, writes the page.

Owns the order and the arguments.
Run it with `python -m slalom.bench.sla_live [--quick] [--write docs/benchmarks/sla-live.md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.compare import measure, saturated_per_s, say, ways, with_forecasts
from slalom.bench.sla_live.forecast import forecasts
from slalom.bench.sla_live.keystrokes import typing
from slalom.bench.sla_live.loads import mixed, tasks_for
from slalom.bench.sla_live.page import Facts, page
from slalom.bench.sla_live.setting import (
    DIRECT,
    FULL,
    HEADERS,
    QUICK,
    Sizes,
    calibrated,
    state_in,
    twin_engine,
)
from slalom.clock import MonotonicClock
from slalom.units import SECOND

#: Arrivals of the look at the saturated throughput, per second for one second.
_SATURATING = 2_000.0


async def report(
    sizes: Sizes, folder: Path, command: str, *, seed: int = 0, wait_s: float = 0.0
) -> str:
    """Everything, as the page.

    Args:
        sizes: How much.
        folder: For what the servers leave.
        command: Shown on the page.
        seed: Of the loads.
        wait_s: Longest wait for other programs before it begins, seconds.

    Raises:
        SlalomError: A server or the calibration failed.
    """
    clock = MonotonicClock()
    await quiet(wait_s)
    began_ns = clock.now_ns()
    texts = Texts(seed=seed)
    with state_in(folder):
        async with separate_cores() as separate:
            say("calibrate")
            calibration = await calibrated(sizes.model, folder, sizes.calibrate_s)
            engine = twin_engine(calibration)
            tasks = tasks_for(engine)
            async with ways(sizes, folder) as up:
                size = await token_size(up.urls[DIRECT], sizes.model, texts, chat=False, headers={})
                speech = Speech(sizes={sizes.model: size}, headers=HEADERS)
                plenty = mixed(sizes.model, tasks, _SATURATING, 1.0, seed=seed, name="full")
                saturated = await saturated_per_s(
                    up.urls[DIRECT], plenty, texts, speech, sizes.saturate_s
                )
                say(f"{saturated:.1f} requests per second at most")
                runs, loads = await measure(
                    *(sizes, up, tasks), saturated=saturated, seed=seed, texts=texts, speech=speech
                )
            typists = await typing(sizes, folder, engine, seed=seed, texts=texts)
    told = forecasts(folder, loads, engine, sizes.seconds)
    facts = Facts(
        command=command,
        model=sizes.model,
        calibration=calibration,
        tasks=tasks,
        saturated_per_s=saturated,
        seconds=sizes.seconds,
        repeats=sizes.repeats,
        separate_cores=separate,
        left_out=up.left_out,
        took_s=(clock.now_ns() - began_ns) / SECOND,
    )
    return page(facts, with_forecasts(runs, told), typists)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.sla_live", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the loads")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    parser.add_argument(
        *("--wait",),
        type=float,
        default=0.0,
        metavar="S",
        help="for other programs to end, at most",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep journals and logs there")
    chosen = parser.parse_args(arguments)
    command = "python -m slalom.bench.sla_live" + (" --quick" if chosen.quick else "")
    command += f" --write {chosen.write}" if chosen.write else ""
    sizes = QUICK if chosen.quick else FULL
    with tempfile.TemporaryDirectory(prefix="slalom-sla-live-") as passing:
        folder = chosen.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        text = asyncio.run(report(sizes, folder, command, seed=chosen.seed, wait_s=chosen.wait))
    sys.stdout.write(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
