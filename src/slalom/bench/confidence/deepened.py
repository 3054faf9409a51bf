"""A dear model that answers like a cheap one: a GGUF file with layers in it that add nothing.

Owns writing the file. Each layer of the original is followed by copies of it whose two output
matrices are zero, so that an engine computes all of them and every token comes out the same. What
is left to compare is then a matter of cost. Called by `setting`.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from slalom.errors import ModelError
from slalom.models.gguf_format import MAGIC, UINT32_VALUE, align
from slalom.models.gguf_header import Header, TensorInfo, copy_entries, read_header

_VERSION = 3
_LAYERS = "qwen2.block_count"
_OF_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
#: What a layer adds to what passes through it.
_OUTPUTS = frozenset({"attn_output.weight", "ffn_down.weight"})


def deepened(source: Path, path: Path, *, times: int) -> None:
    """Write a model with so many times the layers and the same answers.

    Args:
        source: The original, in Qwen2's layout.
        path: Where to write.
        times: Layers for each layer of the original; at least 1.

    Raises:
        ModelError: The original cannot be read, or is of another layout.
    """
    header = read_header(source)
    layers = header.values.get(_LAYERS)
    if not isinstance(layers, int):
        raise ModelError(
            f"{source} has no {_LAYERS}: take a model in Qwen2's layout.", code="model_unusable"
        )
    tensors = list(_tensors(header, times))
    entries = copy_entries(header, [key for key in header.values if key != _LAYERS])
    entries.append(_string(_LAYERS) + struct.pack("<II", UINT32_VALUE, layers * times))
    with source.open("rb") as original, path.open("wb") as file:
        file.write(_head(tensors, entries))
        for _, tensor, is_silent in tensors:
            original.seek(header.data_offset + tensor.offset)
            data = original.read(tensor.byte_count)
            file.write(bytes(len(data)) if is_silent else data)
            file.write(bytes(align(len(data)) - len(data)))


def _tensors(header: Header, times: int) -> Iterator[tuple[str, TensorInfo, bool]]:
    """Name, original, and whether it is all zeros."""
    for tensor in header.tensors:
        found = _OF_LAYER.fullmatch(tensor.name)
        if found is None:
            yield tensor.name, tensor, False
            continue
        for copy in range(times):
            layer = int(found[1]) * times + copy
            yield f"blk.{layer}.{found[2]}", tensor, copy > 0 and found[2] in _OUTPUTS


def _head(tensors: list[tuple[str, TensorInfo, bool]], entries: list[bytes]) -> bytes:
    out = bytearray(MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(entries)))
    out += b"".join(entries)
    offset = 0
    for name, tensor, _ in tensors:
        sizes = tensor.dimensions
        out += _string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        out += struct.pack("<IQ", tensor.type_number, offset)
        offset += align(tensor.byte_count)
    return bytes(out) + bytes(align(len(out)) - len(out))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
