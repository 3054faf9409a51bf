"""How the live benchmarks configure an embedded engine of one thread.

Owns that section of a configuration. Starts nothing. Called by the settings of the benchmarks that
run several such engines behind one server.
"""

from pathlib import Path
from typing import Any


def engine_section(source: Path, *, context_tokens: int, places: int) -> dict[str, Any]:
    """Of one model, as a configuration file has it.

    Args:
        source: The GGUF file.
        context_tokens: Context of one place.
        places: Requests that the engine runs at a time.
    """
    return {
        "kind": "llama-cpp",
        "source": str(source),
        "context_tokens": context_tokens,
        "places": places,
        "threads": 1,
        # In one cache for all, a step's time depends on where the cells of the other places lie.
        "extra": {"kv_unified": False},
    }
