"""What is known of engines' step times across runs: read at the start, kept while serving.

Owns the choice between a profile that `slalom calibrate` stored and what earlier traffic taught
(the newer one counts), and the file of the latter, which lies beside the profile under the same
key. Owns no fit. Called by `parts` and `serving`.
"""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from slalom.bench.calibrate_store import key_of, profiles_dir, stored
from slalom.config.engine_sections import LlamaCppEngine, ModelSection
from slalom.core.planning import Learned
from slalom.core.request import ModelSpec, StepCost
from slalom.twin.step_costs import cost_of_profile

_log = logging.getLogger(__name__)

#: Traffic teaches something worth keeping from so many seconds of steps on, …
_SEEN_MIN_S = 5.0
#: … if what it taught is off by no more than this.
_ERROR_MAX = 0.5
#: Tokens in one step of an engine that does not say.
_BUDGET_TOKENS = 8_192


class CostStore:
    """The step costs of the configured models.

    Args:
        models: As configured; their keys depend on files, so reading them may take a while.
        directory: Where profiles are kept.

    Raises:
        ModelError: A model's file is missing or damaged.
    """

    def __init__(self, models: Sequence[ModelSection], directory: Path | None = None) -> None:
        self._folder = directory or profiles_dir()
        self._models = {model.id: model for model in models}
        self._keys = {model.id: key_of(model) for model in models}
        #: Seconds of steps behind what was last written, by model.
        self._saved_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"CostStore({self._folder}, models={len(self._models)})"

    def tell(self, specs: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models, with what is known of them."""
        return tuple(replace(spec, step_cost=self.known(spec.id)) for spec in specs)

    def take_over(self, other: "CostStore") -> None:
        """Know these models too, or as they are now."""
        self._models |= other._models  # noqa: SLF001 - its own class
        self._keys |= other._keys  # noqa: SLF001
        for model_id in other._models:  # noqa: SLF001
            self._saved_s.pop(model_id, None)

    def known(self, model_id: str) -> StepCost | None:
        """What a model's steps take as far as anybody has found out on this machine."""
        learned_path = self._path(model_id)
        profile_path = self._folder / f"{self._keys[model_id].digest}.json"
        learned = _read(learned_path)
        profile = stored(self._keys[model_id], directory=self._folder)
        if learned is not None and (profile is None or _is_newer(learned_path, profile_path)):
            return learned
        if profile is None:
            return None
        engine = self._models[model_id].engine
        if isinstance(engine, LlamaCppEngine):
            found = cost_of_profile(
                profile,
                places=engine.places,
                budget_tokens=engine.batch_tokens,
                micro_batch=engine.micro_batch_tokens,
            )
        else:
            found = cost_of_profile(profile, places=engine.places, budget_tokens=_BUDGET_TOKENS)
        return found.cost

    def save(self, learned: Iterable[Learned]) -> None:
        """Keep what traffic has taught, where that is new and good; a failure is only logged."""
        for one in learned:
            good = one.healthy and 0.0 <= one.step_error <= _ERROR_MAX
            if not good or one.seen_s < max(_SEEN_MIN_S, self._saved_s.get(one.model, 0.0) + 1.0):
                continue
            path = self._path(one.model)
            document = {"model": one.model, "seen_s": round(one.seen_s, 1)}
            document |= {"step_cost": asdict(one.step_cost), "key": asdict(self._keys[one.model])}
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                fresh = path.with_suffix(".new")
                fresh.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
                fresh.replace(path)
            except OSError as error:
                _log.warning("cannot keep the learned step times in %s: %s", path, error.strerror)
                return
            self._saved_s[one.model] = one.seen_s

    def _path(self, model_id: str) -> Path:
        return self._folder / f"{self._keys[model_id].digest}.learned.json"


def _read(path: Path) -> StepCost | None:
    """A step cost that was learned; None if there is none or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))["step_cost"]
        known = {field.name for field in fields(StepCost)}
        numbers = {name: float(value) for name, value in document.items() if name in known}
        cost = StepCost(**numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return cost if _is_sound(numbers) else None


def _is_sound(numbers: Mapping[str, float]) -> bool:
    """Whether a step takes some time, and more never takes less."""
    bounded = all(value >= 0 for name, value in numbers.items() if name != "sequence_sq_ns")
    return bounded and numbers["step_ns"] > 0 and all(map(math.isfinite, numbers.values()))


def _is_newer(path: Path, other: Path) -> bool:
    return path.stat().st_mtime_ns >= other.stat().st_mtime_ns
