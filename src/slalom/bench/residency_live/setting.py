"""Six models, the budget they share, and the configurations of the servers that serve them.

Owns the models' files, the sizes of a run and what all servers have in common. Starts nothing.
Called by the command and by `compare`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slalom.bench.engine_section import engine_section
from slalom.config.engine_sections import LlamaCppEngine
from slalom.config.footprint import llama_cpp_bytes
from slalom.models.sources import resolve
from slalom.models.synth import synthesize
from slalom.workload.tasks import TaskSpec

CONTEXT_TOKENS, PLACES = 1_024, 2
#: The policies that are compared, by name, with the residency slot's section.
POLICIES: Mapping[str, dict[str, Any]] = {
    "lru": {"kind": "lru"},
    "gdsf": {"kind": "gdsf"},
    "cace": {"kind": "cace"},
    "penalty": {"kind": "penalty"},
    # Loads are some eighty times as short here as those that its default is made for.
    "penalty, delay_s 0.3": {"kind": "penalty", "delay_s": 0.3},
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    #: Parameters of the models that are made for it; two bundled ones come first.
    parameters: tuple[int, ...]
    policies: tuple[str, ...]
    repeats: int
    #: Span of the arrivals of a run, and of its beginning that does not count, seconds.
    seconds: float
    warm_s: float
    #: Memory of the models together that there is.
    share: float = 0.5
    #: Arrivals per second at most, whatever the engines could take.
    rate_max_per_s: float = 4.0


FULL = Sizes((60_000_000, 120_000_000, 240_000_000, 480_000_000), tuple(POLICIES), 2, 45.0, 6.0)
QUICK = Sizes((4_000_000, 8_000_000), ("lru", "penalty"), 1, 3.0, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class Setting:
    """The models, smallest first, and the memory they share."""

    files: Mapping[str, Path]
    #: What a replica of each is booked with before it was measured, bytes.
    needed: Mapping[str, int]
    budget_bytes: int

    @property
    def file_bytes(self) -> dict[str, int]:
        """Weights of each."""
        return {name: path.stat().st_size for name, path in self.files.items()}

    @property
    def quick(self) -> tuple[str, ...]:
        """The smaller two thirds: completions are asked of these."""
        return tuple(self.files)[: len(self.files) * 2 // 3]

    @property
    def slow(self) -> tuple[str, ...]:
        """The others: longer answers are asked of these."""
        return tuple(self.files)[len(self.files) * 2 // 3 :]


def prepared(sizes: Sizes, folder: Path) -> Setting:
    """Make the models' files and say what there is.

    Raises:
        ModelError: A file could not be written.
    """
    files = {name: resolve(f"bundled:{name}").path for name in ("slalom-mini", "slalom-small")}
    for seed, parameters in enumerate(sizes.parameters):
        name = f"synth-{parameters // 1_000_000}m"
        files[name] = folder / f"{name}.gguf"
        if not files[name].exists():
            synthesize(files[name], parameters=parameters, seed=seed, quantisation="q8_0")
    files = dict(sorted(files.items(), key=lambda one: one[1].stat().st_size))
    needed = {name: llama_cpp_bytes(LlamaCppEngine(**_engine(files[name]))) for name in files}
    budget = max(round(sizes.share * sum(needed.values())), *needed.values())
    return Setting(files, needed, budget)


def configuration(
    setting: Setting, policy: str, tasks: Mapping[str, TaskSpec] | None = None
) -> dict[str, Any]:
    """Of a server.

    Args:
        setting: The models.
        policy: Its name in `POLICIES`.
        tasks: With their targets; nothing else is asked of their requests.
    """
    limits = ("ttft_ms", "tpot_ms", "e2e_ms")
    return {
        "server": {"drain_seconds": 2},
        "tasks": {
            name: {limit: getattr(task, limit) for limit in limits}
            for name, task in (tasks or {}).items()
        },
        "devices": [{"id": "host", "budget": setting.budget_bytes, "window": 0}],
        "models": [{"id": name, "engine": _engine(path)} for name, path in setting.files.items()],
        # As in the twin's comparison: what gives way is all that differs and all that is weighed.
        "scheduler": {"admission": {"kind": "open"}, "residency": POLICIES[policy]},
    }


def _engine(path: Path) -> dict[str, Any]:
    return engine_section(path, context_tokens=CONTEXT_TOKENS, places=PLACES)
