"""Models from Hugging Face: which GGUF file of a repository is meant, and is it here.

Owns the spelling ``hf:OWNER/NAME[@REVISION][:FILE-OR-QUANTISATION]``, the choice of a file and
looking into the library's cache on this machine. It never uses the network: `hub_download.py`
does. Called by `sources.py` and `hub_download.py`.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from slalom.errors import ModelError
from slalom.models.gguf_metadata import shard_files

#: Best first: what fits most machines and loses little comes before what is large.
QUANTISATION_PREFERENCE = (
    "Q4_K_M",
    "Q4_K_S",
    "Q5_K_M",
    "Q4_0",
    "IQ4_XS",
    "Q5_K_S",
    "Q6_K",
    "Q8_0",
    "MXFP4",
    "Q3_K_M",
    "F16",
    "BF16",
    "F32",
)
_SOURCE = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^:\s]+))?(:(?P<wanted>\S+))?"
)
#: Parts of GGUF names that mark something other than a model to serve.
_NOT_A_MODEL = re.compile(r"(^|[-_./])(mmproj|imatrix|lora|adapter)", re.IGNORECASE)
_REVISION = "main"


@dataclass(frozen=True, slots=True)
class Repository:
    """A parsed ``hf:`` source."""

    source: str
    repository: str
    revision: str
    #: A file name, a pattern, a quantisation, or empty: choose by preference.
    wanted: str


def parse(source: str) -> Repository:
    """Take an ``hf:`` source apart.

    Raises:
        ModelError: It is not spelled like one.
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ModelError(
            f"{source!r} is not a Hugging Face source: write hf:OWNER/NAME, or "
            "hf:OWNER/NAME:Q4_K_M to choose a quantisation or a file.",
            code="model_source_invalid",
        )
    return Repository(
        source, match["repository"], match["revision"] or _REVISION, match["wanted"] or ""
    )


def choose_file(repository: Repository, names: Iterable[str]) -> str:
    """Which of a repository's files `repository` means (the first one of a split model).

    Numbered: (1) a file named exactly; (2) a pattern or quantisation that leaves one model;
    (3) nothing asked for and one model there; (4) nothing asked for: the first of
    `QUANTISATION_PREFERENCE` that leaves one.

    Raises:
        ModelError: None fits, or several do; the message lists them.
    """
    models = [name for name in sorted(names) if _is_model(name)]
    wanted = repository.wanted
    if wanted in models:
        return wanted
    if wanted:
        pattern = wanted if any(c in wanted for c in "*?[") else None
        fitting = [n for n in models if _fits(n, wanted, pattern)]
    elif len(models) == 1:
        fitting = models
    else:
        by_preference = ([n for n in models if _has_part(n, q)] for q in QUANTISATION_PREFERENCE)
        fitting = next((found for found in by_preference if found), [])
    if len(fitting) == 1:
        return fitting[0]
    raise _choice_error(repository, models, fitting)


def local_snapshot(name: str) -> Path | None:
    """The folder of ``OWNER/NAME`` in the cache on this machine; None for anything else."""
    if _SOURCE.fullmatch(f"hf:{name}") is None:
        return None
    return _snapshot(parse(f"hf:{name}"))


def find_local(repository: Repository) -> Path:
    """The file of `repository` in Hugging Face's cache on this machine.

    Raises:
        ModelError: Not downloaded (`code` ``model_not_downloaded``), or not decidable.
    """
    snapshot = _snapshot(repository)
    names = (
        [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.gguf")]
        if snapshot
        else []
    )
    if snapshot is None or not names:
        raise ModelError(
            f"{repository.source} is not on this machine: run "
            f"`slalom models pull {repository.source}` first.",
            code="model_not_downloaded",
        )
    try:
        chosen = snapshot / choose_file(repository, names)
    except ModelError as error:
        if error.code != "model_file_not_found":
            raise
        raise ModelError(
            f"{repository.source} is not on this machine; of {repository.repository} there is "
            f"only {', '.join(sorted(names))}. Run `slalom models pull {repository.source}`.",
            code="model_not_downloaded",
        ) from error
    absent = [file.name for file in shard_files(chosen) if not file.exists()]
    if absent:
        raise ModelError(
            f"{repository.source} is not complete on this machine (without {absent[0]}"
            f"{' and others' if len(absent) > 1 else ''}): run "
            f"`slalom models pull {repository.source}` again.",
            code="model_not_downloaded",
        )
    return chosen


def _is_model(name: str) -> bool:
    if not name.endswith(".gguf") or _NOT_A_MODEL.search(name):
        return False
    # Of a split model only the first file is a choice.
    return shard_files(Path(name))[0] == Path(name)


def _fits(name: str, wanted: str, pattern: str | None) -> bool:
    if pattern is not None:
        return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(Path(name).name, pattern)
    return Path(name).name == wanted or _has_part(name, wanted)


def _has_part(name: str, part: str) -> bool:
    """Whether `part` (a quantisation) stands in `name` as a word of its own."""
    return (
        re.search(rf"(^|[-./]|[^A-Za-z]_)({re.escape(part)})($|[-./])", name, re.IGNORECASE)
        is not None
    )


def _choice_error(repository: Repository, models: list[str], fitting: list[str]) -> ModelError:
    where = f"{repository.repository} at {repository.revision}"
    if not models:
        return ModelError(
            f"{where} holds no GGUF model. Look for a repository whose name ends in -GGUF, or "
            "serve it with another engine.",
            code="model_no_gguf",
        )
    listed = ", ".join(fitting or models)
    if fitting:
        return ModelError(
            f"{repository.source} may mean any of {listed}. Write "
            f"hf:{repository.repository}:FILE with one of these names.",
            code="model_ambiguous",
        )
    asked = f"no file like {repository.wanted!r}" if repository.wanted else "no usual quantisation"
    return ModelError(
        f"{where} has {asked}; it has {listed}. Write hf:{repository.repository}:FILE with one "
        "of these names.",
        code="model_file_not_found",
    )


def _snapshot(repository: Repository) -> Path | None:
    """The cached snapshot folder of the revision, if there is one."""
    folder = Path(constants.HF_HUB_CACHE) / ("models--" + repository.repository.replace("/", "--"))
    try:
        commit = (folder / "refs" / repository.revision).read_text().strip()
    except OSError:
        commit = repository.revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None
