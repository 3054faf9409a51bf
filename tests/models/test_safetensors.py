"""Folders of safetensors: what they say, what they need, and how they can be wrong."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from slalom.errors import ModelError
from slalom.models.safetensors import (
    RUNTIME_BYTES,
    estimate_folder,
    is_model_folder,
    read_folder,
)
from tests.models.folders import KV_ELEMENTS, make_folder


def test_a_folder_tells_its_sizes(tmp_path: Path) -> None:
    model = read_folder(make_folder(tmp_path, shards=3))
    assert (model.parameter_count, model.tensor_bytes) == (600, 1200)
    assert model.file_bytes > model.tensor_bytes
    assert (model.architecture, model.layer_count, model.context_length) == ("qwen2", 4, 1024)
    assert model.kv_elements_per_token == KV_ELEMENTS
    assert len(model.files) == 3


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        ({"head_dim": 16}, 2 * KV_ELEMENTS),
        ({"num_key_value_heads": None}, 4 * KV_ELEMENTS),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 4 * 576),
        ({"text_config": {"num_hidden_layers": 8}}, 2 * KV_ELEMENTS),
        ({"num_hidden_layers": "many"}, 0),
    ],
)
def test_the_cache_follows_the_kind_of_attention(
    tmp_path: Path, config: dict[str, Any], elements: int
) -> None:
    assert read_folder(make_folder(tmp_path, **config)).kv_elements_per_token == elements


def test_the_estimate_has_one_whole_context_and_some_for_each_further_place(
    tmp_path: Path,
) -> None:
    model = read_folder(make_folder(tmp_path, max_position_embeddings=10_000))
    one, four = (estimate_folder(model, 0, places) for places in (1, 4))
    assert one.kv == 10_000 * KV_ELEMENTS * 2
    assert four.kv == (10_000 + 3 * 4096) * KV_ELEMENTS * 2
    assert estimate_folder(model, 500, 2).kv == 1000 * KV_ELEMENTS * 2
    assert estimate_folder(model, 500, 2, kv_bytes_per_element=1.0).kv == 1000 * KV_ELEMENTS
    assert one.total == 400 + one.kv + RUNTIME_BYTES


def test_what_is_no_model_folder_is_told(tmp_path: Path) -> None:
    assert not is_model_folder(tmp_path)
    with pytest.raises(ModelError, match=r"cannot read .*config.json"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no .safetensors file"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ModelError, match="damaged"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="holds no object"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 4,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b"not json",
        *(
            struct.pack("<Q", len(head)) + head
            for head in (
                json.dumps({"w": {"shape": [1], "data_offsets": [5, 2]}}).encode(),
                json.dumps({"w": {"shape": [-1], "data_offsets": [0, 2]}}).encode(),
                json.dumps({"w": {"shape": ["x"], "data_offsets": [0, 2]}}).encode(),
                json.dumps({"w": 3}).encode(),
            )
        ),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, damage: bytes) -> None:
    make_folder(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(damage)
    with pytest.raises(ModelError, match="no safetensors file"):
        read_folder(tmp_path)
