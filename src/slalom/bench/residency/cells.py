"""One run of the benchmark: a policy, a scenario file, a seed.

Owns what is kept of a run. Knows no part of the page. Played in processes of their own by
`running`; the same cell gives the same result.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from slalom.bench.residency.choices import Choice
from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.core.actions import LoadReplica, SleepReplica, WakeReplica
from slalom.core.journal import Entry
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.summaries import percentile
from slalom.policies.registry import policies
from slalom.twin.clairvoyant import with_foresight
from slalom.twin.from_file import scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import build_scheduler, run
from slalom.twin.scenario import Scenario
from slalom.units import GIB, SECOND, seconds_to_ns

#: Figures by name; those of one task have it after a dot.
Result: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    path: str
    seed: int
    choice: Choice


def play(cell: Cell) -> Result:
    """Play a cell."""
    loaded = _read(cell.path)
    scenario = _scenario(loaded, cell)
    meter = Meter(scenario, seconds_to_ns(loaded.file.warm_up_seconds))
    moved = Moved(scenario)
    run(
        scenario,
        scheduler=build_scheduler(scenario),
        watch=moved.watch,
        observer=meter,
        keep=False,
    )
    usage = meter.usage()
    return {
        **figures(meter.records),
        "evictions": float(usage.evictions),
        "loads": float(usage.loads),
        "wakes": float(usage.wakes),
        "cold_start_s": usage.cold_start_s,
        "swapped_gib": moved.total_bytes / GIB,
    }


def figures(records: Iterable[RequestRecord]) -> dict[str, float]:
    """Attainment, and means and 95th percentiles of whole answers, s: all, and by task."""
    rows = list(records)
    found: dict[str, float] = {}
    for task in ("", *sorted({row.task for row in rows})):
        mine = [row for row in rows if task in {"", row.task}]
        done = [row for row in mine if row.fate is Fate.DONE]
        counted = [row for row in mine if row.fate not in {Fate.CANCELLED, Fate.SUPERSEDED}]
        dot = f".{task}" if task else ""
        found[f"requests{dot}"] = float(len(counted))
        found[f"attainment{dot}"] = sum(row.good for row in counted) / max(len(counted), 1)
        for name in ("ttft", "e2e"):
            times = sorted(getattr(row, f"{name}_ns") / SECOND for row in done)
            found[f"{name}_s{dot}"] = statistics.fmean(times) if times else 0.0
            found[f"{name}_p95_s{dot}"] = percentile(times, 95) if times else 0.0
    return found


class Moved:
    """Counts the weights that loads, sleeps and wakes move.

    Args:
        scenario: What is run.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._load = {one.spec.id: one.load.weights(one.spec) for one in scenario.models}
        self._sleep = {one.spec.id: one.sleep.weights(one.spec) for one in scenario.models}
        self.total_bytes = 0

    def watch(self, entry: Entry) -> None:
        """Count one call of the scheduler."""
        for action in entry.actions:
            if isinstance(action, LoadReplica):
                self.total_bytes += self._load[action.model]
            elif isinstance(action, WakeReplica) or (
                isinstance(action, SleepReplica) and action.level == 1
            ):
                self.total_bytes += self._sleep[action.replica_id.rpartition("#")[0]]


def _scenario(loaded: LoadedScenario, cell: Cell) -> Scenario:
    chosen = replace(policies(), residency=cell.choice.policy())
    scenario = scenario_of(loaded, chosen, cell.seed)
    if cell.choice.foresees:
        company = cell.choice.for_company
        return with_foresight(scenario, cell.choice.penalty(), waits_for_company=company)
    return scenario


@lru_cache(maxsize=8)
def _read(path: str) -> LoadedScenario:
    return load_scenario(Path(path))
