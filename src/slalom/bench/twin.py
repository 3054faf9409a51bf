"""How fast the twin is: simulated requests per minute on one core, and what memory they take.

Owns the measuring and the command line; the loads are `twin_loads`'. Every load runs in a process
of its own and keeps nothing but a file of records. Run it with
`python -m slalom.bench.twin [--quick] [--write docs/benchmarks/twin-speed.md]`.
"""

import argparse
import gc
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slalom.bench.twin_loads import PLANNER, fleet, one_replica, one_simple_replica, overloaded
from slalom.core.journal import Entry
from slalom.policies.registry import DEFAULT_KINDS
from slalom.twin.records_file import RecordsFile
from slalom.twin.run import run
from slalom.twin.scenario import Scenario

#: One and a half times the knee that the benchmark of service levels finds.
_POISSON_PER_S = 12.5
#: Title -> (how it is built from a number of requests, requests measured).
LOADS: dict[str, tuple[Callable[[int], Scenario], int]] = {
    "one replica, vllm engine": (one_replica, 50_000),
    "one replica, simple engine": (one_simple_replica, 50_000),
    f"SABER's W1 at 20 requests/s, {PLANNER}": (
        partial(overloaded, name="saber-w1", per_s=20, places=100),
        2_000,
    ),
    f"poisson at 1.5 × its knee, {PLANNER}": (
        partial(overloaded, name="poisson", per_s=_POISSON_PER_S),
        10_000,
    ),
    "poisson at 1.5 × its knee, default policies": (
        partial(
            overloaded, name="poisson", per_s=_POISSON_PER_S, admission=DEFAULT_KINDS["admission"]
        ),
        10_000,
    ),
    "fleet of 1,000 replicas, vllm engines": (fleet, 200_000),
}
_QUICK = 500
#: Requests of a whole day of the fleet.
_DAY = 5_000_000


@dataclass(frozen=True, slots=True)
class Speed:
    """One load, measured."""

    title: str
    requests: int
    #: Time the run took on its core.
    cpu_s: float
    #: Time that passed in the twin.
    simulated_s: float
    #: Calls of the scheduler.
    calls: int
    #: Resident memory when the run began, and at its peak.
    start_mib: float
    peak_mib: float

    @property
    def per_minute(self) -> float:
        """Simulated requests per minute."""
        return self.requests / self.cpu_s * 60


def measure(title: str, count: int) -> Speed:
    """Run one load of that many requests in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(_measure_here, title, count).result()


def _measure_here(title: str, count: int) -> Speed:
    scenario = LOADS[title][0](count)
    gc.collect()
    start_mib = _peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        calls = 0
        with RecordsFile(Path(folder) / "records.jsonl") as records:

            def watch(entry: Entry) -> None:
                nonlocal calls
                calls += 1
                records(entry)

            began_s = time.process_time()
            result = run(scenario, watch=watch, keep=False)
            cpu_s = time.process_time() - began_s
        return Speed(
            title, records.count, cpu_s, result.ended_ns / 1e9, calls, start_mib, _peak_mib()
        )


def _peak_mib() -> float:
    """Peak of resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def page(speeds: Sequence[Speed]) -> str:
    """The page of the documentation."""
    loads = os.getloadavg()
    load_average = ", ".join(f"{load:.1f}" for load in loads)
    machine = (
        f"Machine: {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}; load average at the end: {load_average}."
    )
    if loads[-1] > (os.cpu_count() or 1):
        machine += (
            " Other programs were running, more than there are cores: caches and clocks were "
            "shared with them, and the figures are lower than on a quiet machine."
        )
    lines = [
        _HEAD.format(fleet=speeds[-1].requests),
        machine,
        "",
        "| load | requests | CPU s | requests/min | scheduler calls | simulated | memory MiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {speed.title} | {speed.requests:,} | {speed.cpu_s:.1f} | {speed.per_minute:,.0f} "
        f"| {speed.calls:,} | {speed.simulated_s / 60:,.0f} min "
        f"| {speed.start_mib:.0f} → {speed.peak_mib:.0f} |"
        for speed in speeds
    ]
    fleet_speed = speeds[-1]
    if fleet_speed.requests < _DAY:
        minutes = _DAY / fleet_speed.per_minute
        whole = (
            "The fleet's row is a slice of a day of 5 million requests, at that day's mean rate. "
            f"At its speed the day would take {minutes:.0f} minutes on one core; the whole day "
            "(`--fleet 5000000`) was not run for this page."
        )
    else:
        whole = (
            f"The fleet's row is a whole day: {fleet_speed.cpu_s / 60:.1f} minutes on one core "
            f"for {fleet_speed.simulated_s / 3600:.1f} hours."
        )
    lines += ["", whole]
    return "\n".join(lines) + "\n"


_HEAD = """# The twin's speed

How many requests the twin plays in a minute on one core, with the whole scheduler in the loop: the
default policies, and the planner where more arrives than can be on time. Made by:

<!-- skip: takes minutes, and the machine to itself -->
```console
python -m slalom.bench.twin --fleet {fleet} --write docs/benchmarks/twin-speed.md
```

Time is the process's own (CPU), so that other programs on the machine count less. Every request's
record goes to a file as it ends and nothing is kept; memory is resident, at the start of the run
and at its peak.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.twin", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="few requests: a smoke test")
    parser.add_argument(
        "--fleet", type=int, metavar="N", help="requests of the fleet; its day has 5,000,000"
    )
    parser.add_argument("--write", type=Path, help="the page to write instead of printing it")
    arguments = parser.parse_args(argv)
    counts = {title: _QUICK if arguments.quick else count for title, (_, count) in LOADS.items()}
    if arguments.fleet:
        counts[list(LOADS)[-1]] = arguments.fleet
    text = page([measure(title, count) for title, count in counts.items()])
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
