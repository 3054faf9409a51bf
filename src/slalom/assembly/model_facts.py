"""What clients may ask about a model: its size, its context, how it is quantised.

Owns the gathering of these facts from the model's files and its engine's options. No fact is
needed to serve: what cannot be read stays empty. Called by `parts`.
"""

from dataclasses import replace
from pathlib import Path

from slalom.assembly.fill_in import fim_of_command, fim_of_gguf, fim_of_remote, fim_of_vllm
from slalom.config.command_memory import context_of, model_of
from slalom.config.engine_sections import CommandEngine, LlamaCppEngine, ModelSection
from slalom.config.vllm_memory import vllm_model
from slalom.config.vllm_section import VllmEngine
from slalom.errors import ModelError
from slalom.gateway.params import ModelFacts
from slalom.models.safetensors import FolderModel
from slalom.models.sources import resolve


def facts_of(model: ModelSection, *, on_gpu: bool) -> ModelFacts:
    """The facts of a configured model.

    Args:
        model: As configured.
        on_gpu: Whether its device is a GPU.
    """
    engine = model.engine
    try:
        if isinstance(engine, LlamaCppEngine):
            return _of_gguf(engine, on_gpu=on_gpu)
        if isinstance(engine, CommandEngine):
            fills = fim_of_command(model.id, engine) is not None
            found = _of_folder(model_of(engine), context_of(engine), engine.places)
            return replace(found, fills=fills, on_gpu=on_gpu)
        if isinstance(engine, VllmEngine):
            fills = fim_of_vllm(model.id, engine) is not None
            found = _of_folder(vllm_model(engine), engine.longest_tokens, engine.places)
            return replace(found, fills=fills, on_gpu=on_gpu)
    except (ModelError, OSError):
        return ModelFacts(places=engine.places, on_gpu=on_gpu)  # the launcher says what is wrong
    fills = fim_of_remote(model.id, engine) is not None
    return ModelFacts(places=engine.places, on_gpu=on_gpu, fills=fills)


def _of_gguf(engine: LlamaCppEngine, *, on_gpu: bool) -> ModelFacts:
    local = resolve(engine.source)
    found = local.metadata
    return ModelFacts(
        architecture=found.architecture,
        file_format="gguf",
        quantisation=found.quantisation,
        parameter_count=found.parameter_count,
        embedding_width=found.embedding_width,
        file_bytes=found.file_bytes,
        modified_s=_modified_s(local.path),
        context_tokens=engine.context_tokens,
        trained_context_tokens=found.context_length,
        places=engine.places,
        chats=found.has_chat_template or engine.chat_template is not None,
        thinks=found.thinks,
        fills=fim_of_gguf(engine.fim, found.fim) is not None,
        on_gpu=on_gpu,
    )


def _of_folder(folder: FolderModel | None, context_tokens: int, places: int) -> ModelFacts:
    if folder is None:
        return ModelFacts(context_tokens=context_tokens, places=places)
    return ModelFacts(
        architecture=folder.architecture,
        file_format="safetensors",
        parameter_count=folder.parameter_count,
        file_bytes=folder.file_bytes,
        modified_s=_modified_s(folder.path),
        context_tokens=context_tokens or folder.context_length,
        trained_context_tokens=folder.context_length,
        places=places,
    )


def _modified_s(path: Path) -> int:
    return int(path.stat().st_mtime)
