"""How near the twin is to a real engine: `python -m slalom.bench.fidelity [--write FILE]`.

Owns the comparison: each bundled model on llama.cpp behind a real server, calibrated, under three
loads and two policies, and the twin on the very same arrivals. Called by `make fidelity`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from slalom.bench.calibrate_command import run_calibrate
from slalom.bench.demo_server import journal_folder, running_server
from slalom.bench.fidelity_cores import DISTURBED, Disturbance, quiet, separate_cores
from slalom.bench.fidelity_direct import Options, measure_direct, table
from slalom.bench.fidelity_load import LOADS, Sizes, load, saturated_per_s, tasks_for
from slalom.bench.fidelity_report import Cell, page
from slalom.bench.fidelity_twin import from_sending, read_journal, replayed, way_ns
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.errors import SlalomError
from slalom.metrics.records import RequestRecord
from slalom.metrics.results import RunResult
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import seconds_to_ns
from slalom.workload.load import LoadItem
from slalom.workload.plan import TASK_HEADER

_PLACES, _CONTEXT_TOKENS, _MICRO_BATCH = 4, 2_048, 512
#: In one cache for all, a step's time depends on where the cells of every other place lie.
_OWN_CACHES = {"kv_unified": False}
#: Policies that are compared -> the configuration's `scheduler` section.
POLICIES: dict[str, dict[str, Any]] = {
    "fcfs, open": {"admission": {"kind": "open"}, "ordering": {"kind": "fcfs"}},
    "edf, drop-late": {"admission": {"kind": "drop-late"}, "ordering": {"kind": "edf"}},
}
FULL = Sizes(20.0, 40.0, tuple(LOADS), ("slalom-small", "slalom-mini"))
QUICK = Sizes(2.0, 4.0, ("light", "overload"), ("slalom-mini",))
_DRAIN_S = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """What is done about other programs on the machine."""

    #: How often something is measured until they leave it alone; the quietest counts.
    attempts: int = 1
    #: Longest wait for them before each attempt, seconds.
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the runs of one model have in common."""

    model: str
    engine: LlamaCppEngine
    folder: Path
    sizes: Sizes
    texts: Texts
    patience: Patience


async def measure(
    sizes: Sizes, folder: Path, seed: int = 0, patience: Patience | None = None
) -> tuple[list[Cell], dict[str, Any]]:
    """All runs; the cells of the report, and each model's calibration.

    Args:
        sizes: How much is sent.
        folder: For what the servers leave.
        seed: Of the loads.
        patience: With other programs.

    Raises:
        SlalomError: A server or a calibration failed.
    """
    patience = patience or Patience()
    cells, calibrations = [], {}
    texts = Texts(seed=seed)
    async with separate_cores() as separate:
        for model in sizes.models:
            calibrate = partial(_calibrate, model, folder, sizes.calibrate_s)
            found, disturbed = await _quietest(patience, calibrate)
            calibrations[model] = {**found, "separate_cores": separate, "disturbed": disturbed}
            engine = LlamaCppEngine(
                StepProfile.from_json(found["profile"]),
                slots=_PLACES,
                micro_batch_tokens=_MICRO_BATCH,
                prefix_caching=False,
                context_tokens=_CONTEXT_TOKENS,
                kv_unified=False,
            )
            scene = _Scene(model, engine, folder, sizes, texts, patience)
            for number, name in enumerate(sizes.loads):
                cells += [await _cell(scene, name, policy, seed + number) for policy in POLICIES]
    return cells, calibrations


async def _cell(scene: _Scene, name: str, policy: str, seed: int) -> Cell:
    """One load under one policy, live and in the twin."""
    _say(f"{scene.model}: {name}, {policy}")
    rate = LOADS[name] * saturated_per_s(scene.engine, scene.model, seed)
    tasks = tasks_for(scene.engine)
    items = load(scene.model, tasks, rate, scene.sizes.seconds, seed)
    (folder, records), disturbed = await _quietest(
        scene.patience, lambda: _live(scene, name, policy, items)
    )
    live = [from_sending(record, item) for record, item in zip(records, items, strict=True)]
    header, entries = read_journal(journal_folder(folder))
    told = replayed(header, entries, {item.id: item for item in items}, scene.engine)
    duration_ns = seconds_to_ns(scene.sizes.seconds)
    return Cell(
        model=scene.model,
        load=name,
        policy=policy,
        rate_per_s=rate,
        live=RunResult.of(policy, seed, live, duration_ns),
        twin=RunResult.of(policy, seed, told, duration_ns),
        live_records=tuple(live),
        twin_records=tuple(told),
        way_ns=way_ns(live, entries),
        disturbed=disturbed,
    )


