"""From the engine section of a scenario's model to the law that the twin runs it by.

Owns the choice by `kind` and where profiles are looked for: a file beside the scenario, else one of
those shipped. Called by `from_file`.
"""

from pathlib import Path
from typing import Any

from slalom.config.scenario_file import ScenarioModel, SimpleLaw, UslSpeed, VllmBatching
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.profiles import find_profile
from slalom.twin.usl import UslLaw
from slalom.units import ms_to_ns


def engine_laws(model: ScenarioModel, folder: Path) -> dict[str, Any]:
    """The fields of a `TwinModel` that say how fast it is.

    Args:
        model: A model of a scenario.
        folder: Of the scenario's file.

    Raises:
        ConfigError: Its profile is not there or cannot be read.
    """
    engine = model.engine
    if isinstance(engine, SimpleLaw):
        law = StepLaw(
            prefill_ns_per_token=round(engine.prefill_us_per_token * 1_000),
            token_ns=ms_to_ns(engine.token_ms),
            neighbour_ns=ms_to_ns(engine.neighbour_ms),
        )
        return {"step": law}
    if isinstance(engine, UslSpeed):
        prefill_ns = round(engine.prefill_us_per_token * 1_000)
        return {"engine": UslEngine(UslLaw(engine.a, engine.s, engine.k, prefill_ns))}
    profile = find_profile(engine.profile, folder)
    if isinstance(engine, VllmBatching):
        return {
            "engine": VllmEngine(
                profile,
                budget_tokens=engine.budget_tokens,
                seqs_max=engine.seqs_max or model.places,
                kv_blocks=engine.kv_blocks,
                block_tokens=engine.block_tokens,
                long_prefill_tokens=engine.long_prefill_tokens,
                prefix_caching=engine.prefix_caching,
                by_priority=engine.by_priority,
            )
        }
    return {
        "engine": LlamaCppEngine(
            profile,
            slots=engine.slots or model.places,
            batch_tokens=engine.batch_tokens,
            micro_batch_tokens=engine.micro_batch_tokens,
            prefix_caching=engine.prefix_caching,
        )
    }
