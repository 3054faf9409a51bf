"""The twin's part of the page: break-even shares, a table for the middle ratio, the figure.

Owns these words and the drawing. Results are `twin_sweep`'s. Called by the page and the command.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from slalom.bench.confidence.setting import Sizes
from slalom.bench.confidence.twin_cells import FIRST, WHOLE
from slalom.bench.confidence.twin_sweep import KNEE, LIGHT, RATES, Point, Swept, break_even
from slalom.bench.sla.tables import cell, percent, table
from slalom.metrics.confidence import estimate
from slalom.twin.plots import pyplot, save

#: Name of the figure, beside the page.
FIGURE = "confidence-twin.svg"
_RATES = {LIGHT: "a tenth of the knee", KNEE: "at the knee"}
_WIDTH = 98


def section(found: Swept, sizes: Sizes) -> Iterator[str]:
    """The part, line by line."""
    yield "## In the twin"
    yield ""
    yield from textwrap.wrap(_SETTING.format(requests=sizes.requests, seeds=sizes.seeds), _WIDTH)
    yield ""
    yield f"![Device time, good answers and P95 by share of doubt]({FIGURE})"
    yield ""
    yield "### The share of doubt up to which it saves device time, %"
    yield ""
    yield from _break_evens(found, sizes)
    yield ""
    yield _BREAK_EVEN
    for rate, said in _RATES.items():
        alone = found.alone[rate]
        good = estimate([row["good"] for row in alone])
        device = estimate([row["device_s"] for row in alone])
        late = estimate([row["e2e_p95_ms"] for row in alone])
        yield ""
        yield f"### {said[0].upper()}{said[1:]}"
        yield ""
        yield from textwrap.wrap(
            f"The large model alone: {cell(device, digits=3)} device seconds a completion, "
            f"{cell(good, 100)} % good, P95 of whole answers {cell(late, digits=0)} ms.",
            _WIDTH,
        )
        yield ""
        yield from _table(found, sizes, rate)


def _break_evens(found: Swept, sizes: Sizes) -> Iterator[str]:
    heads = ["the large one costs", "by arithmetic"]
    heads += [f"doubted at the {when}, {_RATES[rate]}" for rate in RATES for when in (FIRST, WHOLE)]
    rows = []
    for ratio in sizes.ratios:
        cells = [percent(1 - 1 / ratio, 0)]
        for rate in RATES:
            for when in (FIRST, WHOLE):
                share = break_even(found.curve(rate, ratio, when))
                cells.append("all" if share is None else percent(share, 0))
        rows.append([f"× {ratio:g}", *cells])
    yield from table(heads, rows)


def _table(found: Swept, sizes: Sizes, rate: float) -> Iterator[str]:
    heads = ["the large one costs", "doubted, %"]
    for when in (FIRST, WHOLE):
        heads += [f"{when}: device time", "good, %", "P95, ms", "kept, %"]
    rows = []
    for ratio in sizes.ratios:
        curves = [found.curve(rate, ratio, when) for when in (FIRST, WHOLE)]
        for points in zip(*curves, strict=True):
            cells = [one for point in points for one in _cells(point)]
            rows.append([f"× {ratio:g}", percent(points[0].share, 0), *cells])
    yield from table(heads, rows)


def _cells(point: Point) -> tuple[str, ...]:
    good = estimate([row["good"] for row in point.results])
    return (
        f"× {cell(point.by_alone('device_s'), digits=2)}",
        cell(good, 100),
        f"{point.mean('e2e_p95_ms'):.0f}",
        percent(point.mean("kept"), 0),
    )


def draw(found: Swept, sizes: Sizes, folder: Path) -> Path:
    """Device time, good answers and P95 over the share of doubt; a row for each rate.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    plt = pyplot()
    figure, grid = plt.subplots(
        len(RATES), 3, squeeze=False, sharex=True, figsize=(11, 6), layout="constrained"
    )
    for row, rate in zip(grid, RATES, strict=True):
        alone = {
            name: estimate([one[name] for one in found.alone[rate]]).mean
            for name in ("good", "e2e_p95_ms")
        }
        for axes, base in zip(row, (1.0, 100 * alone["good"], alone["e2e_p95_ms"]), strict=True):
            axes.axhline(base, color="0.6", linestyle=":", label="the large model alone")
        for number, ratio in enumerate(sizes.ratios):
            for when, style in ((FIRST, "-"), (WHOLE, "--")):
                points = found.curve(rate, ratio, when)
                shares = [100 * point.share for point in points]
                look = {"color": f"C{number}", "linestyle": style, "marker": "."}
                label = f"× {ratio:g}, doubted at the {when}"
                row[0].plot(shares, [one.by_alone("device_s").mean for one in points], **look)
                row[1].plot(shares, [100 * one.mean("good") for one in points], label=label, **look)
                row[2].plot(shares, [one.mean("e2e_p95_ms") for one in points], **look)
        row[0].set(ylabel=f"device time by the large alone\n({_RATES[rate]})", ylim=(0, None))
        row[1].set(ylabel="good answers, %")
        row[2].set(ylabel="P95 of whole answers, ms", ylim=(0, None))
    for axes in grid[-1]:
        axes.set_xlabel("answers doubted, %")
    lines, labels = grid[0][1].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, fontsize="small")
    return save(plt, figure, folder / FIGURE)


_SETTING = """\
`scenarios/confident.yaml`: completions of some 700 tokens of prompt and 24 of answer, which are
good within 2.5 s, on one H100 that holds both models; engines that are busy at the same time take
turns. The large model is one of 32 billion parameters; the small one has its step times divided by
the ratio. A share of the small model's answers is doubted, either at the first tokens (the first
gate alone: answers flow from the third token on) or at their end (the second: answers come as a
whole). {requests} requests, {seeds} seeds, the default policies; *the knee* is the rate at which
the large model alone has nine tenths of the good answers that it has on an idle machine. Multiples
are paired by seed. *Kept* are doubted answers that clients got because the large model
would have been late, or because others waited for it."""
_BREAK_EVEN = """\
*By arithmetic*: with a small model that costs 1/r of the large one for each completion, and a share
d that both answer, 1/r + d < 1. Doubts at the first tokens cost less, because the small model stops
there. *All*: it saves at every share, at the knee because many doubted answers are then kept."""
