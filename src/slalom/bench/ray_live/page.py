"""The page of the comparison with Ray Serve: tables by load, what each way costs, what it is.

Owns the words. Measures nothing. Called by the command.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.fidelity_cores import DISTURBED
from slalom.bench.live_tables import mean, paired, shown
from slalom.bench.ray_live.compare import ALONE, Run
from slalom.bench.ray_live.load import ALONE_OUTPUT, ALONE_PROMPT, LOADS
from slalom.bench.ray_live.setting import (
    ABOUT,
    DIRECT,
    LOCAL,
    MODEL_OF,
    ON_RAY,
    PLACES,
    RAY,
    RAY_FIXED,
    REPLICAS,
    SCALING,
    WAYS,
)
from slalom.bench.sla.tables import table
from slalom.bench.sla_live.loads import MIX
from slalom.workload.tasks import TaskSpec

_ABOUT = """Two models, at most four llama.cpp engines of one thread, two of each; completion,
generation, summarisation and translation at once. Who serves them differs, and nothing else: the
engine class, its options and the number of its processes are the same, and only one way is up at a
time. Another way begins each repeat. Latencies count from the scheduled arrival and are of whole
answers. Good are whole answers within all targets of their task; the rest (late, refused, failed)
is not. ± is a 95 % interval over the repeats. Lengths of answers are forced, and `max_tokens` is
the length. Clients open a connection for each request.

Engines run at a lower priority than all that serves them, as if they computed elsewhere: what
Ray or Slalom does never waits for a core that an engine holds, but does take of what is left for
engines. Slalom knows the step times that `slalom calibrate` left; Ray Serve has no use for them."""
_RAY_SERVE = """Ray Serve: a deployment for each model directly behind its HTTP proxy, at most
{places} requests under way on a replica (the engine's places; more wait in Ray Serve's router),
access logs off, `RAY_SERVE_THROUGHPUT_OPTIMIZED=1`, its processes at ordinary priority (by default
they give way to all others). The autoscaler has its default target of {target:g} requests for each
replica, and delays of {up:g} s up and {down:g} s down where 30 s and 600 s are the defaults."""
_ALONE = """Requests one at a time ({prompt} tokens in, {output} out), with the engine alone before
them: medians of each repeat. *Added* is against the engine directly, repeat by repeat; *memory* is
what only the processes that serve use, engines left out; *until it serves* includes the loading of
the engines that are there from the start."""
_DISTURBED = """**Other programs took more than is good for that in some runs: read the figures
below as a rough guide and measure again on an idle machine.**"""
_WHOLE = """P95s are of whole answers, so that *answered* belongs to them: whoever answers fewer has
an easier time. *Processor* is what serving took beside the engines, for each request, what Ray
itself does all the time included. Here the engines miss it: near the knee of so small a machine a
tenth of it decides between a queue that stays short and one that does not, which is most of what
lies between Slalom on Ray and Slalom. Where engines compute on GPUs it is a matter of cores."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of the setting."""

    command: str
    machine: str
    versions: str
    parameters: tuple[int, ...]
    tasks: Mapping[str, TaskSpec]
    #: Requests of the mix per second that the machine answers at most.
    most_per_s: float
    seconds: float
    repeats: int
    #: Ways that are not there, and why.
    left_out: Mapping[str, str]
    took_s: float


def page(facts: Facts, runs: Sequence[Run]) -> str:
    """The report in Markdown."""
    loads = [load for load in dict.fromkeys(run.load for run in runs) if load != ALONE]
    lines = ["# Ray Serve and Slalom, live", "", _ABOUT, "", *_setting(facts, runs)]
    lines += ["", "## Verdicts", "", *_verdicts(runs, loads)]
    for load in loads:
        own = [run for run in runs if run.load == load]
        shape = LOADS[load]
        lines += ["", f"## {shape.about.capitalize()}", ""]
        lines += [f"{shape.share * facts.most_per_s:.2f} requests per second.", ""]
        lines += [*_goodput(own), "", *_times(own, "ttft", "TTFT"), "", *_times(own, "e2e", "E2E")]
        lines += ["", *_fates(own)]
    lines += ["", _WHOLE, "", "## What serving adds", ""]
    lines += [_ALONE.format(prompt=ALONE_PROMPT, output=ALONE_OUTPUT), ""]
    lines += _added([run for run in runs if run.load == ALONE])
    return "\n".join(lines) + "\n"


