"""Part 3: a coding day on a large fleet: goodput, device hours, and the cost of decisions.

Owns the rows, one run of each, and the section. The load is `day`'s; results are kept as those of
part 1 are.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from slalom.bench.fleet.cells import Result, Upkeep, figures
from slalom.bench.fleet.choices import FORECAST, OURS, QUICK_RAY, RAY, ROUND_ROBIN, Choice
from slalom.bench.fleet.day import Day
from slalom.bench.kept_runs import KeptRuns
from slalom.bench.sla.tables import table
from slalom.core.actions import Action
from slalom.core.events import Event
from slalom.core.scheduler import Scheduler
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.units import SECOND, US

#: Part of the day that is not counted: what is up at midnight has to come up first.
_WARM_UP = 1 / 48


@dataclass(frozen=True, slots=True)
class DayCell:
    """One run."""

    choice: Choice
    day: Day
    #: Whether the GPUs are handed out to the models by their shares of the peak.
    fixed: bool


def rows(day: Day) -> Sequence[DayCell]:
    """The rows of the table."""
    planned = replace(OURS, name="static, Slalom's plan", scaling="fixed")
    return (
        DayCell(replace(ROUND_ROBIN, name="static, in turn"), day, fixed=True),
        DayCell(RAY, day, fixed=False),
        DayCell(QUICK_RAY, day, fixed=False),
        DayCell(FORECAST, day, fixed=False),
        DayCell(OURS, day, fixed=False),
        DayCell(planned, day, fixed=True),
    )


class _Timed(Scheduler):
    """A scheduler that counts the time of the core in its calls."""

    spent_ns = 0

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        began_ns = time.thread_time_ns()
        actions = super().handle(events, now_ns)
        self.spent_ns += time.thread_time_ns() - began_ns
        return actions


def play_day(cell: DayCell) -> Result:
    """Play a cell: some minutes."""
    scenario = cell.day.scenario(cell.choice.policies(), fixed=cell.fixed)
    warm_up_ns = round(cell.day.seconds * SECOND * _WARM_UP)
    meter, upkeep = Meter(scenario, warm_up_ns), Upkeep()
    specs = [model.spec for model in scenario.models]
    scheduler = _Timed(specs, scenario.devices, scenario.policies, scenario.params)
    result = run(scenario, scheduler=scheduler, watch=upkeep.watch, observer=meter, keep=False)
    end_ns = result.last_arrival_ns
    found = figures(meter.records, (end_ns - warm_up_ns) / SECOND)
    return {
        **found,
        "replica_s": upkeep.up_ns(end_ns) / SECOND,
        "resizes": float(upkeep.resizes),
        "loads": float(upkeep.loads),
        "request_us": scheduler.spent_ns / US / max(len(meter.records), 1),
    }


def section(runner: KeptRuns[DayCell], day: Day) -> Iterator[str]:
    """The part, line by line."""
    yield _opening(day)
    cells = rows(day)
    found = runner.play(cells, "a day of a large fleet")
    static = found[cells[0]]["replica_s"]
    heads = [
        "scheduler",
        "good %",
        "good answers a second",
        "P95 TTFT of generation, s",
        "answered %",
        "device hours",
        "of static, %",
        "loads",
        "µs of the core a request",
    ]
    yield from table(heads, [_row(cell, found[cell], static) for cell in cells])


def _row(cell: DayCell, found: Result, static_s: float) -> list[str]:
    hours = found["replica_s"] / cell.day.seconds * 24
    return [
        cell.choice.name,
        f"{100 * found['attainment']:.1f}",
        f"{found['goodput_per_s']:.1f}",
        f"{found['ttft_p95_s.generation']:.2f}",
        f"{100 * found['answered']:.1f}",
        f"{hours:,.0f}",
        f"{100 * found['replica_s'] / static_s:.0f}",
        f"{found['loads']:,.0f}",
        f"{found['request_us']:.0f}",
    ]


def _opening(day: Day) -> str:
    return f"""\
## A coding day on {day.gpus:,} GPUs

{day.users:,} users ask {day.models} models of 33 billion parameters for completions, generations
and long steps of agents; a GPU holds one replica, {day.halls} halls of
{day.gpus // day.halls} GPUs have {day.models // day.halls} models each. The day is squeezed into
{day.seconds // 60} minutes, {day.seconds // 24} s for an hour, so that demand changes
{86_400 // day.seconds} times as fast as it does: loads (8 s) and all delays of the policies are as
they are, so that whoever scales has a harder time than on a real day. *Static* hands all GPUs out
by each model's share of the peak, which nobody knows beforehand. *Device hours* are those of the
day, from the beginning of each load. One seed, {day.rate_per_s:.0f} requests a second on average.
"""
