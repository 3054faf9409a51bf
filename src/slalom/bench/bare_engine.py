"""llama.cpp's own server with nothing before it, as something that can be asked.

Owns the command line. Starts nothing: `scenario_compare.running` does. Called by the benchmarks
that measure what standing before an engine costs.
"""

import json
import shlex
import sys
from dataclasses import asdict

from slalom.bench.scenario_compare import Target
from slalom.engines.llama_cpp import LlamaCppOptions


def bare_engine(name: str, model: str, options: LlamaCppOptions) -> Target:
    """The engine, first come first served.

    Args:
        name: Of the target.
        model: As clients name it.
        options: As a launcher would be given.
    """
    given = {**asdict(options), "alias": model}
    path = given.pop("model")
    # What is the launcher's business.
    for known in ("load_timeout_s", "fim", "gpu"):
        given.pop(known, None)
    command = [sys.executable, "-m", "slalom.engines.llama_cpp_process", "--model", str(path)]
    command += ["--options", json.dumps(given), "--port", "${PORT}"]
    return Target(name, command=shlex.join(command).replace("'${PORT}'", "${PORT}"))
