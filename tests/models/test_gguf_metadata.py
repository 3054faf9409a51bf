"""What the keys of a GGUF file mean."""

from pathlib import Path

import pytest

from slalom.errors import ModelError
from slalom.models.gguf_metadata import ModelMetadata, read_metadata, shard_files
from tests.models.gguf_bytes import MINI, MODEL_KEYS, Item, gguf


def read(folder: Path, changes: dict[str, Item], name: str = "model.gguf") -> ModelMetadata:
    path = folder / name
    path.write_bytes(gguf({**MODEL_KEYS, **changes}))
    return read_metadata(path)


def test_a_bundled_model_is_described() -> None:
    metadata = read_metadata(MINI)
    assert metadata.architecture == "qwen2"
    assert metadata.name == "slalom-mini"
    assert 1_000_000 < metadata.parameter_count < 2_000_000
    assert metadata.context_length >= 8192
    assert metadata.vocabulary_size == 6144
    assert metadata.quantisation == "Q8_0"
    assert metadata.has_chat_template
    assert not metadata.thinks
    assert not metadata.is_embedding
    assert metadata.fim is not None
    assert metadata.fim.family == "qwen"
    assert metadata.fim.marks == ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    assert metadata.file_bytes == MINI.stat().st_size
    # Two kinds, keys and values, of 64 numbers for the one KV head of each of four layers.
    assert metadata.kv_elements_per_token == 2 * 64 * metadata.kv_head_count * metadata.layer_count


def test_sizes_of_a_plain_model(tmp_path: Path) -> None:
    metadata = read(tmp_path, {})
    assert (metadata.layer_count, metadata.head_count, metadata.kv_head_count) == (2, 4, 2)
    assert metadata.parameter_count == 64 * 3 + 64
    assert metadata.kv_elements_per_token == 2 * 2 * (16 + 16)
    assert metadata.vocabulary_size == 3
    assert metadata.quantisation == "F32"
    assert metadata.fim is None
    assert not metadata.has_chat_template


def test_kv_heads_may_differ_by_layer_and_widths_may_be_given(tmp_path: Path) -> None:
    metadata = read(
        tmp_path,
        {
            "llama.attention.head_count_kv": [1, 4],
            "llama.attention.key_length": 24,
            "llama.attention.value_length": 8,
        },
    )
    assert metadata.kv_head_count == 4
    assert metadata.kv_elements_per_token == (1 + 4) * (24 + 8)


def test_fim_tokens_are_found_by_id_or_by_spelling(tmp_path: Path) -> None:
    by_id = read(
        tmp_path,
        {
            "tokenizer.ggml.fim_pre_token_id": 2,
            "tokenizer.ggml.fim_suf_token_id": 0,
            "tokenizer.ggml.fim_mid_token_id": 1,
        },
    )
    assert by_id.fim is not None
    assert by_id.fim.render("1", "2") == "c1a2b"
    by_spelling = read(
        tmp_path, {"tokenizer.ggml.tokens": ["<fim_middle>", "<fim_suffix>", "<fim_prefix>"]}
    )
    assert by_spelling.fim is not None
    assert by_spelling.fim.render("1", "2") == "<fim_prefix>1<fim_suffix>2<fim_middle>"
    outside = {f"tokenizer.ggml.fim_{part}_token_id": 99 for part in ("pre", "suf", "mid")}
    assert read(tmp_path, {**outside}).fim is None


def test_file_type_and_pooling_are_understood(tmp_path: Path) -> None:
    metadata = read(tmp_path, {"general.file_type": 15, "llama.pooling_type": 1})
    assert metadata.quantisation == "Q4_K_M"
    assert metadata.is_embedding


def test_a_nameless_model_is_called_after_its_file(tmp_path: Path) -> None:
    assert read(tmp_path, {"general.name": ""}, "some-model.gguf").name == "some-model"


def test_a_split_model_is_one_model(tmp_path: Path) -> None:
    names = [f"big-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    (tmp_path / names[0]).write_bytes(gguf())
    shard_keys: dict[str, Item] = {"split.no": 1}
    for name in names[1:]:
        (tmp_path / name).write_bytes(gguf(shard_keys, [("blk.0.x", (64, 3), 0)]))
    whole = read_metadata(tmp_path / names[1])
    assert [path.name for path in whole.files] == names
    assert whole.path == tmp_path / names[0]
    assert whole.parameter_count == 64 * 3 + 64 + 2 * 64 * 3
    assert whole.file_bytes == sum((tmp_path / name).stat().st_size for name in names)
    (tmp_path / names[2]).unlink()
    with pytest.raises(ModelError, match="00003-of-00003") as caught:
        read_metadata(tmp_path / names[0])
    assert caught.value.code == "model_missing"


def test_a_name_that_only_looks_split_is_one_file() -> None:
    odd = Path("m-00001-of-00000.gguf")
    assert shard_files(odd) == (odd,)


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "lora.gguf"
    path.write_bytes(gguf({"general.architecture": "llama", "general.type": "adapter"}))
    with pytest.raises(ModelError, match="without a language model") as caught:
        read_metadata(path)
    assert caught.value.code == "model_not_a_model"


def test_a_negative_size_is_damage(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"llama\.embedding_length is out of range") as caught:
        read(tmp_path, {"llama.embedding_length": -64})
    assert caught.value.code == "model_corrupt"


def test_a_template_that_lets_the_model_think_is_known(tmp_path: Path) -> None:
    template = "{% if enable_thinking %}<think>{% endif %}"
    assert read(tmp_path, {"tokenizer.chat_template": template}).thinks
