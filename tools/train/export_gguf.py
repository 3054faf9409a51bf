"""Writes a trained network and its vocabulary as one GGUF file.

Owns the mapping from parameter names to GGUF's and all metadata an engine reads: sizes,
tokenizer, fill-in-the-middle ids, chat template. Called by `train_bundled.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from network import Network
    from vocabulary import Vocabulary

#: What the files say an engine may use. Training saw far less: see the model card.
CONTEXT_LENGTH = 32_768
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] if message['content'] is string"
    " else message['content'] | map(attribute='text') | join('') }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_FIM_KEYS = {
    "fim_pre": "<|fim_prefix|>",
    "fim_suf": "<|fim_suffix|>",
    "fim_mid": "<|fim_middle|>",
    "fim_pad": "<|fim_pad|>",
    "fim_rep": "<|repo_name|>",
    "fim_sep": "<|file_sep|>",
}


def export(network: Network, vocabulary: Vocabulary, path: Path, description: str) -> None:
    """Write `path`: matrices as q8_0, vectors as f32."""
    shape = network.shape
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_type("model")
    writer.add_name(shape.name)
    writer.add_description(description)
    writer.add_license("PSF-2.0")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_vocabulary(writer, vocabulary)
    _add_tensors(writer, network)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    tokens, merges = vocabulary.tokens_and_merges()
    special = set(tokens[vocabulary.first_special :])
    ids = {token: index for index, token in enumerate(tokens) if token in special}
    kinds = [gguf.TokenType.CONTROL if t in ids else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_eot_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(value=False)
    for key, token in _FIM_KEYS.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", ids[token])
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, network: Network) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, network.shape.layers)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, parameter in network.state_dict().items():
        target = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        if target is None:
            msg = f"GGUF has no name for the parameter {name}; extend the mapping"
            raise LookupError(msg)
        values = parameter.detach().float().numpy().astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(target, values)
        else:
            writer.add_tensor(target, gguf.quants.quantize(values, kind), raw_dtype=kind)
