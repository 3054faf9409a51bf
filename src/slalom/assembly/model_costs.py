"""What configured models cost, from what was measured on this machine before.

Owns what a measurement of a model depends on here, and which remembered figures the scheduler is
told: memory where the configuration leaves it to us, and what a load and a wake take. Called by
`parts`, the recorder and `slalom models`.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slalom.bench.calibrate_store import device_name, engine_name
from slalom.config.command_memory import model_files
from slalom.config.engine_sections import LlamaCppEngine, ModelSection, RemoteEngine
from slalom.config.fields import AUTO
from slalom.config.footprint import llama_cpp_estimate
from slalom.config.places import measurements_file
from slalom.config.schema import Config
from slalom.config.vllm_memory import vllm_files
from slalom.config.vllm_section import VllmEngine
from slalom.core.request import ModelSpec
from slalom.errors import ModelError
from slalom.models.identity import identity
from slalom.models.measurements import (
    Known,
    Measurement,
    Quantity,
    Subject,
    Tier,
    booked_bytes,
    expected_ns,
)
from slalom.models.sources import resolve
from slalom.models.store import MetadataStore

_log = logging.getLogger(__name__)

#: Options that change nothing about what a model costs.
_NO_COST = {"source", "env", "ready_timeout_seconds", "chat_template", "fim", "stop_cmd"}
#: What a load is expected to take: a model that is loaded again soon is in the page cache.
_LOAD_FROM = (Tier.PAGE_CACHE, Tier.MIXED, Tier.DISK)
_SLEEP_TIERS = {1: Tier.HOST, 2: Tier.DROPPED}


@dataclass(frozen=True, slots=True)
class Measured:
    """A model that can be measured here."""

    section: ModelSection
    subject: Subject
    #: Its files, as far as they are known; their place in the page cache is a load's tier.
    files: tuple[Path, ...]


class ModelCosts:
    """The costs of the configured models.

    Args:
        config: The models and the file that remembers.

    Raises:
        ModelError: A model's file is missing or damaged.
    """

    def __init__(self, config: Config) -> None:
        path = measurements_file(config.measurements)
        self.store = MetadataStore(path) if path is not None else None
        self._memory = config.measurements.memory
        self.models = {model.id: made for model in config.models if (made := measured(model))}

    def __repr__(self) -> str:
        return f"ModelCosts({self.store}, models={len(self.models)})"

    def tell(self, specs: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models, with what was measured in the place of what was estimated."""
        return tuple(self._told(spec) for spec in specs)

    def known(self, model_id: str) -> Known:
        """What is remembered of a model; nothing if the file cannot be used, which is logged."""
        made = self.models.get(model_id)
        if made is None or self.store is None:
            return {}
        try:
            return self.store.known(made.subject)
        except ModelError as problem:
            _log.warning("%s", problem)
            return {}

    def take_over(self, other: "ModelCosts") -> None:
        """Know these models too, or as they are now."""
        self.models |= other.models

    def keep(self, model_id: str, figures: Sequence[Measurement]) -> None:
        """Remember figures of a model; a failure is only logged. Takes a disk's time."""
        if (made := self.models.get(model_id)) is not None:
            self.keep_of(made, figures)

    def keep_of(self, made: Measured, figures: Sequence[Measurement]) -> None:
        """The same of a model as it was then."""
        if self.store is None or not figures:
            return
        try:
            self.store.keep(made.subject, figures)
        except ModelError as problem:
            _log.warning("%s", problem)

    def _told(self, spec: ModelSpec) -> ModelSpec:
        known = self.known(spec.id)
        if not known:
            return spec
        section = self.models[spec.id].section
        told = replace(
            spec,
            load_ns=spec.load_ns or expected_ns(known, Quantity.LOAD, _LOAD_FROM),
            wake_ns=spec.wake_ns or self._wake_ns(known, spec.sleep_level),
        )
        # vLLM takes what it is told to: booking what it took would tell it to take more.
        as_told = isinstance(section.engine, VllmEngine)
        if not self._memory or section.memory != AUTO or as_told:
            return told
        needed = booked_bytes(known, estimated=spec.bytes_needed, work=_work_bytes(section))
        return replace(told, bytes_needed=needed or spec.bytes_needed)

    @staticmethod
    def _wake_ns(known: Known, level: int) -> int:
        return expected_ns(known, Quantity.WAKE, (_SLEEP_TIERS[level],)) if level else 0


def measured(model: ModelSection) -> Measured | None:
    """How a model is measured here; None for one that somebody else runs.

    Raises:
        ModelError: Its file is missing or damaged.
    """
    engine = model.engine
    if isinstance(engine, RemoteEngine):
        return None
    if isinstance(engine, LlamaCppEngine):
        name, files = model.id, resolve(engine.source).metadata.files
    elif isinstance(engine, VllmEngine):
        name, files = engine.model, vllm_files(engine)
    else:
        name, files = engine.model_name or model.id, model_files(engine)
    options = engine.model_dump(mode="json", exclude=_NO_COST)
    subject = Subject(
        model=_identity(files) if files else name,
        engine=engine_name(engine),
        device=f"{device_name()}: {model.homes[0]}",
        options=json.dumps(options, sort_keys=True),
        name=model.id,
    )
    return Measured(model, subject, files)


def sleep_tier(level: int) -> Tier:
    """Where the weights of a model that sleeps at this level are."""
    return _SLEEP_TIERS[level]


def _work_bytes(section: ModelSection) -> int:
    """What a replica may grow by as its context fills."""
    if not isinstance(section.engine, LlamaCppEngine):
        return 0
    return llama_cpp_estimate(section.engine, resolve(section.engine.source).metadata).compute


def _identity(files: tuple[Path, ...]) -> str:
    try:
        return identity(files)
    except OSError as problem:
        raise ModelError(
            f"cannot read {problem.filename}: {problem.strerror}; check the path in the model's "
            "source, and its permissions"
        ) from problem
