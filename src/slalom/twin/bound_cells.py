"""Time cut into cells, and which requests can be worked on in which of them.

Owns the grid and the overlaps as arrays. The windows of requests are never rounded: only the
contention between them is taken per cell, so that a coarser grid gives a looser bound and never
a wrong one. Called by `bound_upper`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slalom.twin.bound_curve import RateCurve
from slalom.twin.bound_jobs import Job

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: More cells, or more (request, cell) pairs, than this cost time and gain little.
_CELLS_MAX = 400
_PAIRS_MAX = 30_000


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The pairs of a job and a cell in which part of its work can lie, as parallel arrays."""

    job: Ints
    cell: Ints
    #: Seconds of the cell in which the job can read its prompt, or write, or either.
    read_s: Floats
    write_s: Floats
    any_s: Floats
    #: Whether a token written there can be its first one.
    early: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, slots=True)
class Windows:
    """What jobs of one model need and when, as parallel arrays, one row for each job."""

    #: Tokens that must be written by `done_s`, and by `first_s`.
    tokens: Floats
    first_tokens: Floats
    #: How often it may be started.
    starts: Floats
    #: Seconds of its own its prompt takes at least, and seconds of the whole replica.
    prefill_s: Floats
    shared_s: Floats
    #: When it can be begun, when it can write; when its first token and its last one must be there.
    start_s: Floats
    decode_s: Floats
    first_s: Floats
    done_s: Floats

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, jobs: Sequence[Job], curve: RateCurve, load_s: float) -> "Windows":
        """The windows of jobs of one model of which the first replica is ready at a time."""
        start = np.array([max(job.start_s, load_s) for job in jobs])
        prefill = np.array([job.prefill_s for job in jobs])
        first = np.array([job.first_by_s for job in jobs])
        done = np.array([job.done_by_s for job in jobs])
        # An answer that may end whenever it likes needs no more than its first token in time.
        endless = np.isinf(done)
        tokens = np.array([float(job.tokens - job.spared) for job in jobs])
        first_tokens = np.minimum(tokens, curve.first_tokens)
        return cls(
            tokens=np.where(endless, first_tokens, tokens),
            first_tokens=first_tokens,
            starts=np.array([float(job.starts) for job in jobs]),
            prefill_s=prefill,
            shared_s=np.array([job.shared_s for job in jobs]),
            start_s=start,
            decode_s=start + prefill,
            first_s=first,
            done_s=np.where(endless, first, done),
        )


def grid_of(windows: Sequence[Windows]) -> Floats:
    """Borders of cells, ascending from 0, for all windows together; at least two."""
    parts = [np.zeros(1)]
    for window in windows:
        parts += [window.start_s, window.first_s, window.done_s]
    exact = np.unique(np.concatenate(parts))
    cells = _CELLS_MAX
    borders = _coarser(exact, cells)
    while cells > 8 and _pairs(windows, borders) > _PAIRS_MAX:
        cells = cells * 3 // 4
        borders = _coarser(exact, cells)
    return borders if len(borders) > 1 else np.array([0.0, 1.0])


def overlaps(windows: Windows, borders: Floats) -> Overlaps:
    """The cells that each window touches."""
    first = np.searchsorted(borders, windows.start_s, side="right") - 1
    last = np.searchsorted(borders, windows.done_s, side="left")
    counts = np.where(windows.done_s > windows.start_s, np.maximum(last - first, 0), 0)
    job = np.repeat(np.arange(len(windows)), counts)
    cell = np.repeat(first, counts) + np.arange(len(job))
    cell -= np.repeat(np.cumsum(counts) - counts, counts)
    low = np.maximum(borders[cell], windows.start_s[job])
    high = np.minimum(borders[cell + 1], windows.done_s[job])
    reads = windows.prefill_s[job] > 0.0
    return Overlaps(
        job=job,
        cell=cell,
        read_s=np.where(reads, np.clip(windows.first_s[job] - low, 0.0, high - low), 0.0),
        write_s=np.clip(high - windows.decode_s[job], 0.0, high - low),
        any_s=high - low,
        early=low < windows.first_s[job],
    )


def _coarser(exact: Floats, cells: int) -> Floats:
    """At most so many cells: borders evenly picked, so that cells are fine where much happens."""
    if len(exact) <= cells + 1:
        return exact
    picked = np.linspace(0, len(exact) - 1, cells + 1).round().astype(np.int64)
    return exact[picked]


def _pairs(windows: Sequence[Windows], borders: Floats) -> int:
    return sum(len(overlaps(window, borders)) for window in windows)
