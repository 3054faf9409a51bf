"""What a configuration that was read anew changes: model by model, and whether at once.

Owns which options take effect in a running server, which give a model another engine, and which
need a restart; and the configuration that is then in force. Pure. Called by assembly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from slalom.config.engine_sections import ModelSection
from slalom.config.fields import Section
from slalom.config.schema import Config
from slalom.errors import ConfigError


class Fate(StrEnum):
    """What becomes of a model."""

    #: Its processes, requests and what was learned of it are left alone.
    UNTOUCHED = "untouched"
    #: It can be asked for from now on.
    ADDED = "added"
    #: It gets another engine: what runs ends on the old one, and the next load takes the new one.
    REPLACED = "replaced"
    #: Only what is done with it changes, at once; its processes are left alone.
    ADJUSTED = "adjusted"
    #: It takes nothing new; what waits or runs for it ends, then its processes do.
    REMOVED = "removed"


#: Options of a model for which its processes need not change.
_ADJUSTABLE = frozenset(
    {
        "aliases",
        "replicas",
        "pinned",
        "preload",
        "swap",
        "apart",
        "idle_sleep_seconds",
        "idle_unload_seconds",
        "tool_hold_seconds",
        "max_tokens_default",
        "default_task",
        "tasks",
    }
)
#: Sections that take effect at once, as a whole.
_LIVE_SECTIONS = ("keys", "aliases", "tasks", "rules", "chains")
#: Options of these sections that do; all others of them need a restart.
_LIVE_OPTIONS = {
    "server": (
        "max_answer_mib",
        "wait_comment_after_ms",
        "wait_comment_every_ms",
        "drain_seconds",
        "starving_seconds",
        "default_task",
        "default_max_tokens",
        "tools_max_tokens",
    ),
    "log": ("level",),
}


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One model, and what became of it."""

    model: str
    fate: Fate
    #: Its options that differ, as dotted paths.
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs."""

    #: In the order of the new configuration, then those that it does not have any more.
    models: tuple[ModelChange, ...]
    #: Sections and options beside the models that take effect at once.
    applied: tuple[str, ...]
    #: Those that need a restart, and have no effect until then.
    needs_restart: tuple[str, ...]
    #: What is in force: the new configuration, but for those.
    effective: Config

    def named(self, *fates: Fate) -> tuple[str, ...]:
        """Models with one of these fates."""
        return tuple(one.model for one in self.models if one.fate in fates)


def difference(old: Config, new: Config) -> Difference:
    """Compare what is in force with what was read.

    Raises:
        ConfigError: A model is on a device that is only there after a restart.
    """
    paths = [path for path in differing(old, new) if path.partition(".")[0] != "models"]
    live = {f"{name}.{option}" for name, options in _LIVE_OPTIONS.items() for option in options}
    applied = tuple(path for path in paths if path in live or path in _LIVE_SECTIONS)
    _check_devices(old, new)
    return Difference(
        models=tuple(_models(old, new)),
        applied=applied,
        needs_restart=tuple(path for path in paths if path not in applied),
        effective=_effective(old, new),
    )


def differing(old: Section, new: Section, above: str = "") -> Iterator[str]:
    """Dotted paths of the options that differ; a list or a table counts as a whole."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section) and type(before) is type(after):
            yield from differing(before, after, f"{above}{name}.")
        elif before != after:
            yield above + name


def _models(old: Config, new: Config) -> Iterator[ModelChange]:
    before = {model.id: model for model in old.models}
    for model in new.models:
        known = before.pop(model.id, None)
        yield ModelChange(model.id, Fate.ADDED) if known is None else _compared(known, model)
    for name in before:
        yield ModelChange(name, Fate.REMOVED)


def _compared(old: ModelSection, new: ModelSection) -> ModelChange:
    paths = tuple(differing(old, new))
    if not paths:
        return ModelChange(new.id, Fate.UNTOUCHED)
    adjusted = all(path in _ADJUSTABLE for path in paths)
    return ModelChange(new.id, Fate.ADJUSTED if adjusted else Fate.REPLACED, paths)


def _check_devices(old: Config, new: Config) -> None:
    known = [device.id for device in old.devices]
    for model in new.models:
        for name in model.homes:
            if name not in known:
                raise ConfigError(
                    f"models: {model.id!r} is placed on device {name!r}, which this server was not "
                    f"started with (it has {', '.join(known)}): devices change with a restart only"
                )


def _effective(old: Config, new: Config) -> Config:
    kept: dict[str, Any] = {
        name: getattr(old, name)
        for name in Config.model_fields
        if name not in (*_LIVE_SECTIONS, "models")
    }
    for name, options in _LIVE_OPTIONS.items():
        read = {option: getattr(getattr(new, name), option) for option in options}
        kept[name] = kept[name].model_copy(update=read)
    return new.model_copy(update=kept)
