"""Fetches a model from Hugging Face into that library's cache.

Owns the calls to `huggingface_hub`, the progress over all files and the translation of its
errors into ours. Importing it takes a second, so `sources.pull` does so only when a download is
asked for. Cache folder, token and offline mode are the library's.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from slalom.errors import ModelError
from slalom.models.gguf_metadata import shard_files
from slalom.models.hugging_face import Repository, choose_file, find_local

OnBytes = Callable[[int, int], None]

#: What the library's HTTP client raises; which client that is changes between its versions.
_CLIENT_ERROR: type[Exception] = getattr(errors, "HTTPError", HfHubHTTPError)
#: The library shows what comes over the network and what is written; the second one counts.
_NETWORK_BAR = "downloading bytes"


def download(repository: Repository, on_progress: OnBytes | None = None) -> Path:
    """Fetch the file (all shards) that `repository` means into Hugging Face's cache.

    Raises:
        ModelError: Offline, unknown, gated, without a GGUF file, ambiguous, or interrupted.
    """
    if constants.HF_HUB_OFFLINE:
        # Nothing to fetch; what is here decides, with its own message where it is not.
        return find_local(repository)
    with _translated(repository):
        info = HfApi(constants.ENDPOINT).model_info(
            repository.repository, revision=repository.revision, files_metadata=True
        )
        sizes = {item.rfilename: item.size or 0 for item in info.siblings or ()}
        chosen = choose_file(repository, sizes)
        wanted = [file.as_posix() for file in shard_files(Path(chosen))]
        meter = _meter_class(on_progress, sum(sizes.get(name, 0) for name in wanted))
        paths = [
            hf_hub_download(
                repository.repository,
                name,
                revision=repository.revision,
                endpoint=constants.ENDPOINT,
                tqdm_class=meter,
            )
            for name in wanted
        ]
    return Path(paths[0])


@contextmanager
def _translated(repository: Repository) -> Iterator[None]:
    """Turn the library's errors into `ModelError`s that say what to do."""
    name = repository.repository
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{name} asks for an agreement: accept it on the repository's page and set HF_TOKEN.",
            code="model_gated",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"there is no repository {name} on Hugging Face, or it is private: check the name, "
            "and set HF_TOKEN for a private one.",
            code="model_source_unknown",
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(repository, error) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        raise ModelError(
            f"{name} has no such revision or file ({repository.source}): check the spelling.",
            code="model_source_unknown",
        ) from error
    except (OfflineModeIsEnabled, _CLIENT_ERROR, OSError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(repository: Repository, error: Exception) -> ModelError:
    lines = str(error).splitlines() or [""]
    return ModelError(
        f"could not download {repository.source} ({type(error).__name__}: {lines[0][:200]}). "
        "Check the network and the room on the disk, or put a GGUF file on this machine and use "
        "its path as the source.",
        code="model_hub_unreachable",
    )


def _meter_class(on_progress: OnBytes | None, total_bytes: int) -> type[Any]:
    """A progress bar class that draws nothing and reports bytes over all files."""
    lock = threading.Lock()
    seen = 0

    class Meter(tqdm):  # type: ignore[misc]
        """Counts the bytes of every file into one sum."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)
            self._counts = not str(kwargs.get("desc", "")).endswith(_NETWORK_BAR)
            self._count(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._count(n or 0)

        def _count(self, n: float) -> None:
            nonlocal seen
            if not self._counts:
                return
            with lock:
                seen += int(n)
                present = seen
            if on_progress is not None and n:
                on_progress(present, total_bytes)

    return Meter