async def _quietest(patience: Patience, measured: Callable[[], Awaitable[_T]]) -> tuple[_T, float]:
    """What was measured while other programs took the least, and their share of the machine."""
    best: tuple[_T, float] | None = None
    for attempt in range(patience.attempts):
        await quiet(patience.wait_s)
        disturbance = Disturbance()
        found = await measured()
        share = disturbance.share()
        if best is None or share < best[1]:
            best = (found, share)
        if share <= DISTURBED:
            break
        _say(f"attempt {attempt + 1}: other programs took {share:.0%}")
    if best is None:
        raise SlalomError("nothing was attempted: --attempts must be at least 1")
    return best


async def _live(
    scene: _Scene, name: str, policy: str, items: Sequence[LoadItem]
) -> tuple[Path, list[RequestRecord]]:
    """The load sent to a fresh server, and the server's folder."""
    slug = f"{scene.model}-{name}-{policy.replace(', ', '-')}-"
    folder = Path(tempfile.mkdtemp(prefix=slug, dir=scene.folder))
    async with running_server(folder, _config(scene.model, policy)) as url:
        # A task without targets: the model may still be loading, and may take as long as it likes.
        free = {TASK_HEADER: "batch"}
        size = await token_size(url, scene.model, scene.texts, chat=False, headers=free)
        speech = Speech(sizes={scene.model: size})
        client = LoadClient(url, bounds=ClientBounds(drain_s=_DRAIN_S))
        return folder, await client.open_loop(planned(items, scene.texts, speech))


def _config(model: str, policy: str) -> dict[str, Any]:
    engine = {
        "kind": "llama-cpp",
        "source": f"bundled:{model}",
        "context_tokens": _CONTEXT_TOKENS,
        "places": _PLACES,
        "threads": 1,
        "micro_batch_tokens": _MICRO_BATCH,
        "extra": _OWN_CACHES,
    }
    return {
        "server": {"drain_seconds": 5},
        "devices": [{"id": "host", "window": 0}],
        "models": [{"id": model, "engine": engine, "pinned": True}],
        "scheduler": POLICIES[policy],
    }


async def _calibrate(model: str, folder: Path, seconds: float) -> dict[str, Any]:
    """`slalom calibrate` in a process of its own, as users run it."""
    _say(f"{model}: calibrate")
    configuration = _config(model, next(iter(POLICIES)))
    return await run_calibrate(model, configuration, folder, seconds, state=folder)


async def _direct(sizes: Sizes, seed: int) -> list[Cell]:
    _say("engines alone")
    async with separate_cores():
        options = Options(_PLACES, _CONTEXT_TOKENS, _MICRO_BATCH)
        return await measure_direct(sizes, options, seed)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.fidelity", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    parser.add_argument(
        "--direct", action="store_true", help="only engines without a server, by processor time"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the loads")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    parser.add_argument(
        "--attempts", type=int, default=3, help="at each run until other programs leave it alone"
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="for them before each, at most"
    )
    chosen = parser.parse_args(arguments)
    sizes = QUICK if chosen.quick else FULL
    direct = asyncio.run(_direct(sizes, chosen.seed))
    if chosen.direct:
        sys.stdout.write("\n".join(table(direct)) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="slalom-fidelity-") as folder:
        patience = Patience(chosen.attempts, chosen.wait)
        run = measure(sizes, Path(folder), chosen.seed, patience)
        cells, calibrations = asyncio.run(run)
    flags = " --quick" if chosen.quick else ""
    flags += f" --write {chosen.write}" if chosen.write else ""
    command = f"python -m slalom.bench.fidelity{flags}"
    text = page(cells, calibrations, command, table(direct))
    sys.stdout.write(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
