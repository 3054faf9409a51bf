"""The page of the live comparison: figures by policy, memory against the budget, the twin beside.

Owns the arithmetic over repeats and the words. Measures nothing. Called by the command.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from slalom.bench.fidelity_cores import DISTURBED
from slalom.bench.residency_live.compare import Known, Run
from slalom.bench.residency_live.forecast import Told
from slalom.bench.residency_live.load import ROWS, Load
from slalom.bench.residency_live.setting import Setting
from slalom.metrics.confidence import Estimate, estimate
from slalom.units import MIB, MS

#: Resident memory may be so much of the budget.
ALLOWED = 1.05
#: Shares of good answers, and means of times by each other, less apart than this are a tie.
TIE = 0.05

_ABOUT = """Six models share memory for about half of them: two bundled ones and four of random
weights. The same scenario is played against `slalom serve` with llama.cpp, once for each policy of
the residency slot; everything else is the same, and nobody is refused. Each run has a server of its
own that begins with nothing loaded; another policy begins each repeat. Latencies count from the
scheduled arrival and are of whole answers. Good are whole answers within their task's target. ± is
a 95 % interval over the repeats, where there are enough of them."""
_TARGETS = """Targets are multiples of what a load takes here in the mean: a cold start breaks a
completion's target, and holds the longer answers' if it need not queue."""
_DISTURBED = """**Other programs took more than is good for that in some runs: read the figures
below as a rough guide and measure again on an idle machine.**"""
_TWIN = """The twin plays the very same arrivals through the same scheduler, with the step
times of each engine and the length of each load as a few requests, one at a time, found them before
the runs."""


class Row(Protocol):
    """A run, or what the twin says of one."""

    @property
    def policy(self) -> str:
        """Its name."""
        ...

    @property
    def figures(self) -> Mapping[str, float]:
        """By name."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of the setting."""

    command: str
    machine: str
    setting: Setting
    known: Known
    load: Load
    seconds: float
    warm_s: float
    repeats: int
    separate_cores: bool
    took_s: float


def overruns(runs: Sequence[Run], budget_bytes: int) -> list[Run]:
    """Runs whose engines took more than is allowed."""
    return [run for run in runs if run.peak.most_bytes > ALLOWED * budget_bytes]


def page(facts: Facts, runs: Sequence[Run], told: Sequence[Told]) -> str:
    """The report in Markdown."""
    lines = ["# Residency, live", "", _ABOUT, "", *_setting(facts, runs), "", "## Figures", ""]
    lines += [*_answers(runs), "", *_moves(facts, runs), "", "## Memory", "", *_memory(facts, runs)]
    lines += [
        "",
        "## The twin beside it",
        "",
        _TWIN,
        "",
        *_beside(told),
        "",
        *_rankings(runs, told),
    ]
    return "\n".join(lines) + "\n"


def _setting(facts: Facts, runs: Sequence[Run]) -> list[str]:
    setting, shares = facts.setting, [run.disturbed for run in runs]
    cores = (
        "the engines' threads on one core; server and load client on the other"
        if facts.separate_cores
        else "all programs on the same cores"
    )
    needed = sum(setting.needed.values())
    lines = [
        f"Command: `{facts.command}` ({facts.took_s / 60:.1f} minutes)",
        "",
        f"Machine: {facts.machine}; {cores}. Other programs took {statistics.median(shares):.1%}",
        f"of the processors in the median run, {max(shares):.1%} in the worst.",
        "",
        f"Budget: {setting.budget_bytes / MIB:.0f} MiB, {setting.budget_bytes / needed:.0%} of",
        f"what the models take together. {facts.load.rate_per_s:.2f} requests per second for",
        f"{facts.seconds:g} s, the first {facts.warm_s:g} s of which do not count;",
        f"{facts.repeats} repeats.",
    ]
    if max(shares) > DISTURBED:
        lines += ["", _DISTURBED]
    lines += [
        "",
        "| model | weights, MiB | booked, MiB | load, ms | asked for |",
        f"|---|{'---:|' * 3}---|",
    ]
    for name, size in setting.file_bytes.items():
        asked = "completion" if name in setting.quick else "generation"
        lines.append(
            f"| {name} | {size / MIB:.0f} | {setting.needed[name] / MIB:.0f} "
            f"| {facts.known.load_ns[name] / MS:.0f} | {asked} |"
        )
    lines += ["", _TARGETS, "", "| task | share | prompt, tokens | answer, tokens | TTFT ≤ |"]
    lines.append(f"|---|{'---:|' * 4}")
    weights = sum(row.weight for row in ROWS)
    lines += [
        f"| {row.task} | {row.weight / weights:.0%} | {row.prompt[0]}-{row.prompt[1]} "
        f"| {row.output[0]}-{row.output[1]} | {facts.load.tasks[row.task].ttft_ms:.0f} ms |"
        for row in ROWS
    ]
    return lines


def _answers(runs: Sequence[Run]) -> list[str]:
    heads = ["policy", "good", *(f"good, {row.task}" for row in ROWS)]
    heads += ["TTFT mean, s", "p95", "E2E mean, s", "p95", "whole", "of"]
    rows = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for policy in _policies(runs):
        cells = [shown(runs, policy, "attainment", 100, "%")]
        cells += [shown(runs, policy, f"attainment.{row.task}", 100, "%") for row in ROWS]
        cells += [
            shown(runs, policy, name) for name in ("ttft_s", "ttft_p95_s", "e2e_s", "e2e_p95_s")
        ]
        cells += [f"{sum(_values(runs, policy, name)):.0f}" for name in ("done", "requests")]
        rows.append(f"| {policy} | {' | '.join(cells)} |")
    return rows


