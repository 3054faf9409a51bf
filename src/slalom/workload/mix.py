"""What a load consists of: which tasks, how often, asked of which model, with how long answers.

Owns plain data. A mix names models by the ids of a configuration it does not know. Read by `plan`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.workload.prompts import CUTTERS
from slalom.workload.tasks import DEFAULT_TASKS


@dataclass(frozen=True, slots=True)
class MixEntry:
    """One kind of request."""

    task: str
    #: Model id that serves it.
    model: str
    #: Weight among the entries; need not sum to anything.
    weight: float
    #: Answer limit, tokens: drawn evenly from this range, both ends included.
    max_tokens: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse what cannot be planned.

        Raises:
            ValueError: No prompts for this task, or a number out of range.
        """
        if self.task not in CUTTERS or self.task not in DEFAULT_TASKS:
            raise ValueError(f"no prompts for task {self.task!r}; known: {', '.join(CUTTERS)}")
        low, high = self.max_tokens
        if self.weight <= 0 or not 1 <= low <= high:
            raise ValueError(
                f"{self.task}: weight {self.weight} must be positive and max_tokens "
                f"{self.max_tokens} an ascending range from 1"
            )


def draw(entries: Sequence[MixEntry], rng: random.Random) -> MixEntry:
    """One entry by its weight."""
    return rng.choices(entries, weights=[entry.weight for entry in entries])[0]
