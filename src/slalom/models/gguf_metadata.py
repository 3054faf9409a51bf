"""What a GGUF file says about its model: sizes, context, quantisation, special tokens.

Owns the meaning of the keys, including files split into shards. Reading bytes is
`gguf_header.py`'s work; turning sizes into memory is `memory.py`'s. Called by the model
sources, the engines and the command line.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slalom.errors import ModelError
from slalom.models import fim_tokenizer
from slalom.models.fim import FimTemplate
from slalom.models.gguf_format import FILE_TYPES, TENSOR_TYPES
from slalom.models.gguf_header import (
    ArrayPlace,
    Header,
    TensorInfo,
    read_header,
    read_integers,
    read_strings,
)

#: How the parts of a model split into several files are named.
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_SHARDS_MAX = 1_000
#: A longer list of sizes per layer is taken for damage, and left unread.
_LAYERS_MAX = 65_536
_MATRIX_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model as its file describes it."""

    path: Path
    #: The name in the file, or the file's own name where it has none.
    name: str
    architecture: str
    parameter_count: int
    layer_count: int
    embedding_width: int
    feed_forward_width: int
    #: Query heads of one layer (the largest, where layers differ).
    head_count: int
    #: Key/value heads of one layer (the largest, where layers differ).
    kv_head_count: int
    #: Numbers the KV cache keeps per token, over all layers: keys and values.
    kv_elements_per_token: int
    #: Longest context the model was made for, tokens; 0 where the file does not say.
    context_length: int
    vocabulary_size: int
    #: For example ``Q4_K_M`` or ``F16``.
    quantisation: str
    has_chat_template: bool
    #: Whether that template lets the model think before it answers.
    thinks: bool
    #: Whether that template tells the model of tools.
    knows_tools: bool
    #: How it wants fill-in-the-middle prompts; None where it has no marks for them.
    fim: FimTemplate | None
    #: True for models that make embeddings and no text.
    is_embedding: bool
    #: All files of the model together, bytes.
    file_bytes: int
    #: Tensor data alone, bytes.
    tensor_bytes: int
    #: Every file of the model; one, unless it is split.
    files: tuple[Path, ...]


def read_metadata(path: Path) -> ModelMetadata:
    """Read the metadata of the GGUF model at `path` (any shard's path names the model).

    Raises:
        ModelError: The file or one of its shards is missing, damaged, or describes no model.
    """
    files = shard_files(path)
    headers = [read_header(file) for file in files]
    return _describe(headers)


def shard_files(path: Path) -> tuple[Path, ...]:
    """All files of the model that `path` belongs to, first shard first; none is opened."""
    match = _SHARD.fullmatch(path.name)
    if match is None or not 1 <= int(match["count"]) <= _SHARDS_MAX:
        return (path,)
    count = int(match["count"])
    names = (f"{match['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


class _Keys:
    """Typed look-ups in the first shard's keys."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self.architecture = self.text("general.architecture")

    def text(self, key: str) -> str:
        value = self._header.values.get(key)
        return value if isinstance(value, str) else ""

    def size(self, key: str) -> int:
        """A size of the architecture, 0 where absent; for a list, its largest item."""
        return max(self.sizes(key), default=0)

    def sizes(self, key: str) -> list[int]:
        """A size per layer; one item where it is the same for all."""
        full = f"{self.architecture}.{key}"
        value = self._header.values.get(full)
        if isinstance(value, ArrayPlace) and value.item_count <= _LAYERS_MAX:
            found = read_integers(self._header, value)
        elif isinstance(value, int):
            found = [value]
        else:
            found = []
        if any(not 0 <= size < 1 << 32 for size in found):
            raise ModelError(
                f"{self._header.path} describes an impossible model: {full} is out of range. "
                "The file is damaged: copy or download it again.",
                code="model_corrupt",
            )
        return found

    def tokens(self) -> list[str]:
        place = self._header.values.get("tokenizer.ggml.tokens")
        return read_strings(self._header, place) if isinstance(place, ArrayPlace) else []

    def token_kinds(self) -> list[int]:
        """llama.cpp's kind of each token, or nothing where the file does not say."""
        place = self._header.values.get("tokenizer.ggml.token_type")
        return read_integers(self._header, place) if isinstance(place, ArrayPlace) else []

    @property
    def names(self) -> str:
        """What the model is called, in the file and by the file."""
        return f"{self.text('general.name')} {self._header.path.stem}"

    def token_id(self, key: str) -> int | None:
        value = self._header.values.get(f"tokenizer.ggml.{key}_token_id")
        return value if isinstance(value, int) else None


def _describe(headers: list[Header]) -> ModelMetadata:
    first = headers[0]
    keys = _Keys(first)
    tensors = [tensor for header in headers for tensor in header.tensors]
    layers, width = keys.size("block_count"), keys.size("embedding_length")
    if not keys.architecture or not layers or not tensors:
        raise ModelError(
            f"{first.path} is a GGUF file without a language model in it "
            f"(architecture {keys.architecture or 'missing'!r}, {layers} layers, "
            f"{len(tensors)} tensors). Adapters and projectors cannot be served alone: "
            "name the model's own file.",
            code="model_not_a_model",
        )
    heads = keys.size("attention.head_count")
    tokens = keys.tokens()
    return ModelMetadata(
        path=first.path,
        name=keys.text("general.name") or first.path.stem,
        architecture=keys.architecture,
        parameter_count=sum(tensor.elements for tensor in tensors),
        layer_count=layers,
        embedding_width=width,
        feed_forward_width=keys.size("feed_forward_length"),
        head_count=heads,
        kv_head_count=keys.size("attention.head_count_kv") or heads,
        kv_elements_per_token=_kv_elements(keys, layers, width, heads),
        context_length=keys.size("context_length"),
        vocabulary_size=keys.size("vocab_size") or len(tokens),
        quantisation=_quantisation(first, tensors),
        has_chat_template=bool(keys.text("tokenizer.chat_template")),
        thinks="think" in keys.text("tokenizer.chat_template"),
        knows_tools="tools" in keys.text("tokenizer.chat_template"),
        fim=_fim(keys, tokens),
        is_embedding=f"{keys.architecture}.pooling_type" in first.values,
        file_bytes=sum(header.file_bytes for header in headers),
        tensor_bytes=sum(tensor.byte_count for tensor in tensors),
        files=tuple(header.path for header in headers),
    )


def _kv_elements(keys: _Keys, layers: int, width: int, heads: int) -> int:
    """Keys and values of all layers for one token; an upper bound for sliding windows."""
    head_width = width // heads if heads else 0
    key_width = keys.size("attention.key_length") or head_width
    value_width = keys.size("attention.value_length") or head_width
    per_layer = keys.sizes("attention.head_count_kv") or [heads]
    head_total = sum(per_layer) if len(per_layer) == layers else per_layer[0] * layers
    return head_total * (key_width + value_width)


def _quantisation(header: Header, tensors: list[TensorInfo]) -> str:
    file_type = header.values.get("general.file_type")
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    elements: Counter[int] = Counter()
    for tensor in tensors:
        matrix = len(tensor.dimensions) >= _MATRIX_DIMENSIONS
        elements[tensor.type_number] += tensor.elements if matrix else 0
    return TENSOR_TYPES[elements.most_common(1)[0][0]].name


def _fim(keys: _Keys, tokens: list[str]) -> FimTemplate | None:
    given = {name: keys.token_id(name) for name in fim_tokenizer.ID_NAMES}
    ids = {name: number for name, number in given.items() if number is not None}
    return fim_tokenizer.of_gguf(tokens, keys.token_kinds(), ids, keys.names)
