"""The page of the live comparison: tables by load, the twin's ranking beside the live one, typing.

Owns the verdicts, the rankings and the words; the arithmetic over repeats is `live_tables`'.
Measures nothing. Called by the command.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from slalom.bench.fidelity_cores import DISTURBED
from slalom.bench.fidelity_report import GOODPUT_AIM
from slalom.bench.live_tables import mean, over, paired, shown
from slalom.bench.sla_live.compare import Run
from slalom.bench.sla_live.keystrokes import Typing
from slalom.bench.sla_live.loads import LOADS, MIX
from slalom.bench.sla_live.setting import BY_LITELLM, DIRECT, FCFS, POLICIES
from slalom.workload.tasks import TaskSpec

_ABOUT = """One llama.cpp engine with a bundled model, reached in five ways over real HTTP, under
the same requests: straight, by the LiteLLM proxy, and by `slalom serve` under three policies. Every
way has its own engine process with the same options and is up the whole time; only one is asked at
a time, and another begins each round. Latencies count from the scheduled arrival and are of whole
answers. Good are whole answers within all targets of their task; the rest (late, refused, failed)
is not. ± is a 95 % interval over the repeats. Clients open a connection for each request, because
llama.cpp's server drops it after each stream.

Lengths of answers are forced, and `max_tokens` is the length: every scheduler knows from it how
long an answer will be. All Slalom servers have the profile that `slalom calibrate` left."""
_DISTURBED = """**Other programs took more than is good for that in some runs: read the figures
below as a rough guide and measure again on an idle machine.**"""
_TYPING = """A typist's editor asks anew at each keystroke and never cancels: the answer to the
request before is read to its end, but nobody looks at it. `x-slalom-session` and
`x-slalom-document` name what is typed in. Arrivals would fill nine tenths of the engine if every
request were answered. Device time is by the journal, with requests that run side by side sharing
their device evenly; "stale" is what requests took of which nobody read the answer, "after" the part
of that after the newer request had come. The engine's own time is its process's processor time."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of the setting."""

    command: str
    model: str
    calibration: Mapping[str, Any]
    tasks: Mapping[str, TaskSpec]
    saturated_per_s: float
    seconds: float
    repeats: int
    separate_cores: bool
    #: Why LiteLLM is not there; empty if it is.
    left_out: str = ""
    took_s: float = 0.0


def page(facts: Facts, runs: Sequence[Run], typists: Sequence[Typing]) -> str:
    """The report in Markdown."""
    loads = list(dict.fromkeys(run.load for run in runs))
    lines = ["# Service levels, live", "", _ABOUT, "", *_setting(facts, runs, typists)]
    lines += ["", "## Verdicts", "", *_verdicts(runs, loads)]
    for load in loads:
        own = [run for run in runs if run.load == load]
        rate = LOADS[load] * facts.saturated_per_s
        lines += ["", f"## {load.capitalize()}: {LOADS[load]:.0%} of the engine's throughput", ""]
        lines += [f"{rate:.1f} requests per second.", "", *_goodput(own), "", *_times(own)]
        lines += ["", *_fates(own), "", *_ranking(own)]
    lines += ["", "## A client that types and never cancels", "", _TYPING, "", *_typing(typists)]
    return "\n".join(lines) + "\n"


def _setting(facts: Facts, runs: Sequence[Run], typists: Sequence[Typing]) -> list[str]:
    key = facts.calibration["key"]
    cores = (
        "the engines' threads on one core; servers, proxy and load client on the other"
        if facts.separate_cores
        else "all programs on the same cores"
    )
    shares = [run.disturbed for run in runs] + [one.disturbed for one in typists]
    lines = [
        f"Command: `{facts.command}` ({facts.took_s / 60:.1f} minutes)",
        "",
        f"Machine: {key['device']}; {key['engine']}; {facts.model}; {cores}.",
        f"Other programs took {statistics.median(shares):.1%} of the processors in the median run,",
        f"{max(shares):.1%} in the worst.",
        f"The engine directly answers {facts.saturated_per_s:.1f} requests of the mix per second",
        "when there are always more than it has places; loads are shares of that.",
        f"{facts.repeats} repeats of {facts.seconds:g} s of arrivals.",
    ]
    if facts.left_out:
        lines += [f"LiteLLM is left out: {facts.left_out}."]
    if max(shares) > DISTURBED:
        lines += ["", _DISTURBED]
    return [*lines, "", *_mix(facts.tasks)]


def _mix(tasks: Mapping[str, TaskSpec]) -> list[str]:
    rows = ["| task | share | prompt, tokens | answer, tokens | TTFT ≤ | per token ≤ | E2E ≤ |"]
    rows.append(f"|---|{'---:|' * 6}")
    weights = sum(row.weight for row in MIX)
    for row in MIX:
        task = tasks[row.task]
        limits = (task.ttft_ms, task.tpot_ms, task.e2e_ms)
        told = " | ".join("" if limit is None else f"{limit:.0f} ms" for limit in limits)
        rows.append(
            f"| {row.task} | {row.weight / weights:.0%} | {row.prompt[0]}-{row.prompt[1]} "
            f"| {row.output[0]}-{row.output[1]} | {told} |"
        )
    return rows


