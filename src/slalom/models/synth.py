"""Makes random-weight GGUF models of any size, so that load times and memory are real.

Owns choosing a shape for a number of parameters and writing the file as a stream: memory stays
at a few MiB whatever the size. The text such a model makes is noise. The vocabulary and the chat
template are copied from a bundled model, byte by byte. Called by `slalom models synth`.
"""

import math
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from slalom.errors import ModelError
from slalom.models.gguf_format import (
    F16,
    F32,
    FLOAT32_VALUE,
    MAGIC,
    Q8_0,
    STRING_VALUE,
    TENSOR_TYPES,
    UINT32_VALUE,
    align,
    tensor_bytes,
)
from slalom.models.gguf_header import Header, copy_entries, read_header
from slalom.models.gguf_metadata import ModelMetadata, read_metadata

Quantisation = Literal["f16", "q8_0"]
#: Told (bytes written, bytes in all) after each piece.
OnBytes = Callable[[int, int], None]

PARAMETERS_MIN = 3_000_000
PARAMETERS_MAX = 20_000_000_000
CONTEXT_LENGTH = 32_768
_HEAD_WIDTH = 64
_WIDTH_STEP = 128
_FEED_FORWARD_STEP = 32
#: Numbers written at a time; a multiple of every block size.
_PIECE_ELEMENTS = 1 << 20
#: Random numbers made once; every piece is a stretch of them from a random place. Making all
#: of them anew would take ten times as long and change nothing for an engine.
_POOL_ELEMENTS = 4 * _PIECE_ELEMENTS
_VERSION = 3
_TYPE_NUMBERS = {"f16": F16, "q8_0": Q8_0}
#: `general.file_type` by quantisation.
_FILE_TYPES = {"f16": 1, "q8_0": 7}
#: Random 16-bit patterns become ±[1, 2) × 2^-6 (f16): sign and fraction random, exponent fixed.
_F16_RANDOM_BITS = b"\xff\x83"
_F16_EXPONENT = b"\x00\x24"
#: Scale of every q8_0 block, 2^-12 as f16: values up to ±0.03.
_Q8_SCALE = b"\x00\x0c"
_ONE = struct.pack("<f", 1.0)
_COPIED_KEYS = "tokenizer."


