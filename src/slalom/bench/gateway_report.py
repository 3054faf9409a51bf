"""The figures of the gateway benchmark, and the page made of them.

Owns medians, spreads, what is subtracted from what, and the words. Pure apart from describing
the machine. Called by `gateway`.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from slalom import __version__
from slalom.units import MS, SECOND

#: The ways: straight, Slalom as it is configured by default, Slalom that plans nothing, LiteLLM.
DIRECT, DEFAULT, OPEN, LITELLM_WAY = "direct", "slalom (default)", "slalom (open)", "litellm"
_INTRODUCTION = (
    "What a request pays for going through Slalom instead of straight to the engine, with "
    "scheduler, journal, metrics and log in the path; and the same through the LiteLLM proxy. "
    "`slalom (default)` is what `slalom serve` runs if nothing else is configured: "
    "`plan-and-trim`, which foresees what runs and what waits. `slalom (open)` admits in the order "
    "of deadlines and foresees nothing (`scheduler: {admission: {kind: open}}`). Made by:"
)
_LOADS = (
    "paced-N: N streams at a time, 20 ms to the first token, then 100 tokens/s, 100 tokens each "
    "(20 for N = 1). short-50: unpaced streams of 8 tokens, 50 at a time. bulk-8: unpaced streams "
    "of 20,000 tokens, 8 at a time (2,000 through LiteLLM, which would take minutes). engine-4: "
    "the bundled model slalom-mini in llama.cpp with one thread, 4 streams of 64 tokens at a time."
)
_TIMES = (
    "TTFT counts from the sending of the request to the first token at the client; for the stub's "
    "loads the time the stub itself took is subtracted (it writes it into the first token), so "
    "that its timers do not show. Streams/s and tokens/s of the paced loads are set by their pace "
    "unless a way cannot keep up."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one scenario over one way."""

    first_p50_ms: float
    first_p99_ms: float
    streams: int
    streams_per_s: float
    tokens_per_s: float
    #: Processor time over wall time, of the relay and of the load client.
    relay_cpu: float
    client_cpu: float
    errors: int

    @classmethod
    def of(cls, tally: Mapping[str, Any], *, tokens: int, relay_cpu_s: float) -> "Measured":
        """From the client's tally."""
        first_ns = sorted(tally["first_ns"])
        wall_s = max(tally["wall_ns"], 1) / SECOND
        streams = len(tally["whole_ns"])
        return cls(
            first_p50_ms=_quantile(first_ns, 0.50) / MS,
            first_p99_ms=_quantile(first_ns, 0.99) / MS,
            streams=streams,
            streams_per_s=streams / wall_s,
            tokens_per_s=streams * tokens / wall_s,
            relay_cpu=relay_cpu_s / wall_s,
            client_cpu=tally["cpu_ns"] / SECOND / wall_s,
            errors=tally["errors"],
        )

    def __str__(self) -> str:
        return (
            f"ttft {self.first_p50_ms:8.2f} / {self.first_p99_ms:8.2f} ms  "
            f"{self.streams_per_s:8.0f} streams/s  {self.tokens_per_s:10.0f} tokens/s  "
            f"cpu {self.relay_cpu:.2f} (client {self.client_cpu:.2f})  errors {self.errors}"
        )


@dataclass(slots=True)
class Results:
    """All runs."""

    cores_pinned: bool
    repeats: int
    runs: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)

    def add(self, scenario: str, way: str, measured: Measured) -> None:
        """Keep one run."""
        self.runs.setdefault((scenario, way), []).append(measured)

    def median(self, scenario: str, way: str, name: str) -> float:
        """The median of one figure."""
        return float(median(getattr(run, name) for run in self.runs[scenario, way]))

    def figures(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            f"{scenario}/{way}": [asdict(run) for run in runs]
            for (scenario, way), runs in self.runs.items()
        }

    def pairs(
        self, scenario: str, ways: tuple[str, str], figure: Callable[[Measured, Measured], float]
    ) -> list[float]:
        """One figure of two ways, round by round."""
        first, second = (self.runs.get((scenario, way), []) for way in ways)
        return [figure(a, b) for a, b in zip(first, second, strict=False)]


@dataclass(frozen=True, slots=True)
class _Aim:
    """A figure that issue and design ask for."""

    load: str
    text: str
    #: How it is made of a run of a way and one of another way.
    figure: Callable[[Measured, Measured], float]
    bound: str
    other: str = DIRECT
    digits: int = 0
    unit: str = ""


def _p50(way: Measured, direct: Measured) -> float:
    return way.first_p50_ms - direct.first_p50_ms


def _p99(way: Measured, direct: Measured) -> float:
    return way.first_p99_ms - direct.first_p99_ms


def _times(way: Measured, other: Measured) -> float:
    return way.streams_per_s / max(other.streams_per_s, 1e-9)


