"""The engine and the five ways to it: configurations, command lines, sizes of a run.

Owns what the ways have in common (one model, one set of engine options, the same calibration for
each) and the calibration itself. Starts the calibration only; called by the command.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slalom.bench.bare_engine import bare_engine
from slalom.bench.calibrate_command import run_calibrate
from slalom.bench.gateway_paths import LITELLM
from slalom.bench.scenario_compare import Target
from slalom.engines.llama_cpp import LlamaCppOptions
from slalom.models.sources import resolve
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile

PLACES, CONTEXT_TOKENS, MICRO_BATCH = 4, 2_048, 512
#: In one cache for all, a step's time depends on where the cells of every other place lie.
_EXTRA = {"kv_unified": False}
_STATE = "XDG_STATE_HOME"

DIRECT, BY_LITELLM = "engine directly", "behind LiteLLM"
FCFS, SABER, OURS = "Slalom fcfs", "Slalom saber", "Slalom plan-and-trim"
#: llama.cpp's server ends the connection after each stream without saying so; a client that then
#: asks again on it fails. So no client of any way keeps one.
HEADERS: Mapping[str, str] = {"connection": "close"}
#: Slalom's ways -> the configuration's `scheduler` section.
POLICIES: Mapping[str, dict[str, Any]] = {
    FCFS: {"admission": {"kind": "open"}, "ordering": {"kind": "fcfs"}},
    SABER: {"admission": {"kind": "saber", "law": "fit"}, "ordering": {"kind": "fcfs"}},
    OURS: {"admission": {"kind": "plan-and-trim"}},
}
#: Requests of a client that never cancels -> the `server` section.
SUPERSESSION: Mapping[str, dict[str, Any]] = {
    "supersession off": {"supersede": "off"},
    "supersession on": {"supersede": "auto"},
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    model: str
    repeats: int
    loads: tuple[str, ...]
    #: Span of the arrivals of a run, and of the load that nobody counts before, seconds.
    seconds: float
    warm_s: float
    #: Time of the calibration's repeats, and of a look at the saturated throughput, seconds.
    calibrate_s: float
    saturate_s: float
    litellm: bool = True


FULL = Sizes("slalom-small", 3, ("light", "knee", "overload"), 9.0, 4.0, 25.0, 6.0)
QUICK = Sizes("slalom-mini", 1, ("overload",), 1.0, 0.3, 1.0, 0.5, litellm=False)


def configuration(
    model: str,
    scheduler: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Of a Slalom server in front of the engine."""
    engine = {
        "kind": "llama-cpp",
        "source": f"bundled:{model}",
        "context_tokens": CONTEXT_TOKENS,
        "places": PLACES,
        "threads": 1,
        "micro_batch_tokens": MICRO_BATCH,
        "extra": _EXTRA,
    }
    return {
        "server": {"drain_seconds": 5, **(server or {})},
        "devices": [{"id": "host", "window": 0}],
        "models": [{"id": model, "engine": engine, "pinned": True}],
        "scheduler": dict(scheduler or POLICIES[OURS]),
    }


def engine_target(model: str) -> Target:
    """The engine with nothing before it: llama.cpp's own server, first come first served."""
    options = LlamaCppOptions(
        resolve(f"bundled:{model}").path,
        context_tokens=CONTEXT_TOKENS,
        places=PLACES,
        threads=1,
        micro_batch_tokens=MICRO_BATCH,
        extra=dict(_EXTRA),
    )
    return bare_engine(DIRECT, model, options)


def litellm_target(model: str, engine_url: str, folder: Path) -> Target:
    """The LiteLLM proxy, one worker, before an engine that runs already."""
    params = {
        "model": f"openai/{model}",
        "api_base": f"{engine_url}/v1",
        "api_key": "sk-none",
    }
    path = folder / "litellm.yaml"
    document = {"model_list": [{"model_name": model, "litellm_params": params}]}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = (
        "/usr/bin/env LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_LOG=ERROR "
        # No keys on either side: Slalom runs without any on loopback, too.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true "
        f"{shlex.quote(str(LITELLM.absolute()))} --config {shlex.quote(str(path))} "
        "--port ${PORT} --num_workers 1 --host 127.0.0.1 --telemetry False"
    )
    return Target(BY_LITELLM, command=command, health_path="/health/liveliness")


@contextlib.contextmanager
def state_in(folder: Path) -> Iterator[None]:
    """Keep what is calibrated and learned in a folder of this run, for its servers too."""
    before = os.environ.get(_STATE)
    os.environ[_STATE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_STATE]
        else:
            os.environ[_STATE] = before


async def calibrated(model: str, folder: Path, seconds: float) -> dict[str, Any]:
    """`slalom calibrate` in a process of its own, as users run it; every server finds the result.

    Raises:
        SlalomError: It failed.
    """
    return await run_calibrate(model, configuration(model), folder, seconds, state=None)


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
