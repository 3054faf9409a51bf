"""One run of the benchmark: a scenario file, its arrivals, a seed, who decides.

Owns what is changed in a scenario and what is kept of a run. Knows no part of the page. Played in
processes of their own by `running`; the same cell gives the same result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from slalom.bench.fleet.choices import Choice
from slalom.bench.fleet.hindsight import best_in_hindsight
from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.core.actions import LoadReplica, SizeDecided
from slalom.core.events import ReplicaGone
from slalom.core.journal import Entry
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.summaries import percentile
from slalom.policies.registry import policies
from slalom.twin.bound_api import bound
from slalom.twin.from_file import scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.arrivals import ArrivalProcess, poisson
from slalom.workload.shapes import EvenArrivals

#: Figures by name.
Result: TypeAlias = Mapping[str, float]
Arrivals: TypeAlias = Literal["uniform", "poisson", "bursty"]

#: Tasks that are judged by their first token.
TTFT_CRITICAL = frozenset({"completion", "generation"})
#: Requests of a burst.
_BURST = 30


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    path: str
    arrivals: Arrivals
    #: So many times as fast as the file says.
    rate: float
    seed: int
    #: Who decides; None for the bound instead of a run.
    choice: Choice | None


def play(cell: Cell) -> Result:
    """Play a cell."""
    loaded = _loaded(cell)
    if cell.choice is None:
        whole = scenario_of(loaded, policies(), cell.seed, rate_scale=cell.rate)
        found = bound(whole)
        warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds / cell.rate)
        return {
            "upper": found.upper_share,
            "schedule": found.schedule_share,
            "hindsight": best_in_hindsight(whole, warm_up_ns),
        }
    scenario = scenario_of(loaded, cell.choice.policies(), cell.seed, rate_scale=cell.rate)
    warm_up_ns = seconds_to_ns(loaded.file.warm_up_seconds / cell.rate)
    meter, upkeep = Meter(scenario, warm_up_ns), Upkeep()
    result = run(scenario, watch=upkeep.watch, observer=meter, keep=False)
    end_ns = result.last_arrival_ns
    return {
        **figures(meter.records, (end_ns - warm_up_ns) / SECOND),
        "replica_s": upkeep.up_ns(end_ns) / SECOND,
        "resizes": float(upkeep.resizes),
        "loads": float(upkeep.loads),
    }


def figures(records: Iterable[RequestRecord], span_s: float) -> dict[str, float]:
    """What the paper looks at, and what is needed to judge it.

    Args:
        records: Of the requests that count.
        span_s: In which they arrive.
    """
    rows = [row for row in records if row.fate not in {Fate.CANCELLED, Fate.SUPERSEDED}]
    urgent = [row for row in rows if row.task in TTFT_CRITICAL]
    found = {
        "requests": float(len(rows)),
        "attainment": _share(rows),
        "goodput_per_s": sum(row.good for row in rows) / span_s,
        "urgent": _share(urgent),
        "urgent_good_per_s": sum(row.good for row in urgent) / span_s,
        "urgent_good_tokens": float(sum(row.output_tokens for row in urgent if row.good)),
        "answered": sum(row.fate is Fate.DONE for row in rows) / max(len(rows), 1),
    }
    for task in sorted({row.task for row in rows}):
        mine = [row for row in rows if row.task == task]
        done = [row for row in mine if row.fate is Fate.DONE]
        found[f"attainment.{task}"] = _share(mine)
        firsts = sorted(row.ttft_ns / SECOND for row in done if row.ttft_ns is not None)
        ends = sorted(row.e2e_ns / SECOND for row in done)
        found[f"ttft_p95_s.{task}"] = percentile(firsts, 95) if firsts else 0.0
        found[f"e2e_p95_s.{task}"] = percentile(ends, 95) if ends else 0.0
    return found


class Upkeep:
    """Counts the time that replicas are up, from the beginning of each load."""

    def __init__(self) -> None:
        self._since_ns: dict[tuple[str, int], int] = {}
        self._lives: list[tuple[int, int]] = []
        self.resizes = 0
        self.loads = 0

    def watch(self, entry: Entry) -> None:
        """Count one call of the scheduler."""
        for event in entry.events:
            if isinstance(event, ReplicaGone):
                since_ns = self._since_ns.pop((event.replica_id, event.epoch), None)
                if since_ns is not None:
                    self._lives.append((since_ns, entry.now_ns))
        for action in entry.actions:
            if isinstance(action, LoadReplica):
                self.loads += 1
                self._since_ns[action.replica_id, action.epoch] = entry.now_ns
            self.resizes += isinstance(action, SizeDecided)

    def up_ns(self, until_ns: int) -> int:
        """Up to a time, ns."""
        lives = [*self._lives, *((since_ns, until_ns) for since_ns in self._since_ns.values())]
        return sum(max(min(end_ns, until_ns) - begin_ns, 0) for begin_ns, end_ns in lives)


def _share(rows: list[RequestRecord]) -> float:
    return sum(row.good for row in rows) / max(len(rows), 1)


def _loaded(cell: Cell) -> LoadedScenario:
    loaded = _read(cell.path)
    groups = tuple(
        replace(group, arrivals=_process(cell.arrivals, group.arrivals.rate_per_s))
        for group in loaded.plan.groups
        if group.arrivals is not None
    )
    return replace(loaded, plan=replace(loaded.plan, groups=groups))


def _process(arrivals: Arrivals, rate_per_s: float) -> ArrivalProcess:
    if arrivals == "poisson":
        return poisson(rate_per_s)
    return EvenArrivals(rate_per_s, _BURST if arrivals == "bursty" else 1)


@lru_cache(maxsize=8)
def _read(path: str) -> LoadedScenario:
    return load_scenario(Path(path))
