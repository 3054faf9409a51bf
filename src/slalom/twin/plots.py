"""Figures of runs and sweeps: queues and residency over time, latencies, goodput against rate.

Owns the drawing, with matplotlib, which is an extra of the package and imported when needed.
Called by the `twin` commands for `--plot`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slalom.config.scenario_load import LoadedScenario
from slalom.core.policy import Policies
from slalom.errors import ConfigError
from slalom.metrics.records import Fate, RequestRecord
from slalom.twin.compare import play
from slalom.twin.timeline import Timeline
from slalom.units import MS


def plot_run(
    loaded: LoadedScenario, policies: Mapping[str, Policies], rate_scale: float, folder: Path
) -> Iterator[Path]:
    """Draw the run with seed 0 of every policy; yields the files.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    plt = pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    records: dict[str, list[RequestRecord]] = {}
    for number, (name, chosen) in enumerate(policies.items()):
        line = Timeline()
        rows = records[name] = list[RequestRecord]()
        play(loaded, name, chosen, 0, rate_scale=rate_scale, watch=line.watch, record=rows.append)
        line.close()
        yield _timeline(plt, line, name, folder / f"timeline-{number}.svg")
    yield _latencies(plt, records, folder / "latencies.svg")


def plot_sweep(document: Mapping[str, Any], folder: Path) -> Path:
    """Draw goodput against rate, with intervals, of a sweep's document.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    plt = pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4))
    rates = [point["rate_per_s"] for point in document["points"]]
    for name in document["points"][0]["policies"]:
        found = [point["policies"][name]["estimates"] for point in document["points"]]
        means = [one["goodput_per_s"]["mean"] for one in found]
        margins = [one["goodput_per_s"]["margin"] or 0.0 for one in found]
        axes.errorbar(rates, means, yerr=margins, marker="o", capsize=3, label=name)
    axes.plot(rates, rates, color="0.8", zorder=0, label="all good")
    axes.set(xlabel="requests/s", ylabel="good answers/s", title=document["scenario"])
    axes.legend()
    figure.tight_layout()
    return save(plt, figure, folder / "goodput.svg")


def _timeline(plt: Any, line: Timeline, name: str, path: Path) -> Path:
    figure, (queues, residency) = plt.subplots(2, 1, sharex=True, figsize=(9, 5))
    for task, (times, counts) in sorted(line.queues.items()):
        queues.step(times, counts, where="post", label=task)
    queues.set(ylabel="waiting", title=name)
    queues.legend()
    models = sorted(line.residency)
    for row, model in enumerate(models):
        spans = [(start, end - start) for start, end in line.residency[model]]
        residency.broken_barh(spans, (row - 0.4, 0.8))
    residency.set(xlabel="seconds", yticks=range(len(models)), yticklabels=models)
    residency.set_ylabel("resident")
    figure.tight_layout()
    return save(plt, figure, path)


def _latencies(plt: Any, records: Mapping[str, list[RequestRecord]], path: Path) -> Path:
    figure, all_axes = plt.subplots(1, 3, sharey=True, figsize=(10, 4))
    for axes, what in zip(all_axes, ("ttft_ns", "tpot_ns", "e2e_ns"), strict=True):
        for name, rows in records.items():
            done = [getattr(row, what) for row in rows if row.fate is Fate.DONE]
            values = sorted(value / MS for value in done if value is not None)
            shares = [(rank + 1) / len(values) for rank in range(len(values))]
            axes.step(values, shares, where="post", label=name)
        axes.set(xlabel=f"{what.removesuffix('_ns').upper()}, ms", xscale="symlog")
    all_axes[0].set_ylabel("share of whole answers")
    all_axes[0].legend()
    figure.tight_layout()
    return save(plt, figure, path)


def save(plt: Any, figure: Any, path: Path) -> Path:
    """Write a figure without a date, so that equal results draw equal files, and close it."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def pyplot() -> Any:
    """matplotlib, set up so that equal results draw equal files.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "figures need matplotlib, which is not installed: pip install 'slalom[plot]'"
        ) from None
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "slalom"
    return plt
