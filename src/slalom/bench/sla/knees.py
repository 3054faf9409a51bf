"""The standing loads as the benchmark plays them, and where the knee of each is.

Owns the table of loads, what is changed so that a run has some hundreds of requests, the stand-in
engine, and the search of the knee. Called by the parts that play standing loads.
"""

import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from slalom.bench.sla.cells import Cell, Load
from slalom.bench.sla.choices import PROXY
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Settings
from slalom.config.scenario_load import load_scenario

#: Profile of the llama.cpp server that stands in for every engine.
LLAMA_CPP = "l40s/qwen2.5-coder-1.5b"
#: The knee is where a plain proxy's share of good answers falls to so much of what it is under the
#: lightest load: bursts that no rate makes harmless belong to the load, not to its rate.
_KEPT = 0.9
#: Rates tried, as factors of the file's: from an eighth to eight times, by half octaves.
FACTORS = tuple(2 ** (step / 2) for step in range(-6, 7))
_QUICK_FACTORS = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """One of the standing loads."""

    name: str
    file: str
    #: What takes time in its shape is so much shorter here.
    stretch: float = 1.0
    #: Its seeds are slices of the trace so long, s.
    slice_s: float = 0.0
    #: Whether it is played on the stand-in engine too: not where several models are the point.
    stand_in: bool = False

    def load(self, folder: Path, *, llama_cpp: bool = False) -> Load:
        """As the file says, and on which engine."""
        profile = LLAMA_CPP if llama_cpp else ""
        path = str(folder / self.file)
        return Load(path, stretch=self.stretch, slice_s=self.slice_s, llama_cpp=profile)


_LOADS: Sequence[Standing] = (
    Standing("azure-code", "azure-code.yaml", slice_s=240, stand_in=True),
    Standing("coding-day", "coding-day.yaml", 0.06, stand_in=True),
    Standing("poisson", "poisson.yaml", 0.2, stand_in=True),
    Standing("gamma-cv2", "gamma-cv2.yaml", 0.2, stand_in=True),
    Standing("gamma-cv4", "gamma-cv4.yaml", 0.3, stand_in=True),
    Standing("gamma-cv8", "gamma-cv8.yaml", 0.3, stand_in=True),
    Standing("step", "step.yaml", 0.3, stand_in=True),
    Standing("mix-drift", "mix-drift.yaml", 0.15, stand_in=True),
    Standing("many-models", "many-models.yaml", 0.4),
    Standing("agents", "agents.yaml", 0.2, stand_in=True),
    Standing("typing", "typing.yaml", 0.25, stand_in=True),
    Standing("cato-even", "cato-even.yaml"),
    Standing("cato-poisson", "cato-poisson.yaml"),
    Standing("cato-burst", "cato-burst.yaml"),
)
_QUICK = ("poisson",)
_QUICK_STRETCH = 0.06


def standing(settings: Settings) -> Iterator[Standing]:
    """The loads to play; one whose trace is not here is left out with a word on stderr."""
    for one in _LOADS:
        if settings.quick and one.name not in _QUICK:
            continue
        if one.slice_s and "SLALOM_DATA" not in os.environ:
            sys.stderr.write(f"{one.name}: left out: its trace is not here (SLALOM_DATA)\n")
            continue
        yield replace(one, stretch=_QUICK_STRETCH) if settings.quick else one


def knees(
    settings: Settings, runner: Runner, loads: Mapping[str, Load], title: str
) -> dict[str, float]:
    """The factor of each load's own rate at which its knee is.

    Args:
        settings: What to run.
        runner: Plays the runs.
        loads: By name.
        title: For the progress.
    """
    factors = _QUICK_FACTORS if settings.quick else FACTORS
    shares: dict[str, list[float]] = {name: [] for name in loads}
    for factor in factors:
        left = [name for name, found in shares.items() if not is_past(found)]
        cells = {
            (name, seed): Cell(replace(loads[name], rate=factor), seed, PROXY)
            for name in left
            for seed in range(settings.seeds)
        }
        results = runner.play(cells.values(), f"{title}: knees, {factor:.2g} of the files' rates")
        for name in left:
            found = [results[cells[name, seed]]["attainment"] for seed in range(settings.seeds)]
            shares[name].append(statistics.fmean(found))
    return {name: knee(factors[: len(found)], found) for name, found in shares.items()}


def is_past(shares: Sequence[float]) -> bool:
    """Whether the knee is behind."""
    return len(shares) > 1 and shares[-1] < _KEPT * shares[0]


def knee(factors: Sequence[float], shares: Sequence[float]) -> float:
    """Where the share of good answers falls below nine tenths of the first one.

    Args:
        factors: Of the rate, ascending.
        shares: At each; between two, the share is taken to be linear in the factor's logarithm.
    """
    wanted = _KEPT * shares[0]
    for (low, before), (high, after) in pairwise(zip(factors, shares, strict=True)):
        if after < wanted:
            part = (before - wanted) / (before - after)
            return math.exp(math.log(low) + part * math.log(high / low))
    return factors[-1]


def rate_per_s(load: Load) -> float:
    """Mean rate of a load's file, requests (or sessions) per second."""
    return load_scenario(Path(load.path)).plan.rate_per_s
