"""The comparison itself: one way up at a time, every load on it, over several repeats.

Owns the order of the runs and what is taken from each. Another way begins each repeat. Called by
the command.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slalom.bench.fleet.cells import figures
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.ray_live.knee import Knee
from slalom.bench.ray_live.load import LOADS, alone, load, renamed
from slalom.bench.ray_live.machine import Serving, serving_bytes
from slalom.bench.ray_live.setting import DIRECT, Setting, Sizes
from slalom.bench.ray_live.ways import RAY_PYTHON, Up, serving
from slalom.bench.scenario_requests import planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.machine import Watch
from slalom.clock import MonotonicClock
from slalom.errors import SlalomError
from slalom.metrics.records import Fate, RequestRecord
from slalom.units import MIB, MS, SECOND
from slalom.workload.load import LoadItem
from slalom.workload.tasks import TaskSpec

#: Load of the requests that come alone.
ALONE = "alone"
_DRAIN_S = 40.0
#: Longest time for all requests that come alone, seconds.
_ALONE_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """One way under one load, once."""

    way: str
    load: str
    repeat: int
    known: Mapping[str, float] = field(repr=False)
    #: Share of the machine that other programs took.
    disturbed: float = 0.0

    def figures(self) -> Mapping[str, float]:
        """By name."""
        return self.known


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run has in common."""

    sizes: Sizes
    setting: Setting
    tasks: Mapping[str, TaskSpec]
    knee: Knee
    texts: Texts
    folder: Path
    seed: int = 0
    python: Path = RAY_PYTHON

    async def measure(self) -> list[Run]:
        """All repeats of all ways."""
        runs: list[Run] = []
        for repeat in range(self.sizes.repeats):
            first = repeat % len(self.sizes.ways)
            ways = (*self.sizes.ways[first:], *self.sizes.ways[:first])
            for way in (DIRECT, *ways):
                runs += await self._way(way, repeat)
        return runs

    async def _way(self, way: str, repeat: int) -> list[Run]:
        clock = MonotonicClock()
        began_ns = clock.now_ns()
        name = f"{way}-{repeat}".replace(" ", "-").replace(",", "")
        async with serving(way, self.setting, self.folder / name, self.python) as up:
            up_s = (clock.now_ns() - began_ns) / SECOND
            runs = [await self._alone(way, repeat, up, {"up_s": up_s})]
            if way != DIRECT:
                await self._send(up, self._load("poisson", self.sizes.warm_s, "warm", name))
                runs += [await self._run(way, one, repeat, up) for one in self.sizes.loads]
        return runs

    def _load(
        self, which: str, seconds: float, name: str, way: str, number: int = 0
    ) -> list[LoadItem]:
        seed = self.seed + number
        items = load(self.tasks, LOADS[which], self.knee.most_per_s, seconds, seed=seed, name=name)
        return renamed(items, way)

    async def _alone(self, way: str, repeat: int, up: Up, more: Mapping[str, float]) -> Run:
        """Requests one at a time; two before them that nobody counts."""
        items = renamed(alone(self.sizes.alone + 2, f"alone-{repeat}"), way)
        requests = up.requests(planned(items, self.texts, self.knee.speech))
        watch, spent = Watch(), Serving()
        found = await LoadClient(up.url).closed_loop(requests, width=1, duration_s=_ALONE_S)
        cpu_s, used = spent.cpu_s(), serving_bytes()
        known = dict(more) | alone_figures(found[2:])
        if way != DIRECT:
            known |= {
                "cpu_ms": cpu_s * 1_000 / len(found),
                "memory_mib": used[0] / MIB,
                "processes": float(used[1]),
            }
        say(
            f"{repeat}: {way}: up in {more['up_s']:.1f} s, first token in {known['ttft_ms']:.1f} ms"
        )
        return Run(way, ALONE, repeat, known, watch.share())

    async def _run(self, way: str, which: str, repeat: int, up: Up) -> Run:
        number = 100 * repeat + 10 * self.sizes.loads.index(which)
        items = self._load(which, self.sizes.seconds, f"{which}-{repeat}", way, number)
        watch, spent = Watch(), Serving()
        records = await self._send(up, items)
        known = figures(records, self.sizes.seconds)
        known["cpu_ms"] = spent.cpu_s() * 1_000 / max(len(records), 1)
        known |= {f"{fate.value}": float(sum(one.fate is fate for one in records)) for fate in Fate}
        run = Run(way, which, repeat, known, watch.share())
        say(f"{repeat}: {which}: {way}: {known['attainment']:.0%} good, others {run.disturbed:.0%}")
        return run

    async def _send(self, up: Up, items: Sequence[LoadItem]) -> list[RequestRecord]:
        requests = up.requests(planned(items, self.texts, self.knee.speech))
        client = LoadClient(up.url, bounds=ClientBounds(drain_s=_DRAIN_S))
        return await client.open_loop(requests)


def alone_figures(records: Sequence[RequestRecord]) -> dict[str, float]:
    """Medians over requests that had everything to themselves.

    Raises:
        SlalomError: Some request was not answered.
    """
    failed = next((one for one in records if one.fate is not Fate.DONE), None)
    if failed is not None or not records:
        reason = failed.reason if failed else "none was sent"
        raise SlalomError(f"a request that came alone was not answered: {reason}")
    first = [(one.first_token_ns - one.sent_ns) / MS for one in records]
    whole = [(one.ended_ns - one.sent_ns) / MS for one in records]
    return {"ttft_ms": statistics.median(first), "e2e_ms": statistics.median(whole)}
