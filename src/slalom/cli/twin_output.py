"""What the `twin` commands read and show: progress, documents, figures as text.

Owns the forms. Runs nothing. Called by `twin_commands`.
"""

import json as json_module
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slalom.cli.output import stderr


@contextmanager
def progress_bar(name: str, total: int | None) -> Iterator[Any]:
    """A bar on stderr, on a terminal only; yields `advance(runs)`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(name, total=total)
        yield lambda runs: progress.advance(task, runs)


def write_json(file: Path | None, document: Any) -> bool:
    """Write where it is asked for; whether that was stdout, which then holds nothing else."""
    if file is None:
        return False
    text = json_module.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
        return True
    file.write_text(text, encoding="utf-8")
    return False


def read_json(file: Path) -> Any:
    """A document that some command wrote.

    Raises:
        ConfigError: It cannot be read.
    """
    from slalom.errors import ConfigError

    try:
        return json_module.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: cannot be read as JSON ({error}); `slalom twin run --json FILE` writes one"
        ) from None


def read_rates(text: str) -> Iterator[float]:
    """Rates as a user writes them, separated by commas.

    Raises:
        ConfigError: One is no rate.
    """
    from slalom.errors import ConfigError

    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1e9:
            raise ConfigError(f"--rates {text}: {part!r} is no rate above 0: write 1,2,4.5")
        yield rate


def rate_text(found: Any) -> str:
    """A rate with its margin."""
    return "none" if found is None else signed(found.mean, found.margin).lstrip("+")


def signed(mean: float, margin: float | None) -> str:
    """A difference with its margin."""
    return f"{mean:+.4g}" + ("" if margin is None else f" ±{margin:.2g}")


def rounded(value: float | None) -> float | None:
    """For documents."""
    return None if value is None else round(value, 6)


def point_row(point: Any, policies: Sequence[str]) -> list[str]:
    """A rate of a sweep: goodput and attainment of each policy."""
    row = [f"{point['rate_per_s']:g}"]
    for name in policies:
        found = point["policies"][name]["estimates"]
        goodput, attained = (found[figure]["mean"] for figure in ("goodput_per_s", "attainment"))
        row.append(f"{goodput:.3f}, {attained * 100:.1f}")
    return row
