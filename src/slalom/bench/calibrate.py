"""Calibration of a real engine: start it, probe it by streaming, fit its step times, stop it.

Owns the order and the result. Takes a launcher, because only assembly knows which one a model
needs. Called by `slalom calibrate`.
"""

from dataclasses import dataclass

from slalom.bench.calibrate_fit import Fit, FitError, fit
from slalom.bench.calibrate_probe import Observation, OnProgress, Prober
from slalom.bench.calibrate_store import ProfileKey, key_of
from slalom.bench.calibrate_work import Shape
from slalom.clock import Clock, MonotonicClock
from slalom.config.engine_sections import EngineChoice, LlamaCppEngine, ModelSection
from slalom.engines.protocol import Launcher
from slalom.twin.step_time import StepProfile
from slalom.units import SECOND, seconds_to_ns

#: Time after which no repeat begins, seconds; with start and fit it stays under a minute.
BUDGET_S = 40.0
#: Context that is probed where the engine's is not ours to set, tokens.
_CONTEXT_TOKENS = 2048
#: Streams at a time that are probed at most.
_PLACES_MAX = 64
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found."""

    profile: StepProfile
    key: ProfileKey
    errors: tuple[FitError, ...]
    observations: tuple[Observation, ...]
    #: Experiments for which there was no time.
    left_out: int
    took_s: float


async def calibrate(
    model: ModelSection,
    launcher: Launcher,
    *,
    budget_s: float = BUDGET_S,
    clock: Clock | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Calibration:
    """Calibrate one model.

    Args:
        model: As configured: places, context and options are what is measured.
        launcher: Brings its engine up; nothing else may use that engine.
        budget_s: No experiment is repeated after this, seconds.
        clock: For tests.
        on_progress: Told of experiments done.

    Raises:
        EngineError: The engine did not start, refused a probe, or streams too little.
        ModelError: The model's file is missing or damaged.
    """
    clock = clock or MonotonicClock()
    began_ns = clock.now_ns()
    key = key_of(model)
    engine = await launcher.launch(f"{model.id}-calibrated", lambda _fraction: None)
    try:
        prober = Prober(
            engine,
            clock,
            shape=_shape(model.engine),
            context_tokens=_context_tokens(model),
            budget_ns=seconds_to_ns(budget_s),
        )
        await prober.run(on_progress)
    finally:
        await engine.stop(_STOP_S)
    source = f"calibrated by streaming: {key.engine} on {key.device}"
    found: Fit = fit(prober.observations, name=model.id, source=source)
    return Calibration(
        profile=found.profile,
        key=key,
        errors=found.errors,
        observations=tuple(prober.observations),
        left_out=prober.left_out,
        took_s=(clock.now_ns() - began_ns) / SECOND,
    )


def _shape(engine: EngineChoice) -> Shape:
    """How the engine arranges its steps, as far as its options say."""
    places = min(engine.places, _PLACES_MAX)
    if not isinstance(engine, LlamaCppEngine):
        return Shape(places)
    return Shape(
        places,
        numbered=True,
        kv_unified=bool(engine.extra.get("kv_unified", True)),
        micro_batch=engine.micro_batch_tokens,
        batch_tokens=engine.batch_tokens,
    )


def _context_tokens(model: ModelSection) -> int:
    """Longest stream of which all places can have one at a time."""
    engine = model.engine
    if not isinstance(engine, LlamaCppEngine):
        return _CONTEXT_TOKENS
    shared = (engine.kv_tokens or engine.context_tokens * engine.places) // engine.places
    return min(engine.context_tokens, shared)
