"""What a run of the benchmark is asked for, and what a part of it answers.

Owns the two shapes that the command and the parts share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run."""

    #: With the scenario files.
    folder: Path
    seeds: int
    #: A smoke test: little of everything.
    quick: bool = False
    #: Policies to leave out of the tables, by name, while others are worked on.
    only: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What a part found."""

    #: Its section of the page.
    text: str
    #: The same as data.
    document: Mapping[str, Any]
