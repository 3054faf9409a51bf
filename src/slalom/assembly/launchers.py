"""From a configured model to its launcher and what its engine can do.

Owns the one mapping of engine kinds to launchers: a new kind of engine is a row here, a section
in `slalom.config.engine_sections` and a module in `slalom.engines`.
"""

from collections.abc import Sequence
from pathlib import Path

from slalom.assembly.fill_in import fim_of_command, fim_of_gguf, fim_of_remote
from slalom.assembly.vllm import vllm_options
from slalom.config.engine_sections import (
    CommandEngine,
    LlamaCppEngine,
    ModelSection,
    RemoteEngine,
)
from slalom.config.fields import AUTO
from slalom.config.params import auto_threads
from slalom.config.secret_sources import remote_key
from slalom.config.vllm_section import VllmEngine
from slalom.engines.command import CommandLauncher, CommandOptions
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions, capabilities_of
from slalom.engines.protocol import Capabilities, Launcher
from slalom.engines.remote import RemoteLauncher, RemoteOptions
from slalom.engines.shrinking import ShrinkingLauncher
from slalom.engines.turns import turns_of_gpus
from slalom.engines.vllm import CONTINUE_CHAT, SLEEP_LEVELS, command_options
from slalom.engines.vllm import capabilities_of as capabilities_of_vllm
from slalom.models.sources import resolve

#: What `continue_chat` of a configured engine means in a body.
_CONTINUE_CHAT: dict[str, tuple[tuple[str, bool], ...] | None] = {
    "none": None,
    "prefill": (),
    "vllm": CONTINUE_CHAT,
}


#: What OpenAI's API allows, and vLLM, where nobody knows the engine.
_STOPS_MAX = 4
#: Of this machine only.
_LOOPBACK = "127.0.0.1"


def launcher_for(
    model: ModelSection,
    *,
    tokens_max: int,
    gpu: int | None = None,
    gpus: Sequence[int] = (),
    host: str = _LOOPBACK,
) -> tuple[Launcher, Capabilities]:
    """The launcher of a model, and its engine's capabilities as far as known before it runs.

    Args:
        model: As configured.
        tokens_max: Answer limit where a request names none, tokens.
        gpu: Index of the NVIDIA GPU that its device is; None for main memory.
        gpus: Indices of the GPUs that it was given, where somebody else chose them.
        host: Address on which engines listen.

    Raises:
        ConfigError: An option cannot be used, or a secret is not where it should be.
        ModelError: The model's file is missing or damaged.
    """
    engine = model.engine
    gpu = gpus[0] if gpus else gpu
    if isinstance(engine, LlamaCppEngine):
        return _llama_cpp(model.id, engine, tokens_max, gpu, host)
    if isinstance(engine, VllmEngine):
        command = command_options(vllm_options(model, engine, gpu, host, gpus))
        return CommandLauncher(command, model_name=model.id), command.capabilities
    if isinstance(engine, CommandEngine):
        return _command(model, engine, gpus or (() if gpu is None else (gpu,)), host)
    return _remote(model.id, engine)


def capabilities_for(
    model: ModelSection, *, tokens_max: int, gpu: int | None, host: str
) -> Capabilities:
    """What the engine of a model can do, where another machine than this one has its device.

    Args:
        model: As configured.
        tokens_max: Answer limit where a request names none, tokens.
        gpu: Index of the NVIDIA GPU that its device is, in its machine; None for main memory.
        host: Address on which engines listen, or any that is loopback if and only if theirs is.

    Raises:
        ConfigError: As `launcher_for`.
        ModelError: As `launcher_for`.
    """
    engine = model.engine
    if isinstance(engine, VllmEngine):
        return capabilities_of_vllm(vllm_options(model, engine, gpu, host, is_here=False))
    return launcher_for(model, tokens_max=tokens_max, gpu=gpu, host=host)[1]


def _llama_cpp(
    model_id: str, engine: LlamaCppEngine, tokens_max: int, gpu: int | None, host: str
) -> tuple[Launcher, Capabilities]:
    local = resolve(engine.source)
    template = engine.chat_template
    if template is not None and Path(template).is_file():
        template = Path(template).read_text(encoding="utf-8")
    options = LlamaCppOptions(
        model=local.path,
        context_tokens=engine.context_tokens,
        places=engine.places,
        kv_tokens=engine.kv_tokens,
        threads=auto_threads() if engine.threads == AUTO else int(engine.threads),
        batch_tokens=engine.batch_tokens,
        micro_batch_tokens=engine.micro_batch_tokens,
        gpu_layers=engine.gpu_layers,
        flash_attention=engine.flash_attention,
        cache_type=engine.cache_type,
        embeddings=engine.embeddings,
        pooling=engine.pooling,
        chat_template=template,
        fim=fim_of_gguf(engine.fim, local.metadata.fim),
        tokens_max=tokens_max,
        prompt_cache_bytes=engine.prompt_cache,
        warm_up=engine.warm_up,
        memory_limit_bytes=engine.memory_limit,
        gpu=gpu,
        host=host,
        load_timeout_s=engine.ready_timeout_seconds,
        extra=engine.extra,
    )
    launcher = LlamaCppLauncher(options, model_name=model_id)
    return ShrinkingLauncher(launcher), capabilities_of(options, local.metadata)


def _command(
    model: ModelSection, engine: CommandEngine, gpus: Sequence[int], host: str
) -> tuple[Launcher, Capabilities]:
    capabilities = Capabilities(
        embeddings=engine.embeddings,
        sleep_levels=SLEEP_LEVELS if engine.sleep == "vllm" else (),
        priority=engine.priority,
        continue_chat=_CONTINUE_CHAT[engine.continue_chat],
        stops_max=_STOPS_MAX,
        fim=fim_of_command(model.id, engine),
    )
    options = CommandOptions(
        cmd=engine.cmd,
        host=host,
        model=engine.model_name or model.id,
        model_name=engine.model_name,
        env={name: value.get_secret_value() for name, value in engine.env.items()},
        health_path=engine.health_path,
        ready_timeout_s=engine.ready_timeout_seconds,
        stop_cmd=engine.stop_cmd,
        bytes_expected=0 if model.memory == AUTO else int(model.memory),
        gpu=gpus[0] if gpus else None,
        turns=turns_of_gpus(gpus) if engine.sleep == "vllm" else (),
        capabilities=capabilities,
    )
    return CommandLauncher(options, model_name=model.id), capabilities


def _remote(model_id: str, engine: RemoteEngine) -> tuple[Launcher, Capabilities]:
    capabilities = Capabilities(
        embeddings=engine.embeddings,
        priority=engine.priority,
        continue_chat=_CONTINUE_CHAT[engine.continue_chat],
        stops_max=_STOPS_MAX,
        fim=fim_of_remote(model_id, engine),
    )
    options = RemoteOptions(
        base_url=engine.base_url,
        api_key=remote_key(model_id, engine),
        model_name=engine.model_name,
        health_path=engine.health_path,
        capabilities=capabilities,
    )
    return RemoteLauncher(options, model_name=model_id), capabilities
