"""The page of the benchmark of `handle`: tables, growth, and what they were measured on.

Owns the arithmetic over measured costs and the words around it. Measures nothing. Called by
`bench.handle`.
"""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slalom.units import US


@dataclass(frozen=True, slots=True)
class Cell:
    """One steady state: what each call cost, ns."""

    state: str
    queue: int
    replicas: int
    #: Kind of event -> ns of each call that told one.
    costs_ns: dict[str, list[int]]

    @property
    def all_ns(self) -> list[int]:
        """Every call, cheapest first."""
        return sorted(cost for costs in self.costs_ns.values() for cost in costs)

    @property
    def typical_us(self) -> float:
        """The kinds' medians, weighted by their numbers: a mean that outliers do not move."""
        medians = [(quantile_us(sorted(c), 0.5), len(c)) for c in self.costs_ns.values()]
        return sum(median * count for median, count in medians) / sum(n for _, n in medians)


def quantile_us(costs_ns: Sequence[int], share: float) -> float:
    """Nearest-rank quantile of costs in order, µs."""
    return costs_ns[min(int(share * len(costs_ns)), len(costs_ns) - 1)] / US


def mean_us(costs_ns: Sequence[int]) -> float:
    """Mean, µs."""
    return sum(costs_ns) / len(costs_ns) / US


def growth_exponent(points: Sequence[tuple[int, float]]) -> float:
    """Slope of log cost over log size: 0 is constant, 1 is linear; least squares."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread


def render(cells: Sequence[Cell], command: str) -> str:
    """The whole page, as Markdown."""
    parts = [_opening(cells, command)]
    for state in dict.fromkeys(cell.state for cell in cells):
        chosen = [cell for cell in cells if cell.state == state]
        parts += [f"## {state}", _grid(chosen), _growth(chosen)]
        parts += ["By kind of event, in the largest of these:", _kinds(chosen[-1])]
    return "\n\n".join(parts) + "\n"


def _opening(cells: Sequence[Cell], command: str) -> str:
    worst = max(cells, key=lambda cell: quantile_us(cell.all_ns, 0.5))
    calls = [cost for cell in cells for cost in cell.all_ns]
    within = sum(cost <= 50 * US for cost in calls) / len(calls)
    return "\n".join(
        [
            "# The cost of one scheduling decision",
            "",
            "What one call of `Scheduler.handle` with one event costs: applying the event, the",
            "whole reconcile after it, and the actions it answers with. Live, several events",
            "share a call, so these are upper bounds. The aim is 50 µs, growing no faster than the",
            "logarithm of the queue.",
            "",
            f"Command: `{command}`",
            "",
            f"Machine: {machine()}; load average while it was measured: {os.getloadavg()[0]:.1f}.",
            "",
            f"Worst median of any state: {quantile_us(worst.all_ns, 0.5):.1f} µs, in",
            f"“{worst.state}” at queue {worst.queue:,} and {worst.replicas:,} replicas.",
            f"{within:.1%} of {len(calls):,} calls took 50 µs or less.",
        ]
    )


def _grid(cells: Sequence[Cell]) -> str:
    queues = list(dict.fromkeys(cell.queue for cell in cells))
    lines = [
        "µs for each event: median / mean / 99th percentile.",
        "",
        "| replicas | " + " | ".join(f"queue {queue:,}" for queue in queues) + " |",
        "|---:|" + "---:|" * len(queues),
    ]
    for replicas in dict.fromkeys(cell.replicas for cell in cells):
        row = [_figures(cell.all_ns) for cell in cells if cell.replicas == replicas]
        lines.append(f"| {replicas:,} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _figures(costs_ns: Sequence[int]) -> str:
    median, high = quantile_us(costs_ns, 0.5), quantile_us(costs_ns, 0.99)
    return f"{median:.1f} / {mean_us(costs_ns):.1f} / {high:.1f}"


def _growth(cells: Sequence[Cell]) -> str:
    """How the typical cost grows with each size, the other at its largest."""
    most_replicas = max(cell.replicas for cell in cells)
    longest = max(cell.queue for cell in cells)
    by_queue = [(c.queue, c.typical_us) for c in cells if c.replicas == most_replicas]
    by_replicas = [(c.replicas, c.typical_us) for c in cells if c.queue == longest]
    return (
        "Growth of the typical cost (the medians of the kinds, weighted by their numbers): "
        f"queue^{growth_exponent(by_queue):+.2f} at {most_replicas:,} "
        f"replicas, replicas^{growth_exponent(by_replicas):+.2f} at a queue of {longest:,} "
        "(0 is constant, 1 is linear)."
    )


def _kinds(cell: Cell) -> str:
    lines = ["| event | calls | median µs | mean µs | p99 µs |", "|---|---:|---:|---:|---:|"]
    for kind, costs in sorted(cell.costs_ns.items()):
        ordered = sorted(costs)
        median, high = quantile_us(ordered, 0.5), quantile_us(ordered, 0.99)
        lines.append(
            f"| {kind} | {len(ordered):,} | {median:.1f} | {mean_us(ordered):.1f} | {high:.1f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """What it ran on, without a name of the machine."""
    return (
        f"{_cpu_name()}, {os.cpu_count()} cores, {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
