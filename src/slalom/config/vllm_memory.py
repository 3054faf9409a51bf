"""How much memory a vLLM replica is booked with, and how that is divided.

Owns the estimate from the model's folder and the configured formats, for a GPU and for main
memory. What is booked is also what vLLM is told to take, so the two cannot drift apart. Called by
`footprint` and assembly.
"""

from pathlib import Path

from slalom.config.vllm_section import VllmEngine
from slalom.errors import ModelError
from slalom.models.hugging_face import local_snapshot
from slalom.models.memory import MemoryEstimate
from slalom.models.safetensors import (
    RUNTIME_BYTES,
    FolderModel,
    estimate_folder,
    is_model_folder,
    read_folder,
)
from slalom.units import GIB

_ELEMENT_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
_KV_BYTES = {"bfloat16": 2.0, "fp8": 1.0}


def vllm_folder(engine: VllmEngine) -> Path | None:
    """The folder of the model on this machine; None where there is none."""
    path = Path(engine.model).expanduser()
    if path.is_dir():
        return path
    return local_snapshot(engine.model)


def vllm_model(engine: VllmEngine) -> FolderModel | None:
    """What the model's folder says; None where it is not on this machine.

    Raises:
        ModelError: The folder is damaged.
    """
    folder = vllm_folder(engine)
    return read_folder(folder) if folder is not None and is_model_folder(folder) else None


def vllm_files(engine: VllmEngine) -> tuple[Path, ...]:
    """The weights; nothing where they cannot be found or read."""
    try:
        model = vllm_model(engine)
    except ModelError:
        return ()
    return model.files if model else ()


def vllm_estimate(engine: VllmEngine, *, on_gpu: bool) -> MemoryEstimate | None:
    """What one replica takes of each of its GPUs, or of main memory; None where nothing tells.

    vLLM counts the KV cache of main memory in whole GiB.

    Raises:
        ModelError: The model's folder is damaged.
    """
    model = vllm_model(engine)
    if model is None:
        return None
    kv_bytes = _KV_BYTES.get(engine.kv_cache_dtype, _ELEMENT_BYTES.get(engine.dtype, 2))
    whole = estimate_folder(model, engine.longest_tokens, engine.places, kv_bytes)
    weights, kv = _weights(engine, model), whole.kv
    if on_gpu:
        # Every GPU of a tensor-parallel group has a part of both, and a runtime of its own.
        weights, kv = -(-weights // engine.tensor_parallel), -(-kv // engine.tensor_parallel)
    else:
        kv = max(-(-kv // GIB), 1) * GIB
    return MemoryEstimate(weights=weights, kv=kv, compute=0, runtime=RUNTIME_BYTES)


def kv_bytes_of(engine: VllmEngine, booked_bytes: int) -> int:
    """What is left of the booked main memory for the KV cache, bytes.

    Raises:
        ModelError: The model's folder is damaged.
    """
    model = vllm_model(engine)
    weights = _weights(engine, model) if model is not None else 0
    return max(booked_bytes - weights - RUNTIME_BYTES, 0)


def _weights(engine: VllmEngine, model: FolderModel) -> int:
    """Bytes of the weights in memory: as in the files, unless another format is asked for."""
    size = _ELEMENT_BYTES.get(engine.dtype)
    if size is None or engine.quantization is not None:
        return model.tensor_bytes
    return model.parameter_count * size
