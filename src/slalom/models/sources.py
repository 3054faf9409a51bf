"""Where a model comes from: a GGUF path, a bundled name, or a Hugging Face repository.

Owns the spelling of sources and finding their files on this machine. `resolve` never touches
the network; `pull` may, for `hf:` sources, through `hugging_face.py`. Called by the engines,
the assembly and `slalom models`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from slalom.errors import ModelError
from slalom.models import hugging_face
from slalom.models.gguf_metadata import ModelMetadata, read_metadata

#: Told (bytes present, bytes in all; 0 where unknown).
OnBytes = Callable[[int, int], None]

BUNDLED_PREFIX = "bundled:"
HUGGING_FACE_PREFIX = "hf:"
_DATA = Path(__file__).with_name("data")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose files are on this machine."""

    #: As it was asked for.
    source: str
    #: The file to give to an engine (the first one of a split model).
    path: Path
    metadata: ModelMetadata


def bundled() -> tuple[LocalModel, ...]:
    """The models that come with Slalom, smallest first."""
    models = [
        LocalModel(f"{BUNDLED_PREFIX}{path.stem}", path, read_metadata(path))
        for path in sorted(_DATA.glob("*.gguf"))
    ]
    return tuple(sorted(models, key=lambda model: (model.metadata.file_bytes, model.source)))


def resolve(source: str, *, base: Path | None = None) -> LocalModel:
    """Find the files of `source` on this machine and read their metadata.

    Args:
        source: ``bundled:NAME``, ``hf:OWNER/NAME[:FILE-OR-QUANTISATION]`` or a path to a GGUF
            file (``~`` is expanded).
        base: Folder that a relative path starts from: the configuration file's. The current
            folder where not given.

    Raises:
        ModelError: It is not here (`code` ``model_missing`` or ``model_not_downloaded``),
            ambiguous, or damaged.
    """
    if source.startswith(BUNDLED_PREFIX):
        path = _bundled_path(source.removeprefix(BUNDLED_PREFIX))
    elif source.startswith(HUGGING_FACE_PREFIX):
        path = hugging_face.find_local(hugging_face.parse(source))
    else:
        path = _file_path(source, base)
    return LocalModel(source, path, read_metadata(path))


def pull(
    source: str, *, base: Path | None = None, on_progress: OnBytes | None = None
) -> LocalModel:
    """Make `source` available on this machine, downloading it if it is an ``hf:`` source.

    Honours Hugging Face's cache folder, token and offline mode (``HF_HOME``, ``HF_TOKEN``,
    ``HF_HUB_OFFLINE``). A file already there is not fetched again.

    Args:
        source: As for `resolve`.
        base: As for `resolve`.
        on_progress: Told (bytes present, bytes in all) as files arrive; called from other
            threads.

    Raises:
        ModelError: Offline, no such repository or file, ambiguous, or damaged.
    """
    if source.startswith(HUGGING_FACE_PREFIX):
        # Only a download needs the library's client, which takes a second to import.
        from slalom.models.hub_download import download  # noqa: PLC0415

        download(hugging_face.parse(source), on_progress)
    return resolve(source, base=base)


def _bundled_path(name: str) -> Path:
    known = sorted(path.stem for path in _DATA.glob("*.gguf"))
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {BUNDLED_PREFIX}{near[0]}? " if near else ""
        raise ModelError(
            f"there is no bundled model {name!r}. {hint}Bundled are: {', '.join(known)}.",
            code="model_missing",
        )
    return _DATA / f"{name}.gguf"


def _file_path(source: str, base: Path | None) -> Path:
    if not source.strip():
        raise ModelError(
            "a model's source is empty: write a path to a GGUF file, bundled:NAME or "
            "hf:OWNER/NAME.",
            code="model_missing",
        )
    path = Path(source).expanduser()
    path = path if path.is_absolute() else (base or Path.cwd()) / path
    if not path.exists():
        known = {model.stem for model in _DATA.glob("*.gguf")}
        hint = f" For the bundled model write {BUNDLED_PREFIX}{source}." if source in known else ""
        raise ModelError(
            f"there is no model file {path}: check the path in the model's source.{hint}",
            code="model_missing",
        )
    if path.is_dir():
        raise ModelError(
            f"{path} is a folder: name the GGUF file in it that you want to serve.",
            code="model_missing",
        )
    return path
