"""Random-weight models: repeatable, of the size asked for, written without much memory."""

import hashlib
import tracemalloc
from pathlib import Path

import gguf
import pytest

from slalom.errors import ModelError
from slalom.models.gguf_metadata import read_metadata
from slalom.models.synth import Quantisation, shape_for, synthesize
from slalom.units import MIB
from tests.models.gguf_bytes import MINI

SMALLEST = 3_000_000


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("parameters", [10**7, 10**8, 3 * 10**8, 5 * 10**8, 10**9, 7 * 10**9])
def test_the_shape_has_the_size_asked_for(parameters: int) -> None:
    shape = shape_for(parameters, 6144)
    assert shape.parameters == pytest.approx(parameters, rel=0.03)
    assert shape.heads % shape.kv_heads == 0
    assert shape.width % 128 == 0
    assert shape.width // 2 < shape.feed_forward < 6 * shape.width


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder, seed in zip(folders, (5, 5, 6), strict=True):
        folder.mkdir()
        synthesize(folder / "m.gguf", parameters=SMALLEST, seed=seed)
    first, second, third = (digest(folder / "m.gguf") for folder in folders)
    assert first == second != third


@pytest.mark.parametrize(("quantisation", "bytes_each"), [("f16", 2.0), ("q8_0", 34 / 32)])
def test_the_file_holds_what_the_reference_reader_expects(
    quantisation: Quantisation, bytes_each: float, tmp_path: Path
) -> None:
    metadata = synthesize(tmp_path / "m.gguf", parameters=SMALLEST, quantisation=quantisation)
    assert metadata.quantisation == quantisation.upper()
    assert metadata.tensor_bytes == pytest.approx(metadata.parameter_count * bytes_each, rel=0.02)
    reader = gguf.GGUFReader(metadata.path)
    matrix = next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
    values = gguf.quants.dequantize(matrix.data, matrix.tensor_type)
    assert 0.001 < float(values.std()) < 0.1
    assert abs(float(values.mean())) < 0.001


def test_the_vocabulary_and_template_are_the_bundled_ones(tmp_path: Path) -> None:
    made, bundled = synthesize(tmp_path / "m.gguf", parameters=SMALLEST), read_metadata(MINI)
    assert made.vocabulary_size == bundled.vocabulary_size
    assert made.fim == bundled.fim
    assert made.has_chat_template
    assert made.name == "m"


def test_progress_grows_to_the_whole_and_memory_stays_small(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    # Pages of the file are not the process's memory; what Python allocates is.
    tracemalloc.start()
    try:
        metadata = synthesize(
            tmp_path / "m.gguf", parameters=30_000_000, on_progress=lambda *at: seen.append(at)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert metadata.file_bytes > 50 * MIB
    assert peak < 48 * MIB
    written = [done for done, _ in seen]
    assert written == sorted(written)
    assert all(total == metadata.file_bytes for _, total in seen)
    assert metadata.file_bytes - written[-1] < 32


@pytest.mark.parametrize("parameters", [0, 1000, 10**13])
def test_an_impossible_size_is_refused(parameters: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="choose between"):
        synthesize(tmp_path / "m.gguf", parameters=parameters)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")

    def full(_done: int, _total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left") as caught:
        synthesize(path, parameters=SMALLEST, on_progress=full)
    assert caught.value.code == "model_unwritable"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder exists"):
        synthesize(tmp_path / "absent" / "m.gguf", parameters=SMALLEST)
