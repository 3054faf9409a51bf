"""What batches are told: where they lie and how much there may be of them.

Owns the shape only; the assembly fills it from the configuration.
"""

from dataclasses import dataclass
from pathlib import Path

from slalom.units import MIB

#: Seconds of a day.
DAY_S = 86_400
#: The one completion window there is, and its length, seconds.
WINDOW = "24h"
WINDOW_S = DAY_S


@dataclass(frozen=True, slots=True)
class BatchParams:
    """Bounds of files and batches."""

    #: Holds the database and the files' contents; made when first needed.
    folder: Path
    #: Largest file taken, bytes.
    file_bytes_max: int = 200 * MIB
    #: Longest line, bytes: what a request's body may be.
    line_bytes_max: int = 32 * MIB
    #: Lines of one batch.
    lines_max: int = 50_000
    #: Files of one key, uploaded and written by batches.
    files_max: int = 1000
    #: Batches of one key that have not ended.
    unfinished_max: int = 100
    #: All files of all keys together, bytes.
    total_bytes_max: int = 10_240 * MIB
    #: The disk is never filled beyond this rest, bytes.
    free_bytes_min: int = 256 * MIB
    #: Files are deleted this long after they were made, seconds.
    keep_s: int = 30 * DAY_S
    #: Length of the completion window, seconds; tests shorten it.
    window_s: int = WINDOW_S
