"""`slalom demo`: real models that do not fit together, one load, two ways to schedule it.

Owns the order of the steps: models, probe, plan, runs in turn on fresh servers, report. Both
contenders get the same bytes at the same times; only policies differ. Called by the command line.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from slalom.bench.demo_calibration import Calibration, calibrate
from slalom.bench.demo_describe import describe
from slalom.bench.demo_display import Display
from slalom.bench.demo_report import print_report
from slalom.bench.demo_result import DemoResult, Run, as_document
from slalom.bench.demo_server import residency, running_server
from slalom.bench.demo_setting import (
    FULL,
    MIX,
    PASS_THROUGH,
    QUICK,
    SLALOM,
    SUMMARISER,
    TASKS,
    TRANSLATOR,
    Contender,
    Fleet,
    Scale,
    make_fleet,
)
from slalom.bench.load_client import ClientBounds, LoadClient, Progress, span_ns
from slalom.config.places import journal_dir
from slalom.config.sections import JournalSection
from slalom.errors import ConfigError
from slalom.metrics.records import RequestRecord
from slalom.units import format_bytes
from slalom.workload.arrivals import OnOffArrivals
from slalom.workload.plan import LoadSpec, PlannedRequest, plan
from slalom.workload.source_code import Corpus

#: The load over the estimated knee: enough that queues form, not so much that nothing is left.
_LOAD_OVER_KNEE = 1.2
#: Mean length of a burst and of a silence, seconds.
_BURST_S = 2.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What may be chosen."""

    #: Folder to cut prompts from; None is the interpreter's standard library.
    code: Path | None = None
    seed: int = 0
    #: Runs of each contender; every one has a seed of its own.
    repeats: int = 1
    #: Requests per second; None finds it out.
    rate_per_s: float | None = None
    #: Requests of one run; None follows from the rate.
    requests: int | None = None
    #: Where configurations, journals and logs stay; None is the user's state folder, where the
    #: next demo replaces them.
    keep: Path | None = None
    #: Tiny models and a few requests: to see that it works, not what it is worth.
    quick: bool = False

    @property
    def scale(self) -> Scale:
        """How large everything is."""
        return QUICK if self.quick else FULL


def run(
    *,
    code: Path | None = None,
    seed: int = 0,
    repeats: int = 1,
    rate: float | None = None,
    requests: int | None = None,
    keep: Path | None = None,
    quick: bool = False,
    as_json: bool = False,
) -> int:
    """Run the demo and print its result on standard output.

    Args:
        code: As `DemoOptions.code`.
        seed: Of prompts and arrivals.
        repeats: Runs of each contender.
        rate: Requests per second; None finds it out.
        requests: Requests of one run; None follows from the rate.
        keep: Folder where configurations, journals and logs stay.
        quick: Tiny models and a few requests.
        as_json: Print JSON in place of the table.

    Returns:
        The exit code, 0.

    Raises:
        ConfigError: A number is out of range, or there is no code to cut prompts from.
        DemoError: A server did not start.
    """
    if repeats < 1 or (requests is not None and requests < 1) or (rate is not None and rate <= 0):
        raise ConfigError("repeats, requests and rate must be positive")
    options = DemoOptions(code, seed, repeats, rate, requests, keep, quick)
    result = asyncio.run(measure(options, Display()))
    contenders = [PASS_THROUGH.name, SLALOM.name]
    if as_json:
        document = as_document(result, contenders, TASKS)
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        print_report(result, contenders, TASKS)
    return 0


