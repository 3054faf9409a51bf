"""What a folder of safetensors with its `config.json` says about its model, and the memory of it.

Owns the reading of both and the estimate for engines that serve such folders (vLLM, SGLang,
transformers). Reads heads only, never weights. Called by the ledger's estimates and
`slalom models inspect`.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slalom.errors import ModelError
from slalom.models.memory import MemoryEstimate
from slalom.units import GIB

#: A longer header is taken for damage; those of the largest models have some MiB.
_HEADER_BYTES_MAX = 256 << 20
_LENGTH = struct.Struct("<Q")
#: What an engine on a GPU takes beside weights and KV: its context, graphs, activations. A round
#: figure of ours, on the safe side for models of up to some 30 B parameters.
RUNTIME_BYTES = 2 * GIB
#: KV cache expected for each place beyond the first, tokens.
_PLACE_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A model as its folder describes it."""

    path: Path
    architecture: str
    parameter_count: int
    #: Tensor data of all files, bytes.
    tensor_bytes: int
    #: All safetensors files together, bytes.
    file_bytes: int
    layer_count: int
    #: Numbers the KV cache keeps per token, over all layers.
    kv_elements_per_token: int
    #: Longest context the model was made for, tokens; 0 where it does not say.
    context_length: int
    vocabulary_size: int
    files: tuple[Path, ...]


def is_model_folder(path: Path) -> bool:
    """Whether a folder has a model that this module can read."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def read_folder(path: Path) -> FolderModel:
    """Read `config.json` and the heads of the safetensors files.

    Raises:
        ModelError: Something is missing or damaged.
    """
    config = _config(path)
    files = tuple(sorted(path.glob("*.safetensors")))
    if not files:
        raise ModelError(
            f"{path} has a config.json but no .safetensors file: download the model's weights",
            code="model_missing",
        )
    parameters = tensor_bytes = 0
    for file in files:
        for tensor in _header(file).values():
            begin, end = tensor["data_offsets"]
            tensor_bytes += end - begin
            parameters += _product(tensor["shape"])
    return FolderModel(
        path=path,
        architecture=str(config.get("model_type", "unknown")),
        parameter_count=parameters,
        tensor_bytes=tensor_bytes,
        file_bytes=sum(file.stat().st_size for file in files),
        layer_count=_integer(config, "num_hidden_layers"),
        kv_elements_per_token=_kv_elements(config),
        context_length=_integer(config, "max_position_embeddings"),
        vocabulary_size=_integer(config, "vocab_size"),
        files=files,
    )


def estimate_folder(
    model: FolderModel, context_tokens: int, places: int, kv_bytes_per_element: float = 2.0
) -> MemoryEstimate:
    """Estimate the least an engine needs to serve it well: one whole context, and some per place.

        weights = tensors
        kv      = (context + (places - 1) × min(context, 4096)) × numbers per token × their size
        runtime = 2 GiB

    Engines that take a share of the device, whatever the model needs, are another matter.

    Args:
        model: As its folder describes it.
        context_tokens: Longest request; 0 takes the model's own.
        places: Requests at a time.
        kv_bytes_per_element: 2 for half precision, 1 for fp8.
    """
    context = context_tokens or model.context_length or _PLACE_TOKENS
    tokens = context + max(places - 1, 0) * min(context, _PLACE_TOKENS)
    return MemoryEstimate(
        weights=model.tensor_bytes,
        kv=round(tokens * model.kv_elements_per_token * kv_bytes_per_element),
        compute=0,
        runtime=RUNTIME_BYTES,
    )


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ModelError(
            f"cannot read {file}: {problem.strerror}; name the folder that holds the model",
            code="model_missing",
        ) from problem
    except ValueError as problem:
        raise ModelError(f"{file} is damaged: {problem}; download it again") from problem
    if not isinstance(document, dict):
        raise ModelError(f"{file} is damaged: it holds no object; download it again")
    # Models that also see or hear keep their language part in a section of its own.
    inner = document.get("text_config")
    return {**document, **inner} if isinstance(inner, dict) else document


def _kv_elements(config: Mapping[str, Any]) -> int:
    layers = _integer(config, "num_hidden_layers")
    if latent := _integer(config, "kv_lora_rank"):
        # Latent attention keeps one compressed vector and the rotary part of the keys.
        return layers * (latent + _integer(config, "qk_rope_head_dim"))
    heads = _integer(config, "num_attention_heads")
    width = _integer(config, "head_dim")
    if not width and heads:
        width = _integer(config, "hidden_size") // heads
    kv_heads = _integer(config, "num_key_value_heads") or heads
    return 2 * layers * kv_heads * width


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            (length,) = _LENGTH.unpack(opened.read(_LENGTH.size))
            if length > min(_HEADER_BYTES_MAX, file.stat().st_size):
                raise ValueError("its header is longer than the file")
            document = json.loads(opened.read(length))
            document.pop("__metadata__", None)
            for tensor in document.values():
                begin, end = tensor["data_offsets"]
                if not 0 <= begin <= end or any(size < 0 for size in tensor["shape"]):
                    raise ValueError("a tensor has an impossible place")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as problem:
        raise ModelError(f"{file} is no safetensors file: {problem}; download it again") from None
    return dict(document)


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
