"""The demo's result for people: what was done, one table of both contenders, how to read on.

Owns the layout, within 100 columns. The figures are `demo_result`'s.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from slalom.bench.demo_result import DemoResult, Outcome
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.summaries import Spread, Summary
from slalom.units import SECOND
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec

WIDTH = 100
_COLUMNS = (
    "\nsent",
    "TTFT\np50",
    "s\np95",
    "E2E\np50",
    "s\np95",
    "on\ntime",
    "good\n/s",
    "\nshed",
    "\nfailed",
)


def print_report(
    result: DemoResult,
    contenders: Sequence[str],
    tasks: Sequence[str],
    console: Console | None = None,
) -> None:
    """Print everything on standard output."""
    out = console or Console(highlight=False, width=WIDTH)
    outcomes = {name: result.outcome(name, tasks) for name in contenders}
    out.print()
    for topic, sentence in result.setting.items():
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(min_width=12, style="bold")
        grid.add_column(overflow="fold")
        grid.add_row(topic, sentence)
        out.print(grid)
    out.print()
    out.print(_table(outcomes, tasks))
    out.print()
    for line in _remarks(result, outcomes):
        out.print(line, soft_wrap=True)


def _table(outcomes: dict[str, Outcome], tasks: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("\ntask", no_wrap=True)
    table.add_column("\npolicies", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for task in tasks:
        labels = [task, f"  {_targets(DEFAULT_TASKS[task])}"]
        _add(table, labels, {name: row.tasks.get(task) for name, row in outcomes.items()})
    _add(table, ["all", ""], {name: row.total for name, row in outcomes.items()})
    return table


def _add(table: Table, labels: list[str], rows: dict[str, Summary | None]) -> None:
    for label, (name, row) in zip(labels, rows.items(), strict=False):
        if row is None:
            table.add_row(label, name, "0")
            continue
        table.add_row(
            label,
            name,
            str(row.injected),
            *_pair(row.ttft_ns),
            *_pair(row.e2e_ns),
            f"{row.attainment:.0%}",
            f"{row.goodput_per_s:.2f}",
            str(row.refused),
            str(row.failed),
        )
    table.add_section()


def _pair(spread: Spread | None) -> tuple[str, str]:
    return ("–", "–") if spread is None else (_time(spread.p50), _time(spread.p95))


def _time(ns: float) -> str:
    """Seconds with three digits or so."""
    seconds = ns / SECOND
    return (
        f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"
    )


def _targets(task: TaskSpec) -> str:
    """A task's targets, short: ``TTFT 0.2 s, E2E 0.5 s``."""
    parts = []
    if task.ttft_ms is not None:
        parts.append(f"TTFT {task.ttft_ms / 1000:g} s")
    if task.e2e_ms is not None:
        more = "+" if task.e2e_ms_per_prompt_token else ""
        parts.append(f"E2E {task.e2e_ms / 1000:g}{more} s")
    if task.tpot_ms is not None:
        parts.append(f"TPOT {task.tpot_ms:g} ms")
    return ", ".join(parts)


def _remarks(result: DemoResult, outcomes: dict[str, Outcome]) -> list[str]:
    lines = []
    for name, row in outcomes.items():
        repeats = ""
        if len(row.goodput_per_s) > 1:
            shown = ", ".join(f"{value:.2f}" for value in row.goodput_per_s)
            repeats = f"; good/s by repeat: {shown}"
        lines.append(
            f"{name}: {row.residency.loads} loads, {row.residency.evictions} evictions{repeats}"
        )
    lines.append(_verdict(outcomes))
    lag = result.send_lag_ms()
    if lag is not None:
        lines.append(f"Load client: sent {lag.p50:.1f} ms late (p50), {lag.p99:.1f} ms (p99).")
    lines += [
        "",
        "Times count from the scheduled arrival, of whole answers only; on time: every target of",
        "the task held, in per cent of all sent. Shed and failed requests are misses.",
    ]
    return lines + _stories(result)


def _verdict(outcomes: dict[str, Outcome]) -> str:
    (first, base), (second, other) = list(outcomes.items())[:2]
    before, after = base.total.goodput_per_s, other.total.goodput_per_s
    if not before or not after:
        return f"Answers on time per second: {first} {before:.2f}, {second} {after:.2f}."
    ratio = after / before
    word = f"{ratio:.2f} times" if ratio >= 1 else f"only {ratio:.2f} times"
    return f"{second} gave {word} as many answers on time as {first} on the same load."


def _stories(result: DemoResult) -> list[str]:
    """Where the stories of single requests are, with one worth reading from each contender."""
    lines = ["", "Why one request was late or refused:"]
    for run in result.runs[:2]:
        found = _worth_reading(run.records)
        if found is not None:
            folder = f"{result.folder}/{run.contender}-{run.repeat}/journal"
            lines.append(f"  slalom explain {found.request_id} --journal {folder}")
    return lines


def _worth_reading(records: Sequence[RequestRecord]) -> RequestRecord | None:
    """A refused request, else the one that was late by most."""
    refused = [record for record in records if record.fate is Fate.REFUSED]
    late = sorted((r for r in records if not r.good), key=lambda record: record.e2e_ns)
    return next(iter(refused or late[-1:]), None)