def _moves(facts: Facts, runs: Sequence[Run]) -> list[str]:
    heads = ["policy", "evictions", "loads", "swapped, MiB", "loading, s", "TTFT by LRU's"]
    heads += ["E2E by LRU's", "evictions by LRU's"]
    rows = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for policy in _policies(runs):
        cells = [
            shown(runs, policy, name) for name in ("evictions", "loads", "swapped_mib", "cold_s")
        ]
        cells += [_change(runs, policy, name) for name in ("ttft_s", "e2e_s", "evictions")]
        rows.append(f"| {policy} | {' | '.join(cells)} |")
    return [
        *rows,
        "",
        f"Means of a run's figures over {facts.repeats} repeats; loads of weights only.",
    ]


def _change(runs: Sequence[Run], policy: str, name: str) -> str:
    """The mean of a figure by LRU's, as a change."""
    own, base = _values(runs, policy, name), _values(runs, "lru", name)
    if policy == "lru" or not base or not sum(base) or not own:
        return "-"
    return f"{statistics.fmean(own) / statistics.fmean(base) - 1:+.0%}"


def _memory(facts: Facts, runs: Sequence[Run]) -> list[str]:
    budget = facts.setting.budget_bytes
    over = overruns(runs, budget)
    verdict = (
        f"Never above the budget by more than {ALLOWED - 1:.0%}."
        if not over
        else f"**Above by more than {ALLOWED - 1:.0%} in {len(over)} of {len(runs)} runs.**"
    )
    lines = [
        "Resident memory of all engine processes together, looked at twenty times a second; pages",
        "that two of them share count twice.",
        "",
        "| policy | peak, MiB | of the budget | engines then |",
        "|---|---:|---:|---:|",
    ]
    for policy in _policies(runs):
        worst = max(
            (run.peak for run in runs if run.policy == policy), key=lambda one: one.most_bytes
        )
        lines.append(
            f"| {policy} | {worst.most_bytes / MIB:.0f} | {worst.most_bytes / budget:.1%} "
            f"| {worst.engines} |"
        )
    return [*lines, "", verdict]


def _beside(told: Sequence[Told]) -> list[str]:
    heads = ["policy, in the twin", "good", "TTFT mean, s", "E2E mean, s", "evictions", "loads"]
    rows = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for policy in _policies(told):
        cells = [shown(told, policy, "attainment", 100, "%")]
        cells += [shown(told, policy, name) for name in ("ttft_s", "e2e_s", "evictions", "loads")]
        rows.append(f"| {policy} | {' | '.join(cells)} |")
    return rows


def _rankings(runs: Sequence[Run], told: Sequence[Told]) -> list[str]:
    lines = []
    for title, name, sign in (("good answers", "attainment", -1), ("mean TTFT", "ttft_s", 1)):
        live, twin = means(runs, name), means(told, name)
        apart = TIE if name == "attainment" else TIE * statistics.fmean(live.values())
        verdict = "the same" if same_order(live, twin, apart) else "**another**"
        show = (lambda value: f"{value:.0%}") if name == "attainment" else _seconds
        lines += [
            f"By {title}:",
            "",
            f"- live: {_order(live, sign, show)}",
            f"- the twin: {_order(twin, sign, show)}",
            "",
            f"The order is {verdict}; less than {TIE:.0%} apart is a tie.",
            "",
        ]
    return lines[:-1]


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def means(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Policy -> the mean of a figure."""
    return {policy: statistics.fmean(_values(rows, policy, name)) for policy in _policies(rows)}


def same_order(live: Mapping[str, float], twin: Mapping[str, float], apart: float) -> bool:
    """Whether no two policies clearly apart live are the other way round in the twin."""
    for one, other in combinations([policy for policy in live if policy in twin], 2):
        difference = live[one] - live[other]
        if abs(difference) > apart and (twin[one] - twin[other]) * difference < 0:
            return False
    return True


def shown(rows: Sequence[Row], policy: str, name: str, factor: float = 1.0, unit: str = "") -> str:
    """A figure's mean over the repeats, with its interval where there is one."""
    values = _values(rows, policy, name)
    return _told(estimate(values), factor) + unit if values else "-"


def _told(one: Estimate, factor: float) -> str:
    mean = one.mean * factor
    digits = 0 if abs(mean) >= 100 else (1 if abs(mean) >= 10 else 2)
    margin = "" if one.margin is None else f" ± {one.margin * factor:.{digits}f}"
    return f"{mean:,.{digits}f}{margin}"


def _values(rows: Sequence[Row], policy: str, name: str) -> list[float]:
    return [row.figures[name] for row in rows if row.policy == policy and name in row.figures]


def _policies(rows: Sequence[Row]) -> list[str]:
    return sorted({row.policy for row in rows})


def _order(found: Mapping[str, float], sign: int, show: Callable[[float], str]) -> str:
    ranked = sorted(found.items(), key=lambda one: sign * one[1])
    return ", ".join(f"{policy} {show(value)}" for policy, value in ranked)
