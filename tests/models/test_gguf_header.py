"""The header reader takes what is right and refuses the rest with one kind of error."""

import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slalom.errors import ModelError
from slalom.models.gguf_format import FILE_TYPES, TENSOR_TYPES
from slalom.models.gguf_header import ArrayPlace, read_header, read_integers, read_strings
from slalom.models.gguf_metadata import read_metadata
from slalom.units import MIB
from tests.models import gguf_bytes
from tests.models.gguf_bytes import MINI

GOOD = gguf_bytes.gguf()
#: Where the tensor data starts in GOOD.
GOOD_HEADER = len(GOOD) - 4 * 64 * 3


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


def test_reads_scalars_arrays_and_tensors(tmp_path: Path) -> None:
    keys = {**gguf_bytes.MODEL_KEYS, "a.true": True, "a.half": 0.5, "a.sizes": [3, 5]}
    header = read_header(write(tmp_path, gguf_bytes.gguf(keys)))
    assert header.values["general.name"] == "tiny"
    assert header.values["a.true"] is True
    assert header.values["a.half"] == pytest.approx(0.5)
    tokens, sizes = header.values["tokenizer.ggml.tokens"], header.values["a.sizes"]
    assert isinstance(tokens, ArrayPlace)
    assert isinstance(sizes, ArrayPlace)
    assert read_strings(header, tokens) == ["a", "b", "c"]
    assert read_integers(header, sizes) == [3, 5]
    assert [tensor.dimensions for tensor in header.tensors] == [(64, 3), (64,)]
    assert header.tensors[0].byte_count == 4 * 64 * 3


def test_agrees_with_the_reference_reader_on_a_bundled_model() -> None:
    reference = gguf.GGUFReader(MINI)
    header = read_header(MINI)
    assert header.data_offset == reference.data_offset
    assert [(t.name, t.elements, t.byte_count) for t in header.tensors] == [
        (t.name, int(t.n_elements), int(t.n_bytes)) for t in reference.tensors
    ]
    assert set(header.values) == {key for key in reference.fields if not key.startswith("GGUF.")}


def test_tables_agree_with_the_reference() -> None:
    for kind, (block_elements, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        assert TENSOR_TYPES[kind.value] == (kind.name, block_elements, block_bytes)
    for file_type in gguf.LlamaFileType:
        if file_type.value in FILE_TYPES:
            assert FILE_TYPES[file_type.value] in file_type.name


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda path: path, "model_missing", "no model file"),
        (lambda path: path.mkdir(), "model_unreadable", "cannot read"),
        (lambda path: path.write_bytes(b""), "model_corrupt", "magic number"),
        (lambda path: path.write_bytes(b"PK\3\4" * 99), "model_corrupt", "letters GGUF"),
        (
            lambda path: path.write_bytes(gguf_bytes.gguf(version=1)),
            "model_corrupt",
            "version is 1",
        ),
        (lambda path: path.write_bytes(GOOD[:-4]), "model_corrupt", "4 bytes of tensor data"),
    ],
)
def test_says_what_is_wrong(make: object, code: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert callable(make)
    make(path)
    with pytest.raises(ModelError, match=says) as caught:
        read_header(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", ["tensor count", "key count", "key length", "array length"])
def test_huge_lengths_allocate_nothing(place: str, tmp_path: Path) -> None:
    data = bytearray(GOOD)
    offset = {
        "tensor count": 8,
        "key count": 16,
        "key length": 24,
        "array length": GOOD.index(b"tokenizer.ggml.tokens") + 21 + 8,
    }[place]
    for claimed in (1 << 62, 1 << 40, 1 << 24, 60_000):
        data[offset : offset + 8] = struct.pack("<Q", claimed)
        path = write(tmp_path, bytes(data))
        tracemalloc.start()
        try:
            with pytest.raises(ModelError):
                read_header(path)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(GOOD_HEADER):
        with pytest.raises(ModelError):
            read_header(write(tmp_path, GOOD[:length]))


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_gives_an_answer_or_the_typed_error(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, GOOD_HEADER - 1))
        piece = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=9),
                st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 1 << 63)]),
            )
        )
        damaged[at : at + len(piece)] = piece
    path = write(tmp_path, bytes(damaged))
    # Anything but the typed error leaves the context and fails the test.
    with suppress(ModelError):
        assert read_metadata(path).layer_count > 0


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
@example(b"\x03\0\0\0" + b"\xff" * 16)
def test_noise_after_the_magic_number_is_refused(tmp_path: Path, noise: bytes) -> None:
    with pytest.raises(ModelError):
        read_metadata(write(tmp_path, b"GGUF" + noise))
