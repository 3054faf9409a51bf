"""Small GGUF files made by hand, for tests of the reader."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import slalom.models

DATA = Path(slalom.models.__file__).with_name("data")
MINI = DATA / "slalom-mini.gguf"
SMALL = DATA / "slalom-small.gguf"

Item = str | int | float | bool | Sequence[str] | Sequence[int]
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

#: The keys of the smallest thing that counts as a language model.
MODEL_KEYS: dict[str, Item] = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.context_length": 2048,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
}
#: Name, dimensions, type number.
MODEL_TENSORS = (("token_embd.weight", (64, 3), 0), ("output_norm.weight", (64,), 0))


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: Item) -> bytes:
    """A value with its type in front."""
    if isinstance(item, bool):
        return struct.pack("<IB", _BOOL, item)
    if isinstance(item, str):
        return struct.pack("<I", _STRING) + text(item)
    if isinstance(item, int):
        return struct.pack("<Ii", _INT32, item) if item < 0 else struct.pack("<II", _UINT32, item)
    if isinstance(item, float):
        return struct.pack("<If", _FLOAT32, item)
    kind = _STRING if item and isinstance(item[0], str) else _UINT32
    head = struct.pack("<IIQ", _ARRAY, kind, len(item))
    return head + b"".join(value(entry)[4:] for entry in item)


def gguf(
    keys: Mapping[str, Item] = MODEL_KEYS,
    tensors: Sequence[tuple[str, tuple[int, ...], int]] = MODEL_TENSORS,
    *,
    version: int = 3,
    data_bytes: int | None = None,
) -> bytes:
    """A GGUF file; tensors are of 32-bit numbers and all start where the data starts."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    out += b"".join(text(key) + value(item) for key, item in keys.items())
    for name, dimensions, kind in tensors:
        out += text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        out += struct.pack("<IQ", kind, 0)
    out += bytes(-len(out) % 32)
    return out + bytes(4 * 64 * 3 if data_bytes is None else data_bytes)
