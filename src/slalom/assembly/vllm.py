"""From a configured vLLM model to vLLM's options: what it may take of its device, and which.

Owns the joint between what the ledger books for a model and what vLLM is told to take, so that
several models share a GPU. Called by `launchers` and by `slalom models command`.
"""

from collections.abc import Sequence

from slalom.assembly.fill_in import fim_of_vllm
from slalom.config.engine_sections import ModelSection
from slalom.config.fields import AUTO
from slalom.config.footprint import bytes_needed
from slalom.config.params import auto_threads
from slalom.config.vllm_memory import kv_bytes_of, vllm_folder
from slalom.config.vllm_section import VllmEngine
from slalom.engines.vllm import VllmOptions
from slalom.errors import ConfigError
from slalom.models.gpu_memory import gpu_memory
from slalom.units import format_bytes

_SHARE_OPTION = "--gpu-memory-utilization"


def vllm_options(
    model: ModelSection,
    engine: VllmEngine,
    gpu: int | None,
    host: str,
    gpus: Sequence[int] = (),
    *,
    is_here: bool = True,
) -> VllmOptions:
    """How a model is served by vLLM.

    Args:
        model: As configured.
        engine: Its engine's section.
        gpu: Index of the NVIDIA GPU that its device is; None for main memory.
        host: Address on which it listens.
        gpus: Indices of its GPUs, where somebody else chose them.
        is_here: Whether its GPUs are in this machine: their memory is looked up.

    Raises:
        ConfigError: Nothing tells how large the GPU is, it is too small, or there are too few.
        ModelError: The model's folder is damaged.
    """
    booked = bytes_needed(model, gpu=gpu)
    folder = vllm_folder(engine)
    gpus = _checked(model, engine, gpus) if gpus else _from(gpu, engine)
    return VllmOptions(
        model=str(folder) if folder is not None else engine.model,
        name=model.id,
        program=engine.program,
        gpus=tuple(gpus),
        gpu_bytes=_gpu_bytes(model.id, engine, gpus[0], booked) if gpus and is_here else 0,
        booked_bytes=booked,
        kv_bytes=0 if gpus else kv_bytes_of(engine, booked),
        context_tokens=engine.longest_tokens,
        places=engine.places,
        batch_tokens=None if engine.batch_tokens == AUTO else int(engine.batch_tokens),
        long_prompt_tokens=(
            None if engine.long_prompt_tokens == AUTO else int(engine.long_prompt_tokens)
        ),
        dtype=engine.dtype,
        kv_cache_dtype=engine.kv_cache_dtype,
        quantization=engine.quantization,
        prefix_caching=engine.prefix_caching,
        eager=engine.eager,
        host=host,
        sleeps=model.sleep_level > 0,
        tool_parser=engine.tool_parser,
        chat_template=engine.chat_template,
        trust_remote_code=engine.trust_remote_code,
        request_metrics=engine.request_metrics,
        offline=folder is not None,
        threads=auto_threads(),
        env={name: value.get_secret_value() for name, value in engine.env.items()},
        extra=engine.extra,
        ready_timeout_s=engine.ready_timeout_seconds,
        fim=fim_of_vllm(model.id, engine),
    )


def _from(gpu: int | None, engine: VllmEngine) -> Sequence[int]:
    return () if gpu is None else range(gpu, gpu + engine.tensor_parallel)


def _checked(model: ModelSection, engine: VllmEngine, gpus: Sequence[int]) -> Sequence[int]:
    if len(gpus) != engine.tensor_parallel and model.ray.nodes == 1:
        raise ConfigError(
            f"models: {model.id!r} spreads over {engine.tensor_parallel} GPUs "
            f"(engine.tensor_parallel), but was given {len(gpus)} (ray.gpus): write the same"
        )
    return gpus


def _gpu_bytes(model_id: str, engine: VllmEngine, gpu: int, booked: int) -> int:
    """Memory of the GPU, of which the model's share is taken; 0 where the share is given."""
    if any(word.partition("=")[0] == _SHARE_OPTION for word in engine.extra):
        return 0
    memory = gpu_memory(gpu)
    if memory is None:
        raise ConfigError(
            f"models: {model_id!r}: nvidia-smi tells nothing of GPU {gpu}, so nobody knows what "
            f"share of it the model may take; write engine.extra: [{_SHARE_OPTION}, '0.5']"
        )
    if booked > memory.total:
        raise ConfigError(
            f"models: {model_id!r} needs {format_bytes(booked)} of GPU {gpu}, which has "
            f"{format_bytes(memory.total)}: less context or fewer places, or more GPUs by "
            "engine.tensor_parallel"
        )
    return memory.total
