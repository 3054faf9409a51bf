"""What the demo sets up: models that do not fit together, a mix of coding tasks, two contenders.

Owns the numbers of the demo and the configuration files made from them. Both contenders get the
same models, budget, tasks and targets; they differ in policies only. Starts nothing. Called by
`demo_run`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from slalom.config.footprint import model_specs
from slalom.config.schema import Config
from slalom.core.request import ModelSpec
from slalom.errors import ModelError
from slalom.models.gguf_metadata import read_metadata
from slalom.models.sources import resolve
from slalom.models.synth import synthesize
from slalom.units import MIB
from slalom.workload.mix import MixEntry

MINI, SMALL, SUMMARISER, TRANSLATOR = (
    "slalom-mini",
    "slalom-small",
    "random-summariser",
    "random-translator",
)
_BUNDLED = {MINI: "bundled:slalom-mini", SMALL: "bundled:slalom-small"}
#: Budget beyond what the models that are to fit need by their estimates.
_SLACK_BYTES = 16 * MIB
_CONTEXT_TOKENS = 2_048
_KV_TOKENS = 4_096
#: Requests a replica runs at a time: bundled models, larger ones.
_PLACES, _PLACES_LARGE = 4, 2

#: What is sent: shares as an editor's users make them, mostly completions.
MIX: Sequence[MixEntry] = (
    MixEntry("completion", MINI, 52, (12, 24)),
    MixEntry("completion-multiline", MINI, 20, (32, 48)),
    MixEntry("generation", SMALL, 18, (96, 160)),
    MixEntry("summarisation", SUMMARISER, 6, (32, 48)),
    MixEntry("translation", TRANSLATOR, 4, (48, 96)),
)
TASKS = tuple(entry.task for entry in MIX)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the demo is."""

    #: Parameters of the two random-weight models.
    summariser_parameters: int
    translator_parameters: int
    #: How long each model is probed, seconds.
    probe_s: float
    #: Span of the arrivals of one run, seconds, and bounds of the number of requests.
    arrivals_s: float
    requests_min: int
    requests_max: int
    #: How long answers are waited for after the last arrival, seconds.
    drain_s: float

    @property
    def rate_max_per_s(self) -> float:
        """Rate at which the most requests fill the span."""
        return self.requests_max / self.arrivals_s


#: The drain is longer than the longest target, so that nothing good is cut, and long enough for
#: what was late anyway and therefore had to wait for the rest.
FULL = Scale(80_000_000, 120_000_000, 2.5, 40.0, 120, 1_200, 60.0)
QUICK = Scale(4_000_000, 6_000_000, 0.4, 3.0, 12, 24, 10.0)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to schedule."""

    name: str
    #: For people, in one line.
    policies: str
    #: The `scheduler` section.
    scheduler: Mapping[str, Any] = field(default_factory=dict)


PASS_THROUGH = Contender(
    "pass-through",
    "admission open, ordering fcfs, residency lru: what a plain proxy does",
    {
        "admission": {"kind": "open"},
        "ordering": {"kind": "fcfs"},
        "residency": {"kind": "lru"},
    },
)


#: A server whose configuration says nothing of scheduling.
SLALOM = Contender("slalom", "the defaults of `slalom serve`")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The models of a demo, with sizes."""

    specs: tuple[ModelSpec, ...]
    sections: tuple[Mapping[str, Any], ...]
    #: Parameters by model id.
    parameters: Mapping[str, int]

    @property
    def needed_bytes(self) -> int:
        """What all of them would take together."""
        return sum(spec.bytes_needed for spec in self.specs)

    @property
    def budget_bytes(self) -> int:
        """Room for all but the smaller one of the two large models."""
        return self.needed_bytes - min(self._large()) + _SLACK_BYTES

    def _large(self) -> list[int]:
        return [spec.bytes_needed for spec in self.specs if spec.id in (SUMMARISER, TRANSLATOR)]

    def config(self, contender: Contender) -> dict[str, Any]:
        """The configuration of a server for this contender."""
        return {
            "server": {"drain_seconds": 5},
            "devices": [{"id": "host", "budget": self.budget_bytes}],
            "models": list(self.sections),
            "scheduler": dict(contender.scheduler),
        }


#: Told (model, bytes written, bytes in all).
OnModel = Callable[[str, int, int], None]


def make_fleet(scale: Scale, cache: Path, on_model: OnModel) -> Fleet:
    """Make the random-weight models, unless they are in the cache, and size everything.

    Args:
        scale: How large they are.
        cache: Folder for them; made if it is not there.
        on_model: Told of progress.

    Raises:
        ModelError: A model cannot be written.
        OSError: The folder cannot be made.
    """
    cache.mkdir(parents=True, exist_ok=True)
    sources = dict(_BUNDLED)
    for name, parameters in (
        (SUMMARISER, scale.summariser_parameters),
        (TRANSLATOR, scale.translator_parameters),
    ):
        path = cache / f"{name}-{parameters // 1_000_000}m-q8_0.gguf"
        if not _is_whole(path):
            synthesize(
                path,
                parameters=parameters,
                quantisation="q8_0",
                on_progress=partial(on_model, name),
            )
        sources[name] = str(path)
    sections = tuple(_section(name, source) for name, source in sources.items())
    config = Config.model_validate({"models": sections})
    return Fleet(model_specs(config), sections, _parameters(config))


def _is_whole(path: Path) -> bool:
    """Whether an earlier demo made it; a file that is damaged is made anew."""
    try:
        return read_metadata(path).parameter_count > 0
    except (ModelError, OSError):
        return False


def _section(name: str, source: str) -> dict[str, Any]:
    engine = {
        "kind": "llama-cpp",
        "source": source,
        "context_tokens": _CONTEXT_TOKENS,
        "kv_tokens": _KV_TOKENS,
        "places": _PLACES if name in _BUNDLED else _PLACES_LARGE,
    }
    return {"id": name, "engine": engine}


def _parameters(config: Config) -> dict[str, int]:
    return {
        model.id: resolve(model.engine.source).metadata.parameter_count  # type: ignore[union-attr]
        for model in config.models
    }
