"""Rates × policies × seeds over several processes, kept cell by cell so that it can go on later.

Owns the cells, the file they are kept in and the order of the result, which does not depend on
which cell ends first. Called by `slalom twin sweep`.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from slalom.config.scenario_load import LoadedScenario, TraceSpan, load_scenario
from slalom.errors import ConfigError
from slalom.metrics.results import RESULTS_VERSION, policy_document
from slalom.twin.compare import play
from slalom.twin.from_file import policy_sets

#: (rate in requests per second, policy, seed)
Cell = tuple[float, str, int]
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to run."""

    path: Path
    rates: tuple[float, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    trace: TraceSpan

    def cells(self) -> list[Cell]:
        """Every combination, in the order of the result."""
        return list(product(self.rates, self.policies, self.seeds))

    def fingerprint(self) -> str:
        """Of the scenario: cells of another one are not taken for this one's."""
        text = self.path.read_bytes() + repr(self.trace).encode()
        return hashlib.sha256(text).hexdigest()[:16]


def sweep(
    plan: Sweep,
    *,
    processes: int,
    kept: Path | None = None,
    tell: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run all cells that are not known yet; the whole result as a document.

    Args:
        plan: What to run.
        processes: How many at a time.
        kept: File of the cells that have run; appended to, and read at the start.
        tell: Called with the number of cells known, at the start and after each.

    Raises:
        ConfigError: The scenario is wrong, or the file is of another one.
    """
    loaded = load_scenario(plan.path, trace=plan.trace)
    policy_sets(loaded, plan.policies)  # Complains here rather than in every process.
    known = _read(kept, plan) if kept is not None else {}
    missing = [cell for cell in plan.cells() if cell not in known]
    done = len(plan.cells()) - len(missing)
    if tell is not None:
        tell(done)
    for cell, figures in _run(plan, missing, processes):
        known[cell] = figures
        if kept is not None:
            _append(kept, plan, cell, figures)
        if tell is not None:
            done += 1
            tell(done)
    return _document(plan, loaded, known)


def _run(plan: Sweep, cells: Sequence[Cell], processes: int) -> Iterator[tuple[Cell, Figures]]:
    if processes <= 1:
        yield from ((cell, _play(plan, cell)) for cell in cells)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        waiting = {pool.submit(_play, plan, cell): cell for cell in cells}
        for ended in as_completed(waiting):
            yield waiting[ended], ended.result()


def _play(plan: Sweep, cell: Cell) -> Figures:
    rate, name, seed = cell
    loaded = _loaded(plan.path, plan.trace)
    policies = policy_sets(loaded, [name])[name]
    factor = rate / loaded.plan.rate_per_s
    return play(loaded, name, policies, seed, rate_scale=factor).result.figures()


@lru_cache(maxsize=2)
def _loaded(path: Path, trace: TraceSpan) -> LoadedScenario:
    return load_scenario(path, trace=trace)


def _read(kept: Path, plan: Sweep) -> dict[Cell, Figures]:
    if not kept.exists():
        return {}
    known: dict[Cell, Figures] = {}
    for number, line in enumerate(kept.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            continue  # Ended while it was writing: the cell is run again.
        try:
            row = json.loads(line)
            cell = (row["rate_per_s"], row["policy"], row["seed"])
            is_ours = row["scenario"] == plan.fingerprint()
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{kept}:{number}: not a cell of a sweep; name another file with --keep"
            ) from None
        if not is_ours:
            raise ConfigError(
                f"{kept}:{number}: the cell is of another scenario, or of this one before it was "
                "changed; remove the file or name another one with --keep"
            )
        known[cell] = row["figures"]
    return known


def _append(kept: Path, plan: Sweep, cell: Cell, figures: Figures) -> None:
    rate, policy, seed = cell
    row = {
        "scenario": plan.fingerprint(),
        "rate_per_s": rate,
        "policy": policy,
        "seed": seed,
        "figures": figures,
    }
    text = kept.read_text(encoding="utf-8") if kept.exists() else ""
    if text and not text.endswith("\n"):
        kept.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _document(plan: Sweep, loaded: LoadedScenario, known: Mapping[Cell, Figures]) -> dict[str, Any]:
    points = []
    for rate in plan.rates:
        policies = {
            name: policy_document([(seed, known[rate, name, seed]) for seed in plan.seeds])
            for name in plan.policies
        }
        points.append({"rate_per_s": rate, "policies": policies})
    return {"slalom_sweep": RESULTS_VERSION, "scenario": loaded.file.name, "points": points}
