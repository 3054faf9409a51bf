"""Where things of the configuration lie on this machine: relative paths, folders, free memory.

Owns the rule that a relative path in the file starts at the file's folder, the journal's folder,
and how much memory `auto` is. Called by `load`, `params`, assembly and the command line.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from slalom.config.engine_sections import LlamaCppEngine, ModelSection, RemoteEngine
from slalom.config.fields import AUTO
from slalom.config.origins import Origins
from slalom.config.schema import Config
from slalom.config.sections import BatchesSection, JournalSection, KeySection, MeasurementsSection
from slalom.config.vllm_section import VllmEngine

_CGROUP = Path("/sys/fs/cgroup")


def anchor(config: Config, origins: Origins) -> Config:
    """The configuration with the file's relative paths made absolute."""
    if origins.file is None:
        return config
    base = origins.file.absolute().parent
    models = tuple(
        _anchor_model(model, base) if origins.from_file(("models", index)) else model
        for index, model in enumerate(config.models)
    )
    keys = tuple(
        _anchor_key(key, base) if origins.from_file(("keys", index)) else key
        for index, key in enumerate(config.keys)
    )
    journal = config.journal
    if journal.dir not in {AUTO, "none"} and origins.from_file(("journal", "dir")):
        journal = journal.model_copy(update={"dir": str(base / Path(journal.dir).expanduser())})
    kept = config.measurements
    if kept.file not in {AUTO, "none"} and origins.from_file(("measurements", "file")):
        kept = kept.model_copy(update={"file": str(base / Path(kept.file).expanduser())})
    batches = config.batches
    if batches.dir not in {AUTO, "none"} and origins.from_file(("batches", "dir")):
        batches = batches.model_copy(update={"dir": str(base / Path(batches.dir).expanduser())})
    changed = {"models": models, "keys": keys, "journal": journal, "measurements": kept}
    changed["batches"] = batches
    return config.model_copy(update=changed)


def is_path(source: str) -> bool:
    """Whether a model source is a path, not ``bundled:…`` or ``hf:…``."""
    return not source.startswith(("bundled:", "hf:"))


def _anchor_model(model: ModelSection, base: Path) -> ModelSection:
    engine = model.engine
    if isinstance(engine, LlamaCppEngine):
        changed = {}
        if is_path(engine.source):
            changed["source"] = str(base / Path(engine.source).expanduser())
        template = engine.chat_template
        if template and "{" not in template:  # A path, then: Jinja has braces.
            changed["chat_template"] = str(base / Path(template).expanduser())
        return model.model_copy(update={"engine": engine.model_copy(update=changed)})
    if isinstance(engine, VllmEngine):
        changed = {}
        if (folder := base / Path(engine.model).expanduser()).is_dir():
            changed["model"] = str(folder)
        if engine.chat_template:
            changed["chat_template"] = str(base / Path(engine.chat_template).expanduser())
        return model.model_copy(update={"engine": engine.model_copy(update=changed)})
    if isinstance(engine, RemoteEngine) and engine.api_key_file is not None:
        file = base / engine.api_key_file.expanduser()
        return model.model_copy(update={"engine": engine.model_copy(update={"api_key_file": file})})
    return model


def _anchor_key(key: KeySection, base: Path) -> KeySection:
    if key.key_file is None:
        return key
    return key.model_copy(update={"key_file": base / key.key_file.expanduser()})


def journal_dir(journal: JournalSection, environ: Mapping[str, str] | None = None) -> Path | None:
    """The journal's folder, or None where no journal is written."""
    if journal.dir == "none":
        return None
    if journal.dir != AUTO:
        return Path(journal.dir).expanduser()
    return state_dir(environ) / "journal"


def batches_dir(batches: BatchesSection, environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder of files and batches, or None where there are none."""
    if batches.dir == "none":
        return None
    return state_dir(environ) / "batches" if batches.dir == AUTO else Path(batches.dir).expanduser()


def measurements_file(section: MeasurementsSection) -> Path | None:
    """The file of what models were measured to cost, or None where nothing is remembered."""
    if section.file == "none":
        return None
    return (
        state_dir() / "models.sqlite" if section.file == AUTO else Path(section.file).expanduser()
    )


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Slalom's folder for what it remembers across starts; it may not exist."""
    env = os.environ if environ is None else environ
    state = env.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "slalom"


def available_bytes(mapped_bytes: int = 0) -> int:
    """Memory that new processes may take now: the machine's, or less if a cgroup limits us.

    Args:
        mapped_bytes: Of files that our own processes have mapped and need: the kernel counts them
            as available, because it could drop them.
    """
    free = int(psutil.virtual_memory().available) - mapped_bytes
    limit = _cgroup_room()
    return free if limit is None else max(0, min(free, limit))


def _cgroup_room(root: Path = _CGROUP) -> int | None:
    """Bytes left below the control group's limit (version 2, then 1); None where there is none."""
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = (root / limit_name).read_text().strip()
            used = (root / used_name).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal() and used.isdecimal():
            return int(limit) - int(used)
    return None
