"""A bundled model as the folder that vLLM reads: the same weights, the same tokenizer.

So that real vLLM can be tried without a download, and its answers be compared with llama.cpp's.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from slalom.models.sources import resolve

#: Names of GGUF, and what Hugging Face's model code calls the same; blocks have a number.
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: How Qwen cuts a text before its tokens are looked up.
_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL = 3


def write_folder(source: str, folder: Path) -> Path:
    """Write the folder of a bundled model of Qwen2's architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(str(resolve(source).path))
    facts = {name: field.contents() for name, field in reader.fields.items()}
    _write_config(facts, folder)
    _write_tokenizer(facts, folder)
    _write_weights(reader, folder / "model.safetensors")
    return folder


def _write_config(facts: dict[str, Any], folder: Path) -> None:
    own = {name.partition(".")[2]: value for name, value in facts.items()}
    heads = own["attention.head_count"]
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": own["embedding_length"],
        "intermediate_size": own["feed_forward_length"],
        "num_hidden_layers": own["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": own["attention.head_count_kv"],
        "head_dim": own["embedding_length"] // heads,
        "max_position_embeddings": own["context_length"],
        "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
        "rope_theta": own["rope.freq_base"],
        "tie_word_embeddings": True,
        "vocab_size": own["vocab_size"],
        "eos_token_id": own["ggml.eos_token_id"],
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    tokens, merges = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.merges"]
    special = [
        index for index, kind in enumerate(facts["tokenizer.ggml.token_type"]) if kind == _CONTROL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": _CUTS}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": tokens[index], "special": True, **flags} for index in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [cut, {**byte_level, "trim_offsets": True}],
        },
        "post_processor": None,
        "decoder": {**byte_level, "trim_offsets": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [pair.split(" ") for pair in merges],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "chat_template": facts["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _write_weights(reader: GGUFReader, path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces, at = [], 0
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        data = np.ascontiguousarray(values).tobytes()
        place = [at, at + len(data)]
        shape = list(values.shape)
        header[_name(tensor.name)] = {"dtype": "F32", "shape": shape, "data_offsets": place}
        pieces.append(data)
        at += len(data)
    head = json.dumps(header).encode()
    path.write_bytes(b"".join((struct.pack("<Q", len(head)), head, *pieces)))


def _name(of_gguf: str) -> str:
    if of_gguf in _NAMES:
        return _NAMES[of_gguf]
    _, number, part, kind = of_gguf.split(".")
    return f"model.layers.{number}.{_NAMES[part]}.{kind}"
