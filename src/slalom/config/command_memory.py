"""How much memory a command's engine will take, read from its command line and the model's folder.

Owns the finding of the model that a command serves and the few options of vLLM that decide about
memory. An estimate until the replica is measured; where nothing tells, it says so by None. Called
by `footprint` and assembly.
"""

import itertools
import shlex
from pathlib import Path

from slalom.config.engine_sections import CommandEngine
from slalom.errors import ModelError
from slalom.models.gpu_memory import gpu_memory
from slalom.models.hugging_face import local_snapshot
from slalom.models.safetensors import FolderModel, estimate_folder, is_model_folder, read_folder

#: vLLM's own default: the share of the whole GPU that it takes.
_VLLM_SHARE = 0.9
_CONTEXT_OPTIONS = ("--max-model-len", "--context-length")


def command_bytes(engine: CommandEngine, *, gpu: int | None = None) -> int | None:
    """Estimated bytes of one replica; None where nothing tells.

    vLLM on a GPU takes the share of it that it is told to, whatever the model needs. Any other
    engine takes what its model's weights, KV cache and runtime come to.

    Args:
        engine: As configured.
        gpu: Index of the NVIDIA GPU that its device is; None for main memory.

    Raises:
        ModelError: The model's folder is damaged.
    """
    words = _words(engine)
    if gpu is not None and _is_vllm(words):
        memory = gpu_memory(gpu)
        share = _number(words, ("--gpu-memory-utilization",))
        if memory is not None:
            return round(memory.total * (share or _VLLM_SHARE))
    model = model_of(engine)
    if model is None:
        return None
    return estimate_folder(model, context_of(engine), engine.places).total


def context_of(engine: CommandEngine) -> int:
    """The longest context that a command is told to serve, tokens; 0 where it is not told."""
    return round(_number(_words(engine), _CONTEXT_OPTIONS) or 0)


def model_of(engine: CommandEngine) -> FolderModel | None:
    """The model that a command names: a folder, or a repository in Hugging Face's cache.

    Raises:
        ModelError: Its folder is damaged.
    """
    named = [engine.model_name] if engine.model_name else []
    for word in (*named, *_words(engine)):
        path = Path(word).expanduser()
        if path.is_dir() and is_model_folder(path):
            return read_folder(path)
        folder = local_snapshot(word)
        if folder is not None and is_model_folder(folder):
            return read_folder(folder)
    return None


def model_files(engine: CommandEngine) -> tuple[Path, ...]:
    """The weights that a command reads; nothing where they cannot be found or read."""
    try:
        model = model_of(engine)
    except ModelError:
        return ()
    return model.files if model else ()


def _is_vllm(words: list[str]) -> bool:
    """Whether the program is vLLM: its command, or one of its modules."""
    return any(Path(word).name == "vllm" or word.startswith("vllm.") for word in words)


def _words(engine: CommandEngine) -> list[str]:
    """The command line's words, with ``--option=value`` taken apart."""
    words = shlex.split(engine.cmd) if isinstance(engine.cmd, str) else list(engine.cmd)
    return [part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])]


def _number(words: list[str], options: tuple[str, ...]) -> float | None:
    for option, value in itertools.pairwise(words):
        if option in options:
            try:
                return float(value)
            except ValueError:
                return None
    return None