async def measure(options: DemoOptions, display: Display) -> DemoResult:
    """Do everything but the report.

    Raises:
        ConfigError: There is no code to cut prompts from.
        DemoError: A server did not start.
    """
    started_s = time.monotonic()
    scene = _prepare(options, display)
    calibration = None
    rate_per_s = options.rate_per_s
    if rate_per_s is None:
        calibration = await _calibrate(scene)
        rate_per_s = min(_LOAD_OVER_KNEE * calibration.knee_per_s, options.scale.rate_max_per_s)
    runs = await _runs(scene, rate_per_s)
    setting = describe(scene.fleet, scene.corpus, runs, rate_per_s)
    setting["took"] = f"{time.monotonic() - started_s:.0f} s, from the probe to this line"
    return DemoResult(setting, calibration, rate_per_s, runs, str(scene.folder))


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all runs have in common."""

    options: DemoOptions
    display: Display
    corpus: Corpus
    fleet: Fleet
    folder: Path


def _prepare(options: DemoOptions, display: Display) -> _Scene:
    display.say("Models")
    fleet = make_fleet(options.scale, _cache_folder(), display.model)
    display.say(
        f"  {len(fleet.specs)} models need {format_bytes(fleet.needed_bytes)}; "
        f"the budget is {format_bytes(fleet.budget_bytes)}"
    )
    corpus = Corpus(options.code, seed=options.seed)
    return _Scene(options, display, corpus, fleet, _folder(options.keep))


async def _calibrate(scene: _Scene) -> Calibration:
    """Probe the models on a server of their own."""
    display = scene.display
    display.say("Probe")
    async with running_server(scene.folder / "probe", scene.fleet.config(PASS_THROUGH)) as url:
        found = await calibrate(
            url,
            scene.corpus,
            MIX,
            (SUMMARISER, TRANSLATOR),
            probe_s=scene.options.scale.probe_s,
            seed=scene.options.seed,
        )
    alone = ", ".join(f"{name} {rate:.1f}/s" for name, rate in found.alone_per_s.items())
    display.say(f"  alone: {alone}")
    display.say(
        f"  this machine's knee is near {found.knee_per_s:.1f} requests/s; "
        f"the load is {_LOAD_OVER_KNEE:g} times that"
    )
    return found


async def _runs(scene: _Scene, rate_per_s: float) -> list[Run]:
    """Every contender on every repeat's load, in turn."""
    options = scene.options
    scale = options.scale
    fitting = round(rate_per_s * scale.arrivals_s)
    count = options.requests or max(scale.requests_min, min(fitting, scale.requests_max))
    contenders = (PASS_THROUGH, SLALOM)
    runs = []
    for repeat in range(options.repeats):
        seed = options.seed + repeat
        arrivals = OnOffArrivals(rate_per_s, on_s=_BURST_S, off_s=_BURST_S)
        spec = LoadSpec(MIX, arrivals, count, seed=seed, name="demo", fitted=True)
        planned = plan(spec, scene.corpus)
        scene.display.say(f"Load {repeat + 1} of {options.repeats}: {count} requests, seed {seed}")
        # Who begins changes with every repeat, so that what drifts hits both.
        for contender in contenders if repeat % 2 == 0 else contenders[::-1]:
            folder = scene.folder / f"{contender.name}-{repeat}"
            records = await _send(scene, contender, planned, folder)
            duration_ns = span_ns(planned, rate_per_s)
            found = Run(contender.name, repeat, seed, records, duration_ns, residency(folder))
            runs.append(found)
    return runs


async def _send(
    scene: _Scene, contender: Contender, planned: tuple[PlannedRequest, ...], folder: Path
) -> list[RequestRecord]:
    """One load to one fresh server."""
    bounds = ClientBounds(drain_s=scene.options.scale.drain_s)
    progress = Progress()
    async with (
        running_server(folder, scene.fleet.config(contender)) as url,
        scene.display.watching(contender.name, progress),
    ):
        return await LoadClient(url, bounds=bounds, progress=progress).open_loop(planned)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "slalom" / "demo"


def _folder(keep: Path | None) -> Path:
    """An empty folder for this demo; without a wish, beside the journal, one at a time."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise ConfigError(f"{keep} is not empty: name a new folder for the demo's files")
        return keep.absolute()
    journal = journal_dir(JournalSection())
    assert journal is not None  # noqa: S101 - the default writes one
    base = journal.parent / "demo"
    if base.is_dir():
        for old in base.iterdir():
            if not (old.name.isdecimal() and psutil.pid_exists(int(old.name))):
                shutil.rmtree(old, ignore_errors=True)
    return base / str(os.getpid())