_AIMS = (
    _Aim("paced-50", "added TTFT p50", _p50, "≤ 0.8", digits=2, unit=" ms"),
    _Aim("paced-50", "added TTFT p99", _p99, "≤ 3", digits=2, unit=" ms"),
    _Aim("paced-200", "added TTFT p50", _p50, "≤ 1.5", digits=2, unit=" ms"),
    _Aim("paced-200", "added TTFT p99", _p99, "≤ 10", digits=2, unit=" ms"),
    _Aim("short-50", "requests/s on one core", lambda a, _: a.streams_per_s, "≥ 3,000"),
    _Aim("short-50", "times LiteLLM's", _times, "≥ 30", LITELLM_WAY),
    _Aim("bulk-8", "relayed tokens/s", lambda a, _: a.tokens_per_s, "≥ 400,000"),
)


def page(results: Results, command: str, *, note: str = "") -> str:
    """The page, in Markdown.

    Args:
        results: All runs.
        command: What was typed.
        note: A sentence about the circumstances.
    """
    return "\n".join(
        [
            "# The gateway's cost",
            "",
            _INTRODUCTION,
            "",
            "<!-- skip: takes minutes, and the machine to itself -->",
            "```console",
            command,
            "```",
            "",
            *_machine(results),
            *(["", note] if note else []),
            "",
            "## Every way",
            "",
            *_table(results),
            "",
            "## Added by the relay, against the aims",
            "",
            *_aims(results),
            "",
            *_notes(results),
            "",
        ]
    )


def _machine(results: Results) -> list[str]:
    pinned = (
        "The relay has one core to itself; upstream and load client share another."
        if results.cores_pinned
        else "Nothing is pinned to a core."
    )
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    versions = ", ".join(f"{name} {_version(name)}" for name in ("uvicorn", "uvloop", "httptools"))
    load = psutil.getloadavg()[0]
    return [
        (
            f"Machine: {_cpu_model()}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, "
            f"{platform.system()} {platform.release()}; Python {platform.python_version()}, "
            f"Slalom {__version__}, {versions}. {pinned} Load average at the end: {load:.1f}. "
            f"Medians of {results.repeats} rounds, in each of which every way takes its turn "
            "(LiteLLM in the first one); (least – greatest) in parentheses."
        ),
    ]


def _table(results: Results) -> list[str]:
    lines = [
        "| load | way | TTFT p50 ms | TTFT p99 ms | streams/s | tokens/s | CPU of the relay |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for scenario, way in results.runs:
        runs = results.runs[scenario, way]
        cells = [
            _spread([run.first_p50_ms for run in runs], 2),
            _spread([run.first_p99_ms for run in runs], 2),
            _spread([run.streams_per_s for run in runs], 0),
            _spread([run.tokens_per_s for run in runs], 0),
            f"{median(run.relay_cpu for run in runs):.2f}" if way != DIRECT else "",
        ]
        errors = sum(run.errors for run in runs)
        note = f" ({errors} errors)" if errors else ""
        lines.append(f"| {scenario} | {way}{note} | {' | '.join(cells)} |")
    return lines


def _aims(results: Results) -> list[str]:
    lines = [f"| figure | {DEFAULT} | {OPEN} | aim |", "|---|--:|--:|--:|"]
    for aim in _AIMS:
        cells = [results.pairs(aim.load, (way, aim.other), aim.figure) for way in (DEFAULT, OPEN)]
        if any(cells):
            shown = [_spread(cell, aim.digits) + aim.unit if cell else "" for cell in cells]
            row = (f"{aim.load}: {aim.text}", *shown, aim.bound + aim.unit)
            lines.append(f"| {' | '.join(row)} |")
    return lines


def _notes(results: Results) -> list[str]:
    busiest = max((run.client_cpu for runs in results.runs.values() for run in runs), default=0.0)
    lines = [
        _LOADS,
        "",
        _TIMES,
        "",
        f"The load client used at most {busiest:.0%} of a core"
        + (": it may have been the bottleneck." if busiest > 0.8 else ": not the bottleneck."),
    ]
    if not any(way == LITELLM_WAY for _, way in results.runs):
        lines += ["", "LiteLLM was not installed for this run (`make bench-setup`)."]
    else:
        lines += ["", f"LiteLLM {_bench_version()}, one worker, default settings."]
    return lines


def _bench_version() -> str:
    """LiteLLM's version, read from its own environment: it is never imported here."""
    for path in metadata.MetadataPathFinder.find_distributions(
        metadata.DistributionFinder.Context(name="litellm", path=_bench_paths())
    ):
        return path.version
    return "(version unknown)"


def _bench_paths() -> list[str]:
    return [str(path) for path in Path(".venv-bench").glob("lib/python*/site-packages")]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _cpu_model() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _quantile(ordered: list[int], share: float) -> float:
    if not ordered:
        return float("nan")
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def _spread(values: list[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} – {max(values):,.{digits}f})"
