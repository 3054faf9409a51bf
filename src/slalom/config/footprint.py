"""How much memory each configured model needs: as written, else estimated from its file.

Owns the choice between the two. The estimate itself is `slalom.models.memory`'s. Called by
assembly and by the command line.
"""

from slalom.config.command_memory import command_bytes, model_of
from slalom.config.engine_sections import CommandEngine, LlamaCppEngine, ModelSection
from slalom.config.fields import AUTO
from slalom.config.schema import Config
from slalom.config.vllm_memory import vllm_estimate, vllm_model
from slalom.config.vllm_section import VllmEngine
from slalom.core.request import ModelSpec, Swap
from slalom.errors import ConfigError
from slalom.models.gguf_metadata import ModelMetadata
from slalom.models.memory import MemoryEstimate, estimate_bytes
from slalom.models.sources import resolve
from slalom.units import GIB, seconds_to_ns

#: Bytes of one number in the KV cache; the quantised formats store 32 with their scale.
KV_ELEMENT_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
#: What a sleeping vLLM keeps of a GPU. A round figure of ours.
_SLEEPER_BYTES = GIB


def model_specs(config: Config) -> tuple[ModelSpec, ...]:
    """The models with the bytes one replica of each needs; reads GGUF headers.

    Raises:
        ConfigError: A size that nothing can estimate is missing.
        ModelError: A model's file is missing or damaged.
    """
    gpus = {device.id: device.gpu for device in config.devices}
    return tuple(
        ModelSpec(
            id=model.id,
            device=model.homes[0],
            devices=model.devices if len(model.devices) > 1 else (),
            bytes_needed=bytes_needed(model, gpu=gpus[model.homes[0]]),
            places=model.engine.places,
            replicas=model.replicas,
            pinned=model.pinned,
            sleep_level=model.sleep_level,
            host_bytes=sleep_bytes(model, gpu=gpus[model.homes[0]]),
            residual_bytes=residual_bytes(model, gpu=gpus[model.homes[0]]),
            swap=Swap(model.swap),
            idle_sleep_ns=seconds_to_ns(model.idle_sleep_seconds),
            idle_unload_ns=seconds_to_ns(model.idle_unload_seconds),
            preload=model.preload,
            apart=model.apart,
            hold_ns=seconds_to_ns(model.tool_hold_seconds),
        )
        for model in config.models
    )


def bytes_needed(model: ModelSection, *, gpu: int | None = None) -> int:
    """Bytes of one replica: as configured, else estimated; 0 for a remote engine.

    Args:
        model: As configured.
        gpu: Index of the NVIDIA GPU that its device is; None for main memory.

    Raises:
        ConfigError: `memory` is missing for a command of which nothing tells.
        ModelError: The model's file is missing or damaged.
    """
    if model.memory != AUTO:
        return int(model.memory)
    engine = model.engine
    if isinstance(engine, LlamaCppEngine):
        return llama_cpp_bytes(engine)
    if isinstance(engine, VllmEngine):
        return _vllm_bytes(model.id, engine, gpu)
    if isinstance(engine, CommandEngine):
        found = command_bytes(engine, gpu=gpu)
        if found is not None:
            return found
        raise ConfigError(
            f"models: {model.id!r} is a command, whose memory nobody can know before it runs, "
            "unless it names a folder with safetensors; write memory: and its size, such as 18GiB"
        )
    return 0


def sleep_bytes(model: ModelSection, *, gpu: int | None = None) -> int:
    """Bytes of host memory that one replica takes while it sleeps."""
    if model.sleep_level != 1:
        return 0
    if model.sleep_memory != AUTO:
        return int(model.sleep_memory)
    if isinstance(model.engine, CommandEngine) and (folder := model_of(model.engine)):
        return folder.tensor_bytes
    if isinstance(model.engine, VllmEngine) and (folder := vllm_model(model.engine)):
        return folder.tensor_bytes
    return bytes_needed(model, gpu=gpu)


def residual_bytes(model: ModelSection, *, gpu: int | None = None) -> int:
    """Bytes of its device that one replica keeps while it sleeps."""
    if model.sleep_residual != AUTO:
        return int(model.sleep_residual)
    if model.sleep_level == 0 or gpu is None:
        return 0
    # The driver's context and the graphs stay: nothing else on a GPU sleeps but vLLM.
    return min(_SLEEPER_BYTES, bytes_needed(model, gpu=gpu))


def _vllm_bytes(model_id: str, engine: VllmEngine, gpu: int | None) -> int:
    estimate = vllm_estimate(engine, on_gpu=gpu is not None)
    if estimate is None:
        raise ConfigError(
            f"models: {model_id!r}: there is no model {engine.model!r} on this machine whose "
            "memory could be estimated; correct engine.model, download it, or write memory: and "
            "its size, such as 18GiB"
        )
    return estimate.total


def llama_cpp_bytes(engine: LlamaCppEngine) -> int:
    """Estimated bytes of one llama.cpp replica with these options, prompt cache included.

    Raises:
        ModelError: The model's file is missing or damaged.
    """
    estimate = llama_cpp_estimate(engine, resolve(engine.source).metadata)
    return estimate.total + engine.prompt_cache


def llama_cpp_estimate(engine: LlamaCppEngine, metadata: ModelMetadata) -> MemoryEstimate:
    """What a replica with these options takes, by part."""
    return estimate_bytes(
        metadata,
        engine.kv_tokens or engine.context_tokens * engine.places,
        KV_ELEMENT_BYTES[engine.cache_type],
        engine.micro_batch_tokens,
    )
