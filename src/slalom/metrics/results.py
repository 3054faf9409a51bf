"""What a scenario came to, in one form for the twin and for live servers.

Owns the flat table of named figures of a run, and the document that `--json` writes. A figure's
name says its unit; a task's or percentile's figure has it after a dot (`attainment.chat`,
`ttft_ms.p95`). Pure; filled by the twin and by `slalom bench run`, read by `slalom twin diff`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slalom.metrics.confidence import Estimate, estimate
from slalom.metrics.records import RequestRecord
from slalom.metrics.summaries import Spread, Summary, Tallies
from slalom.units import MS

#: Raised when a figure changes its meaning; readers refuse others.
RESULTS_VERSION = 1
_COUNTS = ("injected", "done", "good", "refused", "failed", "cancelled", "superseded")
#: Digits after the point, for equal text wherever the numbers are equal.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Usage:
    """What the hardware did. A live client cannot see it all: what it cannot see is absent."""

    loads: int
    #: Replicas that gave way to another model, asleep or for good; and those that fell asleep.
    evictions: int
    sleeps: int
    wakes: int
    #: Time replicas spent loading, and waking, summed, seconds.
    cold_start_s: float
    wake_s: float
    #: Share of the run during which a device had something to run, mean over devices.
    busy_share: float
    #: Output tokens of good answers among all that were written.
    useful_token_share: float
    #: Device time given to requests of which no whole answer came, or none that was still wanted,
    #: seconds. Requests that run side by side share their device's time evenly.
    wasted_device_s: float
    #: The same for whole answers that were not good.
    late_device_s: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """One policy (or one server) under one load."""

    policy: str
    seed: int
    total: Summary
    tasks: Mapping[str, Summary]
    usage: Usage | None = None
    #: Figures of other sources, such as the bound's.
    more: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policy: str,
        seed: int,
        records: Iterable[RequestRecord] | Tallies,
        duration_ns: int,
        *,
        usage: Usage | None = None,
        more: Mapping[str, float] | None = None,
    ) -> "RunResult":
        """Summarise a run whose arrivals span a duration."""
        counted = records if isinstance(records, Tallies) else Tallies(records)
        total, tasks = counted.total(duration_ns), counted.tasks(duration_ns)
        more = counted.chains.figures(duration_ns) | dict(more or {})
        return cls(policy, seed, total, tasks, usage, more)

    def figures(self) -> dict[str, float]:
        """Everything by name; what is not known is absent."""
        total = self.total
        shares = {task: row.attainment for task, row in self.tasks.items()}
        found: dict[str, float] = {
            "goodput_per_s": total.goodput_per_s,
            "attainment": total.attainment,
            "attainment_min": min(shares.values(), default=1.0),
            **{f"attainment.{task}": share for task, share in shares.items()},
        }
        for name, spread in (
            ("ttft_ms", total.ttft_ns),
            ("tpot_ms", total.tpot_ns),
            ("e2e_ms", total.e2e_ns),
        ):
            found.update(_percentiles(name, spread))
        for name in _COUNTS:
            found[name] = getattr(total, name)
        found["throughput_per_s"] = total.done / total.duration_s if total.duration_s else 0.0
        if self.usage is not None:
            found.update({name: getattr(self.usage, name) for name in Usage.__slots__})
        found.update(self.more)
        return {name: round(value, _DIGITS) for name, value in found.items()}


def _percentiles(name: str, spread: Spread | None) -> dict[str, float]:
    if spread is None:
        return {}
    return {f"{name}.{rank}": getattr(spread, rank) / MS for rank in ("p50", "p95", "p99")}


@dataclass(frozen=True, slots=True)
class Results:
    """All runs of one scenario."""

    scenario: str
    #: "twin", or the address that was asked.
    world: str
    #: Mean rate of arrivals, requests per second.
    rate_per_s: float
    runs: Sequence[RunResult]

    @property
    def policies(self) -> list[str]:
        """The policies, in the order of their first runs."""
        return list(dict.fromkeys(run.policy for run in self.runs))

    def estimates(self, policy: str) -> dict[str, Estimate]:
        """Each figure of a policy over its seeds; a figure some seed lacks is left out."""
        return estimates([run.figures() for run in self.runs if run.policy == policy])

    def document(self) -> dict[str, Any]:
        """The form of `--json`: equal results give equal text."""
        return {
            "slalom_results": RESULTS_VERSION,
            "scenario": self.scenario,
            "world": self.world,
            "rate_per_s": round(self.rate_per_s, _DIGITS),
            "policies": {
                policy: policy_document(
                    [(run.seed, run.figures()) for run in self.runs if run.policy == policy]
                )
                for policy in self.policies
            },
        }


def policy_document(runs: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Any]:
    """What one policy came to: estimates, and the figures of each (seed, figures)."""
    found = estimates([figures for _, figures in runs])
    return {
        "estimates": {
            name: {"mean": _rounded(one.mean), "margin": _rounded(one.margin)}
            for name, one in found.items()
        },
        "runs": [{"seed": seed, "figures": dict(figures)} for seed, figures in runs],
    }


def estimates(figures: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Each figure that all repetitions have, over them."""
    if not figures:
        return {}
    names = [name for name in figures[0] if all(name in other for other in figures)]
    return {name: estimate([one[name] for one in figures]) for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
