"""The step profiles that ship: our own coefficients, fitted to tables of measured kernels.

Owns the reading of `data/step_times.json` and the way from a name in a scenario to a profile.
The fit is `tools/fit_step_times.py`. Called by scenario files and by the benchmark page.
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from slalom.errors import ConfigError
from slalom.twin.step_time import StepProfile, load_profile


@cache
def shipped_profiles() -> Mapping[str, StepProfile]:
    """All that ship, by name: device, slash, model, as in ``h100/qwen2.5-coder-7b``."""
    text = (files("slalom.twin") / "data" / "step_times.json").read_text(encoding="utf-8")
    profiles = [StepProfile.from_json(document, "step_times.json") for document in json.loads(text)]
    return MappingProxyType({profile.name: profile for profile in profiles})


def find_profile(name: str, folder: Path | None = None) -> StepProfile:
    """A profile by its name, or from a JSON file.

    Args:
        name: A shipped profile's name, or the path of a file; one that ends in ``.json`` is a
            path.
        folder: Where a relative path begins; the working directory if None.

    Raises:
        ConfigError: There is no such profile, or the file cannot be read as one.
    """
    if name.endswith(".json"):
        return load_profile((folder or Path()) / name)
    found = shipped_profiles().get(name)
    if found is None:
        near = get_close_matches(name, shipped_profiles(), n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"there is no step profile {name!r}{hint} (a file's name must end in .json; "
            f"{len(shipped_profiles())} profiles ship, named device/model)"
        )
    return found
