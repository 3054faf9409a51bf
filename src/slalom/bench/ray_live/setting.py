"""Two models, at most four engines, and the four ways of serving them.

Owns what the ways have in common (models, engine options, replicas) and what each is told: the
configuration of Slalom and that of Ray Serve. Starts nothing. Called by the command and by `ways`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slalom.bench.engine_section import engine_section
from slalom.engines.llama_cpp import LlamaCppOptions
from slalom.models.synth import synthesize
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile

CODER, WRITER = "coder", "writer"
#: Who is asked for what; as in `scenarios/fleet-shared.yaml`.
MODEL_OF: Mapping[str, str] = {
    "completion": CODER,
    "generation": CODER,
    "summarisation": WRITER,
    "translation": WRITER,
}
#: Replicas of each model at most: four engines in all.
REPLICAS, PLACES = 2, 4
CONTEXT_TOKENS, MICRO_BATCH = 2_048, 512
_EXTRA = {"kv_unified": False}

DIRECT = "engine directly"
RAY, RAY_FIXED = "Ray Serve", "Ray Serve, four fixed"
ON_RAY, LOCAL = "Slalom on Ray", "Slalom"
WAYS = (RAY, RAY_FIXED, ON_RAY, LOCAL)
#: What each row of the page is.
ABOUT: Mapping[str, str] = {
    DIRECT: "an engine of its own with nothing before it, for requests that come alone",
    RAY: "its router, its queue and its autoscaler, one replica of each model to begin with",
    RAY_FIXED: "the same with two replicas of each model from the start",
    ON_RAY: "`slalom serve --on ray`, else as configured where nothing is said",
    LOCAL: "`slalom serve`, as configured where nothing is said",
}
#: Ray Serve's autoscaler: its default target, and delays that fit into a run of seconds; by
#: default it waits for 30 s before it adds a replica and for 600 s before it takes one away.
SCALING: Mapping[str, float] = {
    "target_ongoing_requests": 2,
    "upscale_delay_s": 2,
    "downscale_delay_s": 20,
    "metrics_interval_s": 1,
    "look_back_period_s": 2,
}
#: Of every program that is or starts Ray. By default Ray gives way to all other programs (nice
#: 15), which would hurt its own proxy here; the others are what its guide to performance names.
RAY_ENV: Mapping[str, str] = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    #: Parameters of the two models.
    parameters: tuple[int, int]
    ways: tuple[str, ...]
    loads: tuple[str, ...]
    repeats: int
    #: Span of the arrivals of a run, and of the load that nobody counts before, seconds.
    seconds: float
    warm_s: float
    #: Time of the calibration's repeats for each model, and of the look at the throughput, seconds.
    calibrate_s: float
    saturate_s: float
    #: Requests, one at a time, that show what a way adds.
    alone: int


FULL = Sizes((40_000_000, 80_000_000), WAYS, ("poisson", "bursts", "beyond"), 3, 30.0, 6.0,
             30.0, 45.0, 30)  # fmt: skip
QUICK = Sizes((3_000_000, 4_000_000), (RAY, LOCAL), ("bursts",), 1, 2.0, 0.5, 2.0, 1.0, 3)


@dataclass(frozen=True, slots=True)
class Setting:
    """The models' files."""

    files: Mapping[str, Path]

    def options(self, model: str) -> LlamaCppOptions:
        """How an engine of it runs, whoever starts it."""
        return LlamaCppOptions(
            self.files[model],
            context_tokens=CONTEXT_TOKENS,
            places=PLACES,
            threads=1,
            micro_batch_tokens=MICRO_BATCH,
            extra=dict(_EXTRA),
        )


def prepared(sizes: Sizes, folder: Path) -> Setting:
    """Make the models' files: random weights, which take as long as others.

    Raises:
        ModelError: A file could not be written.
    """
    files = {}
    for seed, (name, parameters) in enumerate(zip((CODER, WRITER), sizes.parameters, strict=True)):
        files[name] = folder / f"{name}.gguf"
        if not files[name].exists():
            synthesize(files[name], parameters=parameters, seed=seed, quantisation="q8_0")
    return Setting(files)


def configuration(setting: Setting) -> dict[str, Any]:
    """Of a Slalom server: two models, two replicas of each at most, and nothing else said."""
    models = [
        {
            "id": name,
            "pinned": True,
            "replicas": REPLICAS,
            "engine": {
                **engine_section(path, context_tokens=CONTEXT_TOKENS, places=PLACES),
                "micro_batch_tokens": MICRO_BATCH,
            },
        }
        for name, path in setting.files.items()
    ]
    return {"server": {"drain_seconds": 5}, "devices": [{"id": "host"}], "models": models}


def serve_document(setting: Setting, way: str, port: int, folder: Path) -> dict[str, Any]:
    """What the Ray Serve program is told.

    Args:
        setting: The models.
        way: Of Ray Serve's.
        port: Of its HTTP proxy.
        folder: For what Ray leaves; a short path, because there will be sockets in it.
    """
    given = {name: setting.options(name) for name in setting.files}
    return {
        "port": port,
        "folder": str(folder),
        "places": PLACES,
        "replicas": REPLICAS,
        "scaling": dict(SCALING) if way == RAY else None,
        "models": {
            name: {"model": str(options.model), "options": _plain(options)}
            for name, options in given.items()
        },
    }


def twin_engine(calibration: Mapping[str, Any]) -> LlamaCppEngine:
    """The twin's engine of a calibration."""
    return LlamaCppEngine(
        StepProfile.from_json(calibration["profile"]),
        slots=PLACES,
        micro_batch_tokens=MICRO_BATCH,
        prefix_caching=False,
        context_tokens=CONTEXT_TOKENS,
        kv_unified=False,
    )


def _plain(options: LlamaCppOptions) -> dict[str, Any]:
    return {
        "context_tokens": options.context_tokens,
        "places": options.places,
        "threads": options.threads,
        "micro_batch_tokens": options.micro_batch_tokens,
        "extra": dict(options.extra),
    }
