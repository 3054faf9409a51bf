"""Where calibrated step profiles are kept, and under which key they are found again.

Owns the key (engine and its version, device, the engine's options, the model file's hash), the
folder in the user's state folder and the form of a file. A profile that was measured with anything
else is not found. Called by `slalom calibrate` and by whoever wants a profile of a model.
"""

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from slalom.config.engine_sections import (
    CommandEngine,
    EngineChoice,
    LlamaCppEngine,
    ModelSection,
)
from slalom.config.vllm_section import VllmEngine
from slalom.errors import ConfigError
from slalom.models.sources import resolve
from slalom.twin.step_time import StepProfile, load_profile, save_profile

_CPU_INFO = Path("/proc/cpuinfo")
_PIECE_BYTES = 1 << 20
#: Hashing a smaller file takes no time worth a note.
_REMEMBERED_FROM_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile depends on."""

    #: Engine and version.
    engine: str
    #: Processor, and GPUs where the engine may use some.
    device: str
    #: The engine's options, as JSON.
    flags: str
    #: SHA-256 of the model file; empty where there is none here.
    model_sha256: str

    @property
    def digest(self) -> str:
        """Short name of the key."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(model: ModelSection) -> ProfileKey:
    """The key of a configured model on this machine.

    Raises:
        ModelError: The model's file is missing or damaged.
    """
    engine = model.engine
    flags = engine.model_dump(mode="json", exclude={"source", "env"})
    text = json.dumps(flags, sort_keys=True)
    name = engine_name(engine)
    if isinstance(engine, LlamaCppEngine):
        return ProfileKey(name, device_name(), text, _file_sha256(resolve(engine.source).path))
    return ProfileKey(name, device_name(), text, "")


def engine_name(engine: EngineChoice) -> str:
    """The kind of an engine, with its version where that is known before it runs."""
    if isinstance(engine, LlamaCppEngine):
        return f"llama.cpp (xllamacpp {_version('xllamacpp')})"
    if isinstance(engine, VllmEngine):
        return "vllm"  # its version is known to its own Python alone
    return "command" if isinstance(engine, CommandEngine) else f"remote {engine.base_url}"


def device_name() -> str:
    """The processor's name and its number of cores; with the machine's GPUs, if any are seen."""
    name = platform.processor() or platform.machine()
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    gpus = sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    return f"{name}, {os.cpu_count()} cores" + (f", {len(gpus)} NVIDIA GPUs" if gpus else "")


def profiles_dir() -> Path:
    """The folder of stored profiles; it may not exist."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "slalom" / "profiles"


def store(profile: StepProfile, key: ProfileKey, *, directory: Path | None = None) -> Path:
    """Write a profile under its key; an older one is replaced.

    Raises:
        ConfigError: The folder cannot be written.
    """
    folder = directory or profiles_dir()
    path = folder / f"{key.digest}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The key lies beside the profile, so that a scenario can name the profile's file.
        text = json.dumps(asdict(key), indent=2) + "\n"
        path.with_suffix(".key.json").write_text(text, encoding="utf-8")
        save_profile(profile, path)
    except OSError as error:
        raise ConfigError(
            f"cannot store the profile in {folder}: {error.strerror}; name a file with --out"
        ) from error
    return path


def stored(key: ProfileKey, *, directory: Path | None = None) -> StepProfile | None:
    """The profile that was stored under this key; None if there is none or it is damaged."""
    path = (directory or profiles_dir()) / f"{key.digest}.json"
    try:
        return load_profile(path)
    except ConfigError:
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _file_sha256(path: Path) -> str:
    """The file's hash; that of a large one is remembered until its size or date changes."""
    about = path.stat()
    if about.st_size < _REMEMBERED_FROM_BYTES:
        return _computed_sha256(path)
    name = f"{path.resolve()}|{about.st_size}|{about.st_mtime_ns}"
    notes = profiles_dir() / "hashes.json"
    try:
        known = json.loads(notes.read_text(encoding="utf-8"))
        if isinstance(known.get(name), str):
            return str(known[name])
    except (OSError, ValueError, AttributeError):
        known = {}
    found = _computed_sha256(path)
    # Without the note it is only slower the next time.
    with contextlib.suppress(OSError):
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps({**known, name: found}, indent=2) + "\n", encoding="utf-8")
    return found


def _computed_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
