"""How long the parts of an answer took, for protocols that tell it.

Owns the choice between the engine's own clock, which is believed where it tells, and ours, which
only sees when a request came, when its first piece came and when it ended. Used by `ollama_answer`
and `llama_cpp_answer`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from slalom.units import MS

#: The clock, ns.
now_ns: Callable[[], int] = time.monotonic_ns


class Stopwatch:
    """Measures one answer; it starts when it is made."""

    __slots__ = ("_asked_ns", "_first_ns", "timings")

    def __init__(self) -> None:
        self._asked_ns = now_ns()
        self._first_ns = 0
        #: llama.cpp's own, where the answer has them.
        self.timings: Mapping[str, Any] = {}

    def first(self) -> None:
        """A piece of the answer is there; only the first one counts."""
        self._first_ns = self._first_ns or now_ns()

    def read(self) -> tuple[int, int, int]:
        """Time for the prompt, for the answer, and in all until now, ns.

        The rest of it all is what passed before the engine began: queue and load.
        """
        ended_ns = now_ns()
        total_ns = ended_ns - self._asked_ns
        if self.timings:
            return self._engine("prompt_ms"), self._engine("predicted_ms"), total_ns
        first_ns = self._first_ns or ended_ns
        return first_ns - self._asked_ns, ended_ns - first_ns, total_ns

    def _engine(self, name: str) -> int:
        value = self.timings.get(name)
        return round(value * MS) if isinstance(value, int | float) and value >= 0 else 0
