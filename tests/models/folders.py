"""Small folders of safetensors for tests: real headers, weights of zeros."""

import json
import struct
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "max_position_embeddings": 1024,
    "vocab_size": 100,
}
#: Numbers of KV cache for each token: keys and values, layers, heads, width.
KV_ELEMENTS = 2 * 4 * 2 * 8


def make_folder(path: Path, *, shards: int = 1, **config: Any) -> Path:
    """A model of `shards` files with one tensor of 10 × 20 half-precision numbers each."""
    path.mkdir(parents=True, exist_ok=True)
    document = {name: value for name, value in (CONFIG | config).items() if value is not None}
    (path / "config.json").write_text(json.dumps(document))
    for number in range(shards):
        name = path / f"model-{number:05d}-of-{shards:05d}.safetensors"
        name.write_bytes(tensor_file({"w": [10, 20]}))
    return path


def tensor_file(shapes: dict[str, list[int]]) -> bytes:
    """The bytes of one file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(at)
