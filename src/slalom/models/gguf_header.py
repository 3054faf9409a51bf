"""A bounded reader of the header of a GGUF file.

Owns turning bytes into keys, values and tensor descriptions, and refusing what cannot be right.
It never allocates more than the file holds, never reads tensor data, and knows nothing of what
the keys mean (`gguf_metadata.py` does). Arrays are skipped and remembered by place.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeVar

from slalom.errors import ModelError
from slalom.models.gguf_format import (
    ARRAY_VALUE,
    DEFAULT_ALIGNMENT,
    MAGIC,
    SCALAR_CODES,
    STRING_VALUE,
    TENSOR_TYPES,
    VERSIONS,
    align,
    tensor_bytes,
)
from slalom.units import MIB

#: Limits far above any real file; beyond them a header is taken for damaged.
KEYS_MAX = 65_536
TENSORS_MAX = 1 << 20
KEY_BYTES_MAX = 65_535
STRING_BYTES_MAX = 16 * MIB
ARRAY_ITEMS_MAX = 1 << 22
HEADER_BYTES_MAX = 512 * MIB
DIMENSIONS_MAX = 4
ELEMENTS_MAX = 1 << 62
ALIGNMENT_MAX = 1 << 20

Scalar = int | float | bool | str
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """An array that was skipped: what it holds and where it starts in the file."""

    item_type: int
    item_count: int
    offset: int


Value = Scalar | ArrayPlace


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's description; `offset` counts from the start of the data section."""

    name: str
    dimensions: tuple[int, ...]
    type_number: int
    offset: int

    @property
    def elements(self) -> int:
        """Numbers in it."""
        return prod(self.dimensions)

    @property
    def byte_count(self) -> int:
        """Bytes of data it takes in the file."""
        return tensor_bytes(self.type_number, self.elements)


@dataclass(frozen=True, slots=True)
class Header:
    """Everything before the tensor data."""

    path: Path
    version: int
    values: dict[str, Value]
    #: Where each key's entry starts and ends, so that it can be copied as it stands.
    entry_spans: dict[str, tuple[int, int]]
    tensors: tuple[TensorInfo, ...]
    #: First byte of tensor data.
    data_offset: int
    file_bytes: int


class Cursor:
    """Reads forward through a file and never past its end."""

    def __init__(self, file: BinaryIO, path: Path, file_bytes: int) -> None:
        self._file = file
        self.path = path
        self._end = min(file_bytes, HEADER_BYTES_MAX)
        self.offset = 0

    def seek(self, offset: int) -> None:
        """Continue reading at `offset` bytes from the start."""
        self._file.seek(offset)
        self.offset = offset

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        self._require(count, what)
        data = self._file.read(count)
        if len(data) != count:
            raise self.damaged(f"it ends inside {what}")
        self.offset += count
        return data

    def skip(self, count: int, what: str) -> None:
        """Move on by `count` bytes without reading them."""
        self._require(count, what)
        self._file.seek(count, 1)
        self.offset += count

    def number(self, code: str, what: str) -> int:
        """One little-endian integer with `struct` code `code`."""
        value: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))[0]
        return value

    def bounded(self, code: str, limit: int, what: str) -> int:
        """One integer that must not exceed `limit`."""
        value = self.number(code, what)
        if value > limit:
            raise self.damaged(f"{what} is {value}, more than any real model has ({limit})")
        return value

    def string(self, limit: int, what: str) -> str:
        """A length and so many bytes of UTF-8 (undecodable bytes are replaced)."""
        count = self.bounded("Q", limit, f"the length of {what}")
        return self.take(count, what).decode("utf-8", errors="replace")

    def damaged(self, reason: str) -> ModelError:
        """The error for a file whose header cannot be right."""
        return ModelError(
            f"{self.path} is not a usable GGUF file: {reason} (at byte {self.offset}). "
            "It is truncated or damaged: copy or download it again.",
            code="model_corrupt",
        )

    def _require(self, count: int, what: str) -> None:
        if self.offset + count > self._end:
            raise self.damaged(f"it ends inside {what}")


def read_header(path: Path) -> Header:
    """Read and check the header of the GGUF file at `path`.

    Raises:
        ModelError: The file is missing, unreadable, not GGUF, truncated or damaged;
            `code` is ``model_missing``, ``model_unreadable`` or ``model_corrupt``.
    """
    return _with_cursor(path, _read_header)


def read_strings(header: Header, place: ArrayPlace) -> list[str]:
    """Read an array of strings that `read_header` skipped; empty for other item types.

    Raises:
        ModelError: As `read_header`.
    """
    if place.item_type != STRING_VALUE:
        return []

    def read(cursor: Cursor, _file_bytes: int) -> list[str]:
        cursor.seek(place.offset)
        return [cursor.string(STRING_BYTES_MAX, "a token") for _ in range(place.item_count)]

    return _with_cursor(header.path, read)


def read_integers(header: Header, place: ArrayPlace) -> list[int]:
    """Read an array of integers that `read_header` skipped; empty for other item types.

    Raises:
        ModelError: As `read_header`.
    """
    code = SCALAR_CODES.get(place.item_type, "f")
    if code in "fd?":
        return []

    def read(cursor: Cursor, _file_bytes: int) -> list[int]:
        cursor.seek(place.offset)
        data = cursor.take(place.item_count * struct.calcsize(f"<{code}"), "an array")
        return list(struct.unpack(f"<{place.item_count}{code}", data))

    return _with_cursor(header.path, read)


