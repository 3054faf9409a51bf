"""Figures of the page, drawn from the parts' data.

Owns the drawing, with matplotlib, an extra of the package. Called by the command where a page is
written; the page's sections name the files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slalom.bench.sla.cells import BIN_S
from slalom.twin.plots import pyplot, save

Document = Mapping[str, Any]


def draw(part: str, document: Document, folder: Path) -> list[Path]:
    """The figures of a part; none where there is nothing to draw.

    Args:
        part: Its name.
        document: Its data.
        folder: Where the files go.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    drawing = _DRAWINGS.get(part)
    return list(drawing(document, folder)) if drawing and document else []


def _saber(document: Document, folder: Path) -> Iterator[Path]:
    plt = pyplot()
    figure, all_axes = plt.subplots(
        1, len(document), sharey=True, figsize=(11, 4), layout="constrained"
    )
    for axes, (name, found) in zip(all_axes, document.items(), strict=True):
        for who, shares in found["attainment"].items():
            limit = who in {"schedule", "upper", "best static"}
            style = {"color": "0.3", "linestyle": _LIMITS[who]} if limit else {"marker": "."}
            label = _LABELS.get(who, who)
            axes.plot(found["rates"], [100 * share for share in shares], label=label, **style)
        axes.set(title=name, xlabel="requests/s")
    all_axes[0].set_ylabel("good, % of the requests")
    _legend_below(figure, all_axes[0])
    yield save(plt, figure, folder / "sla-saber.svg")


def _standing(document: Document, folder: Path) -> Iterator[Path]:
    plt = pyplot()
    for number, (title, boards) in enumerate(document.items()):
        rows = -(-len(boards) // _COLUMNS)
        figure, grid = plt.subplots(
            rows, _COLUMNS, squeeze=False, figsize=(11, 2.2 * rows + 1), layout="constrained"
        )
        flat = [axes for row in grid for axes in row]
        for axes, (name, board) in zip(flat, boards.items(), strict=False):
            for who, figures in board["policies"].items():
                axes.plot(board["multiples"], figures["goodput_per_s"], marker=".", **_line(who))
            axes.set_title(name, fontsize="small")
        for axes in flat[len(boards) :]:
            axes.set_visible(False)
        figure.suptitle(f"good answers/s against multiples of the knee: {title}", fontsize="small")
        _legend_below(figure, flat[0])
        yield save(plt, figure, folder / f"sla-standing-{number}.svg")


def _robustness(document: Document, folder: Path) -> Iterator[Path]:
    plt = pyplot()
    scene = next(name for name in document if name.startswith("poisson"))
    found = document[scene]
    figure, grid = plt.subplots(
        len(found), 1, sharex=True, figsize=(9, 1.6 * len(found) + 0.5), layout="constrained"
    )
    for axes, (name, rows) in zip(grid, found.items(), strict=True):
        mine = rows.get("plan-and-trim") or next(iter(rows.values()))
        for label, what in (("right predictions", "bins_right"), (name, "bins")):
            times, shares = _smoothed(mine[what])
            axes.plot(times, shares, label=label)
        axes.legend(fontsize="x-small", loc="lower left")
    grid[-1].set_xlabel("seconds")
    figure.suptitle(f"good, % of the requests over time: {scene}", fontsize="small")
    yield save(plt, figure, folder / "sla-robustness.svg")


def _smoothed(bins: Sequence[Sequence[int]], width: int = 3) -> tuple[list[int], list[float]]:
    """Shares over a sliding window of bins, per cent, at the windows' begins."""
    times, shares = [], []
    for place in range(len(bins) - width + 1):
        window = bins[place : place + width]
        counted = sum(n for n, _ in window)
        if counted:
            times.append(place * BIN_S)
            shares.append(100 * sum(good for _, good in window) / counted)
    return times, shares


def _line(who: str) -> dict[str, Any]:
    ours = who == "plan-and-trim"
    return {"label": who, "linewidth": 2.5 if ours else 1.0, "zorder": 3 if ours else 2}


def _legend_below(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")


_COLUMNS = 4
_LIMITS = {"schedule": "--", "upper": ":", "best static": "-"}
_LABELS = {"schedule": "clairvoyant schedule", "upper": "no policy above"}
_DRAWINGS: Mapping[str, Callable[[Document, Path], Iterator[Path]]] = {
    "saber": _saber,
    "standing": _standing,
    "robustness": _robustness,
}
