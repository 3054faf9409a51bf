"""The whole configuration as one frozen object, and the rules that span sections.

Owns `Config`: what may be written, what holds where nothing is written, which names must exist.
Owns no reading of files (`load`) and no conversion for the core (`params`).
"""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from slalom.config.engine_sections import LlamaCppEngine, ModelSection
from slalom.config.fields import Section
from slalom.config.scheduler_section import SchedulerSection
from slalom.config.sections import (
    DeviceSection,
    JournalSection,
    KeySection,
    LogSection,
    RuleSection,
    ServerSection,
    TaskSection,
)

#: Models served when nothing is configured: they come with the package.
BUNDLED_MODELS = ("slalom-mini", "slalom-small")


def _bundled() -> tuple[ModelSection, ...]:
    return tuple(
        ModelSection(id=name, engine=LlamaCppEngine(source=f"bundled:{name}"))
        for name in BUNDLED_MODELS
    )


class Config(Section):
    """Everything that can be configured. Every section may be left out."""

    server: ServerSection = Field(default_factory=ServerSection, description="The HTTP server.")
    keys: tuple[KeySection, ...] = Field(
        (), description="API keys. Without any, the server answers on loopback only."
    )
    scheduler: SchedulerSection = Field(
        default_factory=SchedulerSection, description="Policies and bounds of the scheduler."
    )
    devices: tuple[DeviceSection, ...] = Field(
        (DeviceSection(),), description="Memory that models share, with its budget."
    )
    models: tuple[ModelSection, ...] = Field(
        default_factory=_bundled,
        description="Models that can be asked for. Without any, the bundled ones.",
    )
    tasks: dict[str, TaskSection] = Field(
        default_factory=dict,
        description="Targets per task, over the built-in tasks; a new name makes a new task.",
    )
    rules: tuple[RuleSection, ...] = Field(
        (), description="How tasks are recognised, before the built-in rules."
    )
    journal: JournalSection = Field(default_factory=JournalSection, description="The journal.")
    log: LogSection = Field(default_factory=LogSection, description="The log on stderr.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("keys", (key.name for key in self.keys))
        _unique("devices", (device.id for device in self.devices))
        _unique("models", (n for model in self.models for n in (model.id, *model.aliases)))
        return self


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}: the name {name!r} is given twice")
        seen.add(name)
