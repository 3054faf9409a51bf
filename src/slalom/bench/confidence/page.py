"""The page: both halves, what they say and what they do not.

Owns the words and the live tables. Measures nothing. Called by the command.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.confidence.figures import Run
from slalom.bench.confidence.holes import AFTER_CHARS_MAX, BEFORE_CHARS_MAX
from slalom.bench.confidence.live import Measured
from slalom.bench.confidence.setting import (
    ALL_LARGE,
    ALL_SMALL,
    LARGE,
    SMALL,
    TOKENS_MAX,
    WAYS,
    Sizes,
)
from slalom.bench.confidence.twin_page import section
from slalom.bench.confidence.twin_sweep import Swept
from slalom.bench.fidelity_cores import DISTURBED
from slalom.bench.live_tables import mean, over, paired, shown
from slalom.bench.sla.tables import table
from slalom.units import MIB

_WIDTH = 98
_COSTS = (
    ("device_ms", "device, ms"),
    ("small_ms", "of it small"),
    ("large_ms", "of it large"),
    ("unused_ms", "of it for nothing"),
    ("cpu_ms", "processor, ms"),
)
_TIMES = (
    ("ttft_ms.p50", "TTFT p50, ms"),
    ("ttft_ms.p95", "p95"),
    ("e2e_ms.p50", "E2E p50, ms"),
    ("e2e_ms.p95", "p95"),
)
_WORTH = (
    ("by_small", "written by the small"),
    ("unsure", "unsure"),
    ("broken", "broken"),
    ("parses", "does not break the program"),
    ("agrees", "same as the large one's"),
    ("right", "same as the file's"),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of the setting."""

    command: str
    machine: str
    sizes: Sizes
    separate_cores: bool
    took_s: float


def page(facts: Facts, live: Measured, twin: Swept) -> str:
    """The report in Markdown."""
    lines = [
        _OPENING,
        "",
        f"Command: `{facts.command}` ({facts.took_s / 60:.1f} minutes)",
        "",
        "## Live",
        "",
        *_setting(facts, live),
        "",
        *_verdicts(live.runs),
        "",
        "### Device time",
        "",
        *_table(live.runs, _COSTS, ratio="device_ms"),
        "",
        _DEVICE,
        "",
        "### Latency",
        "",
        *_table(live.runs, _TIMES),
        "",
        "### Who answers, and what it is worth",
        "",
        *_table(live.runs, _WORTH, percent=True),
        "",
        _QUALITY,
        "",
        *section(twin, facts.sizes),
        "",
        _READING,
    ]
    return "\n".join(lines) + "\n"


def _setting(facts: Facts, live: Measured) -> Iterator[str]:
    sizes = facts.sizes
    cores = (
        "engines on one core, all else on the other"
        if facts.separate_cores
        else "all programs on the same cores"
    )
    yield from textwrap.wrap(
        f"Machine: {facts.machine}; {cores}. Other programs took {live.disturbed:.1%} of the "
        "processors. One Slalom server with two llama.cpp engines of one thread each: "
        f"*small* is the bundled `slalom-mini` ({_size(live.file_bytes, SMALL)}), *large* is "
        f"`slalom-small` with {sizes.times} layers for each of its own "
        f"({_size(live.file_bytes, LARGE)}): the added ones are computed and add nothing, so that "
        "it answers like a trained model and costs like a larger one. Here a completion of the "
        f"large one takes {_times(live.runs)} times the device time of one of the small one's.",
        _WIDTH,
    )
    yield ""
    yield from textwrap.wrap(
        f"{sizes.repeats} repeats of {sizes.completions} holes: the rest of a line, cut at a "
        f"random place, with up to {BEFORE_CHARS_MAX} characters before and {AFTER_CHARS_MAX} "
        "behind it. Half of the holes are in Slalom's own sources, half in the standard library, "
        "on which the models were trained. Every hole is completed in every way, one request at a "
        "time, another way first each time; nothing that was read before is found again. The "
        f"likeliest token is taken, up to the end of the line or {TOKENS_MAX} tokens. ± is a 95 % "
        "interval over the repeats; what stands beside another way is paired by repeat.",
        _WIDTH,
    )
    if live.disturbed > DISTURBED:
        yield ""
        yield _DISTURBED


