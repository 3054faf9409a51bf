"""`slalom calibrate` as users run it: in a process of its own, its document read from its output.

Owns the call only. Called by the benchmarks that compare the twin with a real engine.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slalom.errors import SlalomError


async def run_calibrate(
    model: str, configuration: Mapping[str, Any], folder: Path, seconds: float, state: Path | None
) -> dict[str, Any]:
    """Calibrate a model of a configuration.

    Args:
        model: Its id.
        configuration: As in a configuration file; written into the folder.
        folder: For that file.
        seconds: Time for the calibration's repeats.
        state: Where the profile is stored; None for where the environment says.

    Raises:
        SlalomError: It failed; with the end of what it said.
    """
    path = folder / f"{model}.yaml"
    path.write_text(yaml.safe_dump(dict(configuration)), encoding="utf-8")
    command = (sys.executable, "-m", "slalom", "calibrate", model, "--config", str(path))
    process = await asyncio.create_subprocess_exec(
        *(*command, "--seconds", str(seconds), "--json"),
        env={**os.environ, **({"XDG_STATE_HOME": str(state)} if state else {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise SlalomError(f"slalom calibrate failed: {said.decode(errors='replace')[-500:]}")
    document: dict[str, Any] = json.loads(out)
    return document
