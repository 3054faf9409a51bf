"""The byte-level BPE vocabulary shared by the bundled models.

Owns training, saving and the special tokens. The splitting pattern is the one llama.cpp
calls "qwen2", so that the engine and the training tokenise alike. Called by
`train_bundled.py` (training) and `export_gguf.py` (tokens and merges for the file).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: Order fixes the ids: they are the last ones of the vocabulary.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
#: Source: the pre-tokeniser of Qwen2, which llama.cpp implements under the name "qwen2".
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A trained tokenizer with the ids the training needs."""

    tokenizer: Tokenizer

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            msg = f"the vocabulary lacks {token}; train it again"
            raise LookupError(msg)
        return int(found)

    @property
    def size(self) -> int:
        """Tokens, special ones included."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def first_special(self) -> int:
        """Id of the first special token; all later ids are special too."""
        return self.size - len(SPECIAL_TOKENS)

    @property
    def end_of_text(self) -> int:
        """Id that ends a file or a filled-in middle."""
        return self._id("<|endoftext|>")

    @property
    def fim_prefix(self) -> int:
        """Id before the text left of the hole."""
        return self._id("<|fim_prefix|>")

    @property
    def fim_suffix(self) -> int:
        """Id before the text right of the hole."""
        return self._id("<|fim_suffix|>")

    @property
    def fim_middle(self) -> int:
        """Id after which the model fills the hole."""
        return self._id("<|fim_middle|>")

    def encode(self, text: str) -> list[int]:
        """Tokenise text; a special token spelled out becomes its one id."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> Iterable[list[int]]:
        """Tokenise many texts in parallel."""
        for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False):
            yield list(encoding.ids)

    def tokens_and_merges(self) -> tuple[list[str], list[str]]:
        """Tokens in id order and merges in rank order, as GGUF wants them."""
        state = json.loads(self.tokenizer.to_str())
        by_id = {index: token for token, index in state["model"]["vocab"].items()}
        by_id.update({added["id"]: added["content"] for added in state["added_tokens"]})
        merges = [
            pair if isinstance(pair, str) else " ".join(pair) for pair in state["model"]["merges"]
        ]
        return [by_id[index] for index in range(len(by_id))], merges


def train_vocabulary(texts: Iterable[str], size: int) -> Vocabulary:
    """Train a vocabulary of exactly `size` tokens, special ones included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL_TOKENS),
        special_tokens=[],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return Vocabulary(tokenizer)


def load_vocabulary(path: Path) -> Vocabulary:
    """Load a vocabulary saved by `Vocabulary.tokenizer.save`."""
    return Vocabulary(Tokenizer.from_file(str(path)))