def _size(file_bytes: Mapping[str, int], name: str) -> str:
    return f"{file_bytes[name] / MIB:.1f} MiB"


def _times(runs: Sequence[Run]) -> str:
    found = paired(runs, ALL_LARGE.name, ALL_SMALL.name, "device_ms", ratio=True)
    return shown(found) if found is not None else "-"


def _verdicts(runs: Sequence[Run]) -> Iterator[str]:
    """One line for each way: what it saves, and what it changes."""
    for way in WAYS[2:]:
        ratio = paired(runs, way.name, ALL_LARGE.name, "device_ms", ratio=True)
        if ratio is None:
            continue
        agrees = over([run.named["agrees"] for run in runs if run.way == way.name], 100)
        yield (
            f"- {way.name}: device time × {shown(ratio)}, the large model's very answer in "
            f"{agrees} %"
        )


def _table(
    runs: Sequence[Run],
    columns: Sequence[tuple[str, str]],
    *,
    percent: bool = False,
    ratio: str = "",
) -> Iterator[str]:
    heads = ["way", *(head for _, head in columns), *(["by all to the large"] if ratio else [])]
    rows = []
    for way in WAYS:
        cells = [mean(runs, way.name, name, percent=percent) for name, _ in columns]
        if ratio:
            found = paired(runs, way.name, ALL_LARGE.name, ratio, ratio=True)
            cells.append(f"× {shown(found)}" if found is not None else "-")
        rows.append([way.name, *cells])
    yield from table(heads, rows)


_OPENING = """\
# Confidence

What an alias of kind `confident` saves and costs: a small model writes completions, and a large one
where the first three tokens were not likely enough to the small one, or where its text breaks the
program around it. Live on two models on this machine; in the twin over shares of doubt and ratios
of cost. How to use it: [a small model first](../how-to/typing.md\
#a-small-model-first-a-large-one-where-it-is-not-sure)."""
_DEVICE = """\
*Device* is the time from a request's dispatch to an engine to the end of the attempt, by the
scheduler's journal, per completion; *for nothing* is that of attempts whose text no client got;
*processor* is what the engines' processes took by the system's count, what an abandoned attempt
still computes included."""
_QUALITY = """\
*Unsure* and *broken* are what the gates said. *Does not break the program* is judged by the same
parser as the second gate for every way, and counts what cannot be told as fine. *Same as the large
one's* is a proxy: where the small model says something else, it may be as good. *Same as the
file's* is what a person had written there; both models are tiny, and rarely find it."""
_DISTURBED = """**Other programs took more than is good for that: read the figures as a rough guide
and measure again on an idle machine.**"""

#: In words, without numbers: to be read again after each run of the benchmark.
_READING = """\
## What this says, and what it does not

- It pays as long as few answers are doubted, and the threshold decides how many are. The default is
  made for models that are surer of themselves: here it doubts every answer of the small one, and
  costs more than to ask the large one at once. Look at your own models' share before you choose.
- An answer that is doubted at its first tokens has cost the reading of its prompt, and that is most
  of such a completion: the first gate stops early, and saves little by that. Not streamed, it stops
  nothing at all.
- Syntax finds fault with the large model's answers here nearly as often as with the small one's: to
  ask again then costs, and mends little.
- Nothing on quality: models of this size hardly ever write what stands in the file, nor the small
  one what the large one writes. *Same as the large one's* is therefore little else than the share
  that the large one wrote.
- In the twin, where little else is going on, it saves device time up to about the share that
  arithmetic gives, and beyond it where doubts come at the first tokens. At the knee it saves at
  every share, for another reason: the large model takes over only where it is on time and nobody
  waits for it, so that many doubted answers are kept. They count as good where they are in time;
  whether they are good code, no figure here says.
- With a small model that is not much cheaper, and most answers doubted at their end, the alias has
  fewer good answers at the knee than the large model alone: both take turns on one GPU.
- Answers of real models differ in length from each other's, and doubts come together; the twin
  draws one length for both, and each doubt by itself."""