def _verdicts(runs: Sequence[Run], loads: Sequence[str]) -> list[str]:
    lines = []
    for load in loads:
        own = [run for run in runs if run.load == load]
        best = ranking(own, lambda run: run.result.total.attainment)[0]
        lines.append(f"- {load}: most good answers: {best[0]} ({best[1]:.1%}).")
    if "light" in loads:
        light = [run for run in runs if run.load == "light"]
        lines += [
            f"- light, {way} beside {FCFS}: {_beside(light, way)}"
            for way in _ways(light)
            if way not in (FCFS, DIRECT)
        ]
    return lines


def _beside(runs: Sequence[Run], way: str) -> str:
    """Whether a way is worse than passing through where there is nothing to decide."""
    points = paired(runs, way, FCFS, "attainment")
    times = paired(runs, way, FCFS, "e2e_ms.p50", ratio=True)
    if points is None or times is None:
        return "no whole answer to compare."
    # Of a single pair nothing is known: then what counts as a tie elsewhere does here.
    low = points.mean - GOODPUT_AIM if points.low is None else points.low
    high = points.mean + GOODPUT_AIM if points.high is None else points.high
    said = "worse" if high < 0 else ("better" if low > 0 else "no clear difference")
    return f"{said} ({shown(points, 100)} points of good answers, E2E p50 × {shown(times)})."


def _goodput(runs: Sequence[Run]) -> list[str]:
    tasks = [row.task for row in MIX]
    head = ["way", "good/s", "× directly", "good", *tasks, "good by the twin"]
    rows = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for way in _ways(runs):
        cells = [mean(runs, way, "goodput_per_s")]
        ratio = paired(runs, way, DIRECT, "goodput_per_s", ratio=True)
        cells += [shown(ratio) if ratio else "-", mean(runs, way, "attainment", percent=True)]
        cells += [mean(runs, way, f"attainment.{task}", percent=True) for task in tasks]
        told = [run.told.total.attainment for run in runs if run.way == way and run.told]
        cells.append(f"{statistics.fmean(told):.1%}" if told else "-")
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return rows


def _times(runs: Sequence[Run]) -> list[str]:
    names = ("ttft_ms.p50", "ttft_ms.p95", "e2e_ms.p50", "e2e_ms.p95")
    rows = ["| way | TTFT p50, ms | p95 | E2E p50, ms | p95 |", f"|---|{'---:|' * 4}"]
    rows += [
        f"| {way} | {' | '.join(mean(runs, way, name) for name in names)} |" for way in _ways(runs)
    ]
    return rows


def _fates(runs: Sequence[Run]) -> list[str]:
    names = ("injected", "done", "good", "refused", "failed")
    rows = [f"| way | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for way in _ways(runs):
        totals = [run.result.total for run in runs if run.way == way]
        cells = [str(sum(getattr(total, name) for total in totals)) for name in names]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return rows


def _ranking(runs: Sequence[Run]) -> list[str]:
    live = ranking(runs, lambda run: run.result.total.attainment)
    told = ranking(runs, lambda run: run.told.total.attainment if run.told else None)
    if not told:
        return ["The twin was not asked."]
    verdict = "the same" if same_order(dict(live), dict(told)) else "**another**"
    return [
        f"- Live: {_order(live)}",
        f"- The twin's: {_order(told)}",
        "",
        f"By the twin the ranking is {verdict}; less than {GOODPUT_AIM:.0%} apart is a tie.",
    ]


def ranking(runs: Sequence[Run], figure: Callable[[Run], float | None]) -> list[tuple[str, float]]:
    """(Way, mean figure), the largest first; ways without the figure are left out."""
    found = []
    for way in _ways(runs):
        values = [value for run in runs if run.way == way and (value := figure(run)) is not None]
        if values:
            found.append((way, statistics.fmean(values)))
    return sorted(found, key=lambda one: -one[1])


def same_order(live: Mapping[str, float], told: Mapping[str, float]) -> bool:
    """Whether no two ways that clearly differ live are the other way round in the twin."""
    for one, other in combinations([way for way in live if way in told], 2):
        apart = live[one] - live[other]
        if abs(apart) > GOODPUT_AIM and (told[one] - told[other]) * apart < 0:
            return False
    return True


def _typing(typists: Sequence[Typing]) -> list[str]:
    columns = ["requests", "stale ones", "device, s", "stale, s", "after, s", "after, share"]
    columns += ["engine's own, s", "good", "E2E p95, ms"]
    rows = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for way in dict.fromkeys(run.way for run in typists):
        own = [run for run in typists if run.way == way]
        books = [run.spent for run in own if run.spent]
        all_s, after_s = sum(one.all_s for one in books), sum(one.after_s for one in books)
        late = [run.result.figures().get("e2e_ms.p95") for run in own]
        cells = [
            str(sum(run.sent for run in own)),
            str(sum(run.stale for run in own)),
            over([one.all_s for one in books]),
            over([one.stale_s for one in books]),
            over([one.after_s for one in books]),
            f"{after_s / all_s:.0%}" if all_s else "-",
            over([run.engine_s for run in own]),
            over([run.result.total.attainment for run in own], 100) + "%",
            over([ms for ms in late if ms is not None]),
        ]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return [*rows, "", "Times are a run's, the mean over its repeats; requests are of all of them."]


def _ways(runs: Sequence[Run]) -> list[str]:
    """In the order of the ways, whichever began."""
    return sorted({run.way for run in runs}, key=_place)


def _place(way: str) -> tuple[int, str]:
    known = (DIRECT, BY_LITELLM, *POLICIES)
    return (known.index(way) if way in known else len(known), way)


def _order(ranked: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{way} {value:.0%}" for way, value in ranked)