def copy_entries(header: Header, keys: Iterable[str]) -> list[bytes]:
    """The stored bytes of the given keys' entries, for writing into another file.

    Raises:
        ModelError: As `read_header`.
    """

    def read(cursor: Cursor, _file_bytes: int) -> list[bytes]:
        entries = []
        for key in keys:
            start, end = header.entry_spans[key]
            cursor.seek(start)
            entries.append(cursor.take(end - start, key))
        return entries

    return _with_cursor(header.path, read)


def _with_cursor(path: Path, read: Callable[[Cursor, int], T]) -> T:
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            return read(Cursor(file, path, file_bytes), file_bytes)
    except FileNotFoundError:
        raise ModelError(
            f"there is no model file {path}: check the path in the model's `source`.",
            code="model_missing",
        ) from None
    except OSError as error:
        raise ModelError(
            f"cannot read the model file {path}: {error.strerror or error}. "
            "Check that it is a file and that its permissions let this user read it.",
            code="model_unreadable",
        ) from error


def _read_header(cursor: Cursor, file_bytes: int) -> Header:
    if cursor.take(4, "the magic number") != MAGIC:
        raise cursor.damaged("it does not start with the letters GGUF")
    version = cursor.number("I", "the version")
    if version not in VERSIONS:
        raise cursor.damaged(f"its format version is {version}, and only 2 and 3 are known")
    tensor_count = cursor.bounded("Q", TENSORS_MAX, "the number of tensors")
    key_count = cursor.bounded("Q", KEYS_MAX, "the number of keys")
    values: dict[str, Value] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(key_count):
        start = cursor.offset
        key = cursor.string(KEY_BYTES_MAX, "a key")
        values[key] = _read_value(cursor, key)
        spans[key] = (start, cursor.offset)
    tensors = tuple(_read_tensor(cursor) for _ in range(tensor_count))
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= ALIGNMENT_MAX:
        raise cursor.damaged("its alignment is not a sensible number")
    data_offset = align(cursor.offset, alignment)
    header = Header(cursor.path, version, values, spans, tensors, data_offset, file_bytes)
    _check_data(cursor, header)
    return header


def _read_value(cursor: Cursor, key: str) -> Value:
    kind = cursor.number("I", f"the type of {key!r}")
    if kind == ARRAY_VALUE:
        return _skip_array(cursor, key)
    return _read_scalar(cursor, kind, key)


def _read_scalar(cursor: Cursor, kind: int, key: str) -> Scalar:
    if kind == STRING_VALUE:
        return cursor.string(STRING_BYTES_MAX, f"the text of {key!r}")
    code = SCALAR_CODES.get(kind)
    if code is None:
        raise cursor.damaged(f"{key!r} has the unknown value type {kind}")
    data = cursor.take(struct.calcsize(f"<{code}"), f"the value of {key!r}")
    value: Scalar = struct.unpack(f"<{code}", data)[0]
    return value


def _skip_array(cursor: Cursor, key: str) -> ArrayPlace:
    item_type = cursor.number("I", f"the item type of {key!r}")
    item_count = cursor.bounded("Q", ARRAY_ITEMS_MAX, f"the length of {key!r}")
    place = ArrayPlace(item_type, item_count, cursor.offset)
    if item_type == STRING_VALUE:
        for _ in range(item_count):
            size = cursor.bounded("Q", STRING_BYTES_MAX, f"the length of an item of {key!r}")
            cursor.skip(size, f"an item of {key!r}")
        return place
    code = SCALAR_CODES.get(item_type)
    if code is None:
        raise cursor.damaged(f"{key!r} is an array of the unknown or nested type {item_type}")
    cursor.skip(item_count * struct.calcsize(f"<{code}"), f"the array {key!r}")
    return place


def _read_tensor(cursor: Cursor) -> TensorInfo:
    name = cursor.string(KEY_BYTES_MAX, "a tensor's name")
    count = cursor.bounded("I", DIMENSIONS_MAX, f"the number of dimensions of {name!r}")
    dimensions = tuple(cursor.number("Q", f"a dimension of {name!r}") for _ in range(count))
    type_number = cursor.number("I", f"the type of {name!r}")
    if type_number not in TENSOR_TYPES:
        raise cursor.damaged(f"the tensor {name!r} has the unknown type {type_number}")
    tensor = TensorInfo(name, dimensions, type_number, cursor.number("Q", f"the place of {name!r}"))
    if tensor.elements > ELEMENTS_MAX:
        raise cursor.damaged(f"the tensor {name!r} is larger than any memory")
    return tensor


def _check_data(cursor: Cursor, header: Header) -> None:
    end = max((tensor.offset + tensor.byte_count for tensor in header.tensors), default=0)
    if header.data_offset + end > header.file_bytes and header.tensors:
        missing = header.data_offset + end - header.file_bytes
        raise cursor.damaged(f"{missing} bytes of tensor data are missing at its end")
