"""The whole configuration as one frozen object, and the rules that span sections.

Owns `Config`: what may be written, what holds where nothing is written, which names must exist.
Owns no reading of files (`load`) and no conversion for the core (`params`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from slalom.config.alias_section import AliasSection, complaints
from slalom.config.chain_sections import ChainSection
from slalom.config.engine_sections import CommandEngine, LlamaCppEngine, ModelSection
from slalom.config.fields import Section
from slalom.config.nearest import nearest
from slalom.config.ray_section import RaySection
from slalom.config.scheduler_section import SchedulerSection
from slalom.config.sections import (
    BatchesSection,
    CompletionCacheSection,
    DeviceSection,
    JournalSection,
    KeySection,
    LogSection,
    MeasurementsSection,
    RuleSection,
    ServerSection,
    TaskSection,
)
from slalom.config.vllm_section import VllmEngine
from slalom.workload.tasks import DEFAULT_TASKS

#: Models served when nothing is configured (they come with the package), and the task names
#: that stand for each.
BUNDLED_MODELS = {
    "slalom-mini": ("completion", "completion-multiline"),
    "slalom-small": ("generation", "chat", "agent", "summarisation", "translation"),
}


def _bundled() -> tuple[ModelSection, ...]:
    return tuple(
        ModelSection(id=name, engine=LlamaCppEngine(source=f"bundled:{name}"), tasks=tasks)
        for name, tasks in BUNDLED_MODELS.items()
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
    aliases: tuple[AliasSection, ...] = Field(
        (), description="Names that stand for several models, of which one is chosen."
    )
    tasks: dict[str, TaskSection] = Field(
        default_factory=dict,
        description="Targets per task, over the built-in tasks; a new name makes a new task.",
    )
    rules: tuple[RuleSection, ...] = Field(
        (), description="How tasks are recognised, before the built-in rules."
    )
    chains: dict[str, ChainSection] = Field(
        default_factory=dict,
        description="Chains of calls with one deadline, which calls may name as their template.",
    )
    completion_cache: CompletionCacheSection = Field(
        default_factory=CompletionCacheSection,
        description="What is answered out of earlier completions.",
    )
    journal: JournalSection = Field(default_factory=JournalSection, description="The journal.")
    batches: BatchesSection = Field(
        default_factory=BatchesSection, description="Files and batches of requests."
    )
    measurements: MeasurementsSection = Field(
        default_factory=MeasurementsSection, description="What models were measured to cost."
    )
    ray: RaySection = Field(
        default_factory=RaySection, description="A server on a Ray cluster (serve --on ray)."
    )
    log: LogSection = Field(default_factory=LogSection, description="The log on stderr.")

    def task_names(self) -> list[str]:
        """Every task there is: the built-in ones, then the configured ones."""
        return list(dict.fromkeys([*DEFAULT_TASKS, *self.tasks]))

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        tasks, devices = self.task_names(), [device.id for device in self.devices]
        _known("server.default_task", self.server.default_task, "task", tasks)
        for index, key in enumerate(self.keys):
            _known(f"keys[{index}].task", key.task, "task", tasks)
            _known(f"keys[{index}].ceiling", key.ceiling, "task", tasks)
        for index, model in enumerate(self.models):
            at = f"models[{index}]"
            for name in model.homes:
                _known(f"{at}.device", name, "device", devices)
            _homes_agree(at, model, self.devices)
            _known(f"{at}.default_task", model.default_task, "task", tasks)
            for task in model.tasks:
                _known(f"{at}.tasks", task, "task", tasks)
        models = [name for model in self.models for name in (model.id, *model.aliases)]
        for name, chain in self.chains.items():
            for index, step in enumerate(chain.steps):
                _known(f"chains.{name}.steps[{index}].model", step.model, "model", models)
                _known(f"chains.{name}.steps[{index}].task", step.task, "task", tasks)
        for index, rule in enumerate(self.rules):
            _known(f"rules[{index}].task", rule.task, "task", tasks)
        return self

    @model_validator(mode="after")
    def _sleepers_can_sleep(self) -> Self:
        hosts = {device.id: device.host for device in self.devices}
        gpus = {device.id: device.gpu for device in self.devices}
        for index, device in enumerate(self.devices):
            others = [name for name in hosts if name != device.id]
            _known(f"devices[{index}].host", device.host, "other device", others)
        for index, model in enumerate(self.models):
            at = f"models[{index}].sleep_level"
            if not model.sleep_level:
                continue
            if not _can_sleep(model, gpus):
                raise ValueError(
                    f"{at}: its engine cannot sleep; vllm can on a device with a gpu, and a "
                    "command whose engine has sleep: vllm"
                )
            homeless = [name for name in model.homes if hosts[name] is None]
            if model.sleep_level == 1 and homeless:
                raise ValueError(
                    f"{at}: device {homeless[0]!r} has no host memory to sleep in; give it "
                    "host: NAME of a device with the budget, or use level 2"
                )
        return self

    @model_validator(mode="after")
    def _vllm_knows_its_device(self) -> Self:
        gpus = {device.id: device.gpu for device in self.devices}
        for index, model in enumerate(self.models):
            if not isinstance(model.engine, VllmEngine):
                continue
            for home in model.homes:
                if gpus[home] is None and home != "host":
                    raise ValueError(
                        f"models[{index}].device: vLLM must know which GPU {home!r} is; give that "
                        "device gpu: and its index, or use the device host for a CPU"
                    )
                if gpus[home] is None and model.engine.tensor_parallel > 1:
                    raise ValueError(
                        f"models[{index}].engine.tensor_parallel: device {home!r} is no GPU; leave "
                        "it at 1"
                    )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("keys", (key.name for key in self.keys))
        _unique("devices", (device.id for device in self.devices))
        taken = [name for model in self.models for name in (model.id, *model.aliases)]
        _unique("models", taken)
        ids = [model.id for model in self.models]
        for index, (field, what) in complaints(self.aliases, ids, taken, self.task_names()):
            raise ValueError(f"aliases[{index}].{field}: {what}")
        return self


def _can_sleep(model: ModelSection, gpus: Mapping[str, int | None]) -> bool:
    engine = model.engine
    if isinstance(engine, VllmEngine):
        return all(gpus[home] is not None for home in model.homes)
    return isinstance(engine, CommandEngine) and engine.sleep != "none"


def _known(where: str, name: str | None, what: str, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{where}: there is no {what} {name!r}; {nearest(name, known)}")


def _homes_agree(at: str, model: ModelSection, devices: Sequence[DeviceSection]) -> None:
    """Several devices take the place of one, each is named once, and none has a window."""
    if not model.devices:
        return
    if "device" in model.model_fields_set:
        raise ValueError(f"{at}: it has device and devices; write one of the two")
    _unique(f"{at}.devices", model.devices)
    bounded = [one.id for one in devices if one.id in model.devices and one.window != 0]
    if bounded and len(model.devices) > 1:
        raise ValueError(
            f"{at}.devices: device {bounded[0]!r} has a window; a model with a choice of devices "
            "is bounded by its places: give the device window: 0"
        )


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}: the name {name!r} is given twice")
        seen.add(name)