def _setting(facts: Facts, runs: Sequence[Run]) -> list[str]:
    shares = [run.disturbed for run in runs]
    sizes = " and ".join(f"{count / 1e6:.0f}" for count in facts.parameters)
    ray = _RAY_SERVE.format(
        places=PLACES,
        target=SCALING["target_ongoing_requests"],
        up=SCALING["upscale_delay_s"],
        down=SCALING["downscale_delay_s"],
    )
    lines = [
        f"Command: `{facts.command}` ({facts.took_s / 60:.1f} minutes)",
        "",
        f"Machine: {facts.machine}; {facts.versions}. Other programs took",
        f"{statistics.median(shares):.1%} of the processors in the median run,",
        f"{max(shares):.1%} in the worst.",
        f"Models of {sizes} million random parameters (q8_0), {REPLICAS} replicas of each at most.",
        f"Four engines that are never idle answer {facts.most_per_s:.2f} requests of the mix per",
        "second, without any server before them; loads are shares of that.",
        f"{facts.repeats} repeats of {facts.seconds:g} s of arrivals.",
        "",
        *(f"- *{way}*: {ABOUT[way]}" for way in _ways(runs)),
        "",
        ray,
    ]
    lines += [f"{way} is left out: {reason}." for way, reason in facts.left_out.items()]
    if max(shares) > DISTURBED:
        lines += ["", _DISTURBED]
    return [*lines, "", *_mix(facts.tasks)]


def _mix(tasks: Mapping[str, TaskSpec]) -> list[str]:
    weights = sum(row.weight for row in MIX)
    rows = []
    for row in MIX:
        task = tasks[row.task]
        limits = (task.ttft_ms, task.tpot_ms, task.e2e_ms)
        rows.append([
            f"{row.task} ({MODEL_OF[row.task]})",
            f"{row.weight / weights:.0%}",
            f"{row.prompt[0]}-{row.prompt[1]}",
            f"{row.output[0]}-{row.output[1]}",
            *("" if limit is None else f"{limit:.0f} ms" for limit in limits),
        ])  # fmt: skip
    heads = ["task", "share", "prompt, tokens", "answer, tokens", "TTFT ≤", "per token ≤", "E2E ≤"]
    return list(table(heads, rows))


def _verdicts(runs: Sequence[Run], loads: Sequence[str]) -> list[str]:
    lines = []
    for load in loads:
        own = [run for run in runs if run.load == load]
        for way in (ON_RAY, LOCAL):
            for base in (RAY, RAY_FIXED):
                ratio = paired(own, way, base, "goodput_per_s", ratio=True)
                if ratio is not None:
                    lines.append(
                        f"- {LOADS[load].about}: good answers per second, {way} by {base}: "
                        f"× {shown(ratio)}."
                    )
    return lines or ["There is nothing to compare."]


def _goodput(runs: Sequence[Run]) -> list[str]:
    heads = ["way", "good/s", "good", *(row.task for row in MIX), "answered", "processor, ms"]
    rows = []
    for way in _ways(runs):
        cells = [mean(runs, way, "goodput_per_s"), mean(runs, way, "attainment", percent=True)]
        cells += [mean(runs, way, f"attainment.{row.task}", percent=True) for row in MIX]
        cells += [mean(runs, way, "answered", percent=True), mean(runs, way, "cpu_ms")]
        rows.append([way, *cells])
    return list(table(heads, rows))


def _times(runs: Sequence[Run], figure: str, name: str) -> list[str]:
    heads = [f"P95 of {name}, s", *(row.task for row in MIX)]
    rows = [
        [way, *(mean(runs, way, f"{figure}_p95_s.{row.task}") for row in MIX)]
        for way in _ways(runs)
    ]
    return list(table(heads, rows))


def _fates(runs: Sequence[Run]) -> list[str]:
    names = ("requests", "done", "refused", "failed")
    rows = []
    for way in _ways(runs):
        own = [run.figures() for run in runs if run.way == way]
        rows.append([way, *(f"{sum(one.get(name, 0.0) for one in own):.0f}" for name in names)])
    return list(table(["way", *names], rows))


def _added(runs: Sequence[Run]) -> list[str]:
    heads = ["way", "TTFT, ms", "added", "E2E, ms", "added", "processor, ms", "memory, MiB"]
    heads += ["processes", "until it serves, s"]
    rows = []
    for way in _ways(runs):
        cells = []
        for name in ("ttft_ms", "e2e_ms"):
            more = None if way == DIRECT else paired(runs, way, DIRECT, name)
            cells += [mean(runs, way, name), shown(more) if more else "-"]
        rest = ("cpu_ms", "memory_mib", "processes", "up_s")
        rows.append([way, *cells, *(mean(runs, way, name) for name in rest)])
    return list(table(heads, rows))


def _ways(runs: Sequence[Run]) -> list[str]:
    """In the order of the ways, whichever began."""
    present = {run.way for run in runs}
    return [way for way in (DIRECT, *WAYS) if way in present]
