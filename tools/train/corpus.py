"""The training text: Python's own standard library, as plain, fill-in-the-middle and chat rows.

Owns which files are read, how they are split, and how a row of tokens is put together.
It does not know the network or the optimiser. Called by `train_bundled.py`. All randomness
comes from the `random.Random` the caller passes, so a seed fixes the data.
"""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat_rows import ChatPair, chat_pairs

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from vocabulary import Vocabulary

#: Directories of the standard library that hold tests, tables or third-party code.
EXCLUDED_DIRS = frozenset(
    {
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "dist-packages",
        "encodings",
        "pydoc_data",
        "_bundled",
        "__pycache__",
        "__phello__",
    }
)
#: One file in this many is kept out of training and used for the validation loss.
HOLD_OUT_EVERY = 40
#: Share of rows by kind; the rest are plain code.
FIM_SHARE = 0.35
CHAT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts of the standard library, split into training and held-out files."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    byte_count: int


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the standard library's modules (or `root`), in a stable order."""
    base = root or Path(sysconfig.get_paths()["stdlib"])
    train: list[str] = []
    held_out: list[str] = []
    byte_count = 0
    for index, path in enumerate(sorted(base.rglob("*.py"))):
        if EXCLUDED_DIRS.intersection(path.relative_to(base).parts[:-1]):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if len(text) < 200:
            continue
        byte_count += len(text)
        (held_out if index % HOLD_OUT_EVERY == 0 else train).append(text)
    return Corpus(tuple(train), tuple(held_out), byte_count)


class RowSource:
    """Draws rows of exactly `length` tokens from a set of texts."""

    def __init__(self, texts: tuple[str, ...], vocabulary: Vocabulary, rng: random.Random) -> None:
        self._vocabulary = vocabulary
        self._rng = rng
        self._lines = [text.splitlines(keepends=True) for text in texts]
        self._stream: list[int] = []
        for tokens in vocabulary.encode_many(texts):
            self._stream.extend(tokens)
            self._stream.append(vocabulary.end_of_text)
        self._pairs: list[ChatPair] = [pair for text in texts for pair in chat_pairs(text)]

    @property
    def token_count(self) -> int:
        """Tokens of plain code, end-of-text marks included."""
        return len(self._stream)

    @property
    def chat_pair_count(self) -> int:
        """Functions usable for chat rows."""
        return len(self._pairs)

    def row(self, length: int) -> list[int]:
        """Draw one training row of a random kind."""
        draw = self._rng.random()
        if draw < FIM_SHARE:
            return self._packed(length, self._fim_sample)
        if draw < FIM_SHARE + CHAT_SHARE and self._pairs:
            return self._packed(length, self._chat_sample)
        return self.plain(length)

    def plain(self, length: int) -> list[int]:
        """Draw a contiguous stretch of code."""
        start = self._rng.randrange(max(1, len(self._stream) - length))
        return self._stream[start : start + length]

    def _packed(self, length: int, sample: Callable[[int], list[int]]) -> list[int]:
        row: list[int] = []
        while len(row) < length:
            row.extend(sample(length - len(row)))
        return row[:length]

    def _fim_sample(self, room: int) -> list[int]:
        """Prefix, suffix, middle; the middle is what an editor would ask for."""
        rng = self._rng
        lines = self._lines[rng.randrange(len(self._lines))]
        span = rng.randint(6, 24 + room // 16)
        first = rng.randrange(max(1, len(lines) - span))
        window = "".join(lines[first : first + span])
        start, end = self._middle_bounds(window)
        suffix = window[end:] if rng.random() < 0.85 else ""
        vocabulary = self._vocabulary
        return [
            vocabulary.fim_prefix,
            *vocabulary.encode(window[:start]),
            vocabulary.fim_suffix,
            *vocabulary.encode(suffix),
            vocabulary.fim_middle,
            *vocabulary.encode(window[start:end]),
            vocabulary.end_of_text,
        ]

    def _middle_bounds(self, window: str) -> tuple[int, int]:
        """Choose where the hole starts (anywhere) and ends (mostly at a line's end)."""
        rng = self._rng
        start = rng.randrange(len(window))
        kind = rng.random()
        line_end = window.find("\n", start)
        line_end = len(window) if line_end < 0 else line_end
        if kind < 0.5:
            return start, line_end
        if kind < 0.85:
            end = line_end
            for _ in range(rng.randint(1, 6)):
                following = window.find("\n", end + 1)
                end = following if following > 0 else end
            return start, end
        return start, min(len(window), start + rng.randint(1, 200))

    def _chat_sample(self, _room: int) -> list[int]:
        pair = self._pairs[self._rng.randrange(len(self._pairs))]
        return self._vocabulary.encode(pair.render(self._rng))
