"""Which fill-in-the-middle template a configured model has: as configured, by its files, by name.

Owns the order of the sources, and what an engine must be told with a configured template. Called
by `launchers`.
"""

from dataclasses import replace
from typing import Any

from slalom.config.command_memory import model_of
from slalom.config.engine_sections import CommandEngine, RemoteEngine
from slalom.config.fim_section import FimTokens
from slalom.config.vllm_memory import vllm_folder
from slalom.config.vllm_section import VllmEngine
from slalom.errors import ModelError
from slalom.models.fim import FimTemplate
from slalom.models.fim_families import BY_NAME, of_name
from slalom.models.fim_tokenizer import of_folder


def fim_of_gguf(choice: FimTokens | None, found: FimTemplate | None) -> FimTemplate | None:
    """The template of a model that llama.cpp serves.

    Args:
        choice: As configured.
        found: By its file.
    """
    template = _chosen(choice, found)
    if template is None or template is found:
        return template
    special = (*template.special, *(found.special if found is not None else ()))
    fields: tuple[tuple[str, Any], ...] = ()
    if template.stops:
        fields = (("preserved_tokens", template.stops),)
    return replace(template, special=special, engine_fields=fields)


def fim_of_command(model_id: str, engine: CommandEngine) -> FimTemplate | None:
    """The template of a model that a command serves: its folder tells, or its name."""
    folder = None
    if _asks_files(engine.fim):
        try:
            folder = model_of(engine)
        except ModelError:
            folder = None  # the engine itself will say what is wrong with it
    found = of_folder(folder.path) if folder is not None else None
    words = engine.cmd if isinstance(engine.cmd, str) else " ".join(engine.cmd)
    return _chosen(engine.fim, found or of_name(f"{engine.model_name or model_id} {words}"))


def fim_of_vllm(model_id: str, engine: VllmEngine) -> FimTemplate | None:
    """The template of a model that vLLM serves: its folder tells, or its name."""
    folder = vllm_folder(engine) if _asks_files(engine.fim) else None
    found = of_folder(folder) if folder is not None else None
    return _chosen(engine.fim, found or of_name(f"{model_id} {engine.model}"))


def fim_of_remote(model_id: str, engine: RemoteEngine) -> FimTemplate | None:
    """The template of a model elsewhere: only its name tells."""
    return _chosen(engine.fim, of_name(engine.model_name or model_id))


def _asks_files(choice: FimTokens | None) -> bool:
    return choice is None or (choice.family == "auto" and choice.prefix is None)


def _chosen(choice: FimTokens | None, found: FimTemplate | None) -> FimTemplate | None:
    if choice is None or choice.family == "none":
        return found if choice is None else None
    if choice.family != "auto":
        return BY_NAME[choice.family]
    if choice.prefix is None or choice.suffix is None:
        return replace(found, stops=(*choice.stop, *found.stops)) if found else None
    marks = (choice.prefix, choice.suffix, choice.middle or "")
    stops = (*choice.stop, *filter(None, marks))
    return FimTemplate(*marks, suffix_first=choice.suffix_first, stops=stops)