@dataclass(frozen=True, slots=True)
class SynthShape:
    """Sizes of a random model in Qwen2's layout with a tied output matrix."""

    vocabulary: int
    width: int
    layers: int
    feed_forward: int

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.width // _HEAD_WIDTH

    @property
    def kv_heads(self) -> int:
        """Key/value heads: a quarter of the query heads where that divides."""
        return next(
            count for count in range(max(1, self.heads // 4), 0, -1) if self.heads % count == 0
        )

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(dimensions) for _, dimensions in self.tensors())

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor's name and dimensions (fastest first), in file order."""
        width, kv_width, wide = self.width, self.kv_heads * _HEAD_WIDTH, self.feed_forward
        yield "token_embd.weight", (width, self.vocabulary)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield f"{block}attn_norm.weight", (width,)
            yield f"{block}attn_q.weight", (width, width)
            yield f"{block}attn_q.bias", (width,)
            yield f"{block}attn_k.weight", (width, kv_width)
            yield f"{block}attn_k.bias", (kv_width,)
            yield f"{block}attn_v.weight", (width, kv_width)
            yield f"{block}attn_v.bias", (kv_width,)
            yield f"{block}attn_output.weight", (width, width)
            yield f"{block}ffn_norm.weight", (width,)
            yield f"{block}ffn_gate.weight", (width, wide)
            yield f"{block}ffn_up.weight", (width, wide)
            yield f"{block}ffn_down.weight", (wide, width)
        yield "output_norm.weight", (width,)


def shape_for(parameters: int, vocabulary: int) -> SynthShape:
    """The shape closest to `parameters` numbers, with proportions of real models.

    Raises:
        ModelError: Outside `PARAMETERS_MIN` to `PARAMETERS_MAX`.
    """
    if not PARAMETERS_MIN <= parameters <= PARAMETERS_MAX:
        raise ModelError(
            f"cannot make a model of {parameters:,} parameters: choose between "
            f"{PARAMETERS_MIN:,} and {PARAMETERS_MAX:,}.",
            code="model_size_out_of_range",
        )
    # Real models have about one layer per 64 of width at this scale: layers = width / 64, and a
    # layer of about 11.5 width² numbers, hence the cube root.
    width = round((parameters * 64 / 11.5) ** (1 / 3) / _WIDTH_STEP) * _WIDTH_STEP
    width = max(_WIDTH_STEP, width)
    layers = max(2, width // 64)
    best = SynthShape(vocabulary, width, layers, _FEED_FORWARD_STEP)
    # The feed-forward width takes up what is missing.
    missing = parameters - best.parameters
    steps = max(0, round(missing / (3 * width * layers * _FEED_FORWARD_STEP)))
    return SynthShape(vocabulary, width, layers, _FEED_FORWARD_STEP * (1 + steps))


def synthesize(
    path: Path,
    *,
    parameters: int,
    seed: int = 0,
    quantisation: Quantisation = "f16",
    vocabulary_from: Path | None = None,
    on_progress: OnBytes | None = None,
) -> ModelMetadata:
    """Write a random-weight model to `path`, replacing it only when complete.

    The same arguments give the same bytes.

    Args:
        path: Where to write; its folder must exist.
        parameters: Wanted number of parameters; reached within a few per cent.
        seed: Of the weights.
        quantisation: ``f16`` (2 bytes a parameter) or ``q8_0`` (1.06).
        vocabulary_from: GGUF file whose tokenizer to copy; a bundled model by default.
        on_progress: Told (bytes written, bytes in all).

    Raises:
        ModelError: The size is out of range, or the file cannot be written.
    """
    donor_path = vocabulary_from or Path(__file__).with_name("data") / "slalom-mini.gguf"
    donor = read_header(donor_path)
    shape = shape_for(parameters, read_metadata(donor_path).vocabulary_size)
    plan = _Plan(donor, shape, path.stem, seed, quantisation)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            _write(file, plan, on_progress)
        partial.replace(path)
    except OSError as error:
        raise ModelError(
            f"cannot write the model {path}: {error.strerror or error}. "
            "Check that its folder exists, is writable and has room.",
            code="model_unwritable",
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return read_metadata(path)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to write, apart from the weights."""

    donor: Header
    shape: SynthShape
    name: str
    seed: int
    quantisation: Quantisation


def _write(file: BinaryIO, plan: _Plan, on_progress: OnBytes | None) -> None:
    matrix_kind = _TYPE_NUMBERS[plan.quantisation]
    tensors = list(plan.shape.tensors())
    kinds = [matrix_kind if len(dimensions) > 1 else F32 for _, dimensions in tensors]
    sizes = [tensor_bytes(k, math.prod(d)) for k, (_, d) in zip(kinds, tensors, strict=True)]
    header = _header_bytes(plan, tensors, kinds)
    total = len(header) + sum(align(size) for size in sizes)
    file.write(header)
    written = len(header)
    source = _Matrices(random.Random(f"slalom-synth-{plan.seed}"), matrix_kind)
    for (tensor, dimensions), kind, size in zip(tensors, kinds, sizes, strict=True):
        for piece in _data(source, tensor, kind, math.prod(dimensions)):
            file.write(piece)
            written += len(piece)
            if on_progress is not None:
                on_progress(written, total)
        file.write(bytes(align(size) - size))
        written += align(size) - size


def _header_bytes(
    plan: _Plan, tensors: list[tuple[str, tuple[int, ...]]], kinds: list[int]
) -> bytes:
    shape, donor = plan.shape, plan.donor
    entries = [
        _text("general.architecture", "qwen2"),
        _text("general.name", plan.name),
        _text("general.description", f"Random weights (seed {plan.seed}): its text is noise."),
        _integer("general.file_type", _FILE_TYPES[plan.quantisation]),
        _integer("general.quantization_version", 2),
        _integer("qwen2.context_length", CONTEXT_LENGTH),
        _integer("qwen2.embedding_length", shape.width),
        _integer("qwen2.block_count", shape.layers),
        _integer("qwen2.feed_forward_length", shape.feed_forward),
        _integer("qwen2.attention.head_count", shape.heads),
        _integer("qwen2.attention.head_count_kv", shape.kv_heads),
        _float("qwen2.attention.layer_norm_rms_epsilon", 1e-6),
        _float("qwen2.rope.freq_base", 10_000.0),
        _integer("qwen2.vocab_size", shape.vocabulary),
        *copy_entries(donor, [key for key in donor.values if key.startswith(_COPIED_KEYS)]),
    ]
    out = bytearray(MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(entries)))
    out += b"".join(entries)
    offset = 0
    for (tensor, dimensions), kind in zip(tensors, kinds, strict=True):
        out += _string(tensor) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        out += struct.pack("<IQ", kind, offset)
        offset += align(tensor_bytes(kind, math.prod(dimensions)))
    out += bytes(align(len(out)) - len(out))
    return bytes(out)


class _Matrices:
    """Hands out random matrix data of one tensor type, cut from a pool."""

    def __init__(self, rng: random.Random, kind: int) -> None:
        self._rng = rng
        self._block = TENSOR_TYPES[kind]
        make = _random_f16 if kind == F16 else _random_q8_0
        pieces = _POOL_ELEMENTS // _PIECE_ELEMENTS
        self._pool = b"".join(make(rng, _PIECE_ELEMENTS) for _ in range(pieces))

    def take(self, elements: int) -> bytes:
        """Data of `elements` numbers: whole blocks, at most `_PIECE_ELEMENTS`."""
        blocks = elements // self._block.block_elements
        spare = _POOL_ELEMENTS // self._block.block_elements - blocks
        start = self._rng.randrange(spare + 1) * self._block.block_bytes
        return self._pool[start : start + blocks * self._block.block_bytes]


def _data(source: _Matrices, tensor: str, kind: int, elements: int) -> Iterator[bytes]:
    """A tensor's data in pieces: scales are one, biases zero, matrices random."""
    if kind == F32:
        yield _ONE * elements if tensor.endswith("norm.weight") else bytes(4 * elements)
        return
    while elements:
        count = min(elements, _PIECE_ELEMENTS)
        elements -= count
        yield source.take(count)


def _random_f16(rng: random.Random, count: int) -> bytes:
    mask = int.from_bytes(_F16_RANDOM_BITS * count, "little")
    exponent = int.from_bytes(_F16_EXPONENT * count, "little")
    bits = (rng.getrandbits(16 * count) & mask) | exponent
    return bits.to_bytes(2 * count, "little")


def _random_q8_0(rng: random.Random, count: int) -> bytes:
    block = TENSOR_TYPES[Q8_0]
    blocks = count // block.block_elements
    data = bytearray(rng.randbytes(blocks * block.block_bytes))
    data[0 :: block.block_bytes] = _Q8_SCALE[:1] * blocks
    data[1 :: block.block_bytes] = _Q8_SCALE[1:] * blocks
    return bytes(data)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _text(key: str, value: str) -> bytes:
    return _string(key) + struct.pack("<I", STRING_VALUE) + _string(value)


def _integer(key: str, value: int) -> bytes:
    return _string(key) + struct.pack("<II", UINT32_VALUE, value)


def _float(key: str, value: float) -> bytes:
    return _string(key) + struct.pack("<If", FLOAT32_VALUE, value)
