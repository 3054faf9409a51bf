"""Which fill-in-the-middle marks a model has, read from its tokenizer's own files.

Owns the look into a GGUF's vocabulary and into the tokenizer files of a folder of safetensors,
and what engines must be told so that they see marks in answers. Called by `gguf_metadata` and the
assembly.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slalom.models.fim import FimTemplate
from slalom.models.fim_families import of_vocabulary

#: A larger file is left unread.
_FILE_BYTES_MAX = 64 << 20
#: llama.cpp's kinds of tokens that a text may speak in: unknown, control, defined by a user.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
#: How spellings look that are no ordinary text.
_MARK = re.compile(r"▁?(<.+>|\[.+\])", re.DOTALL)
#: Names of the ids of marks in GGUF files, newer and older ones.
_MARK_IDS = (("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle"))
#: All ids that tell something.
ID_NAMES = (*(name for pair in _MARK_IDS for name in pair), "fim_pad", "fim_rep", "fim_sep")


def of_gguf(
    tokens: Sequence[str], kinds: Sequence[int], ids: Mapping[str, int], name: str
) -> FimTemplate | None:
    """The template of a GGUF model, or None for one that has no marks.

    Args:
        tokens: Its vocabulary.
        kinds: llama.cpp's kind of each token; may be empty.
        ids: Those of `ID_NAMES` that the file has.
        name: As people call the model.
    """
    vocabulary = frozenset(tokens)
    template = _of_ids(tokens, ids, vocabulary, name) or of_vocabulary(vocabulary, name)
    if template is None:
        return None
    special = tuple(
        token
        for token, kind in zip(tokens, kinds, strict=False)
        if kind in {_UNKNOWN, _CONTROL} or (kind == _USER_DEFINED and _MARK.fullmatch(token))
    )
    seen = tuple(stop for stop in template.stops if stop in vocabulary)
    return replace(
        template,
        special=(*template.special, *special),
        # llama.cpp writes no token of control into its answers, unless it is told to keep it.
        engine_fields=(("preserved_tokens", seen),) if seen else (),
    )


def _of_ids(
    tokens: Sequence[str], ids: Mapping[str, int], vocabulary: Collection[str], name: str
) -> FimTemplate | None:
    """The template by the ids that a file names."""

    def spelled(*names: str) -> str:
        for one in names:
            if 0 <= ids.get(one, -1) < len(tokens):
                return tokens[ids[one]]
        return ""

    marks = [spelled(*names) for names in _MARK_IDS]
    if not all(marks):
        return None
    family = of_vocabulary(vocabulary, name)
    if family is not None and family.marks == tuple(marks):
        return family
    more = [mark for mark in (spelled("fim_pad"), spelled("fim_rep"), spelled("fim_sep")) if mark]
    template = FimTemplate(*marks, stops=(*marks, *more))
    if spelled("fim_sep"):
        return replace(
            template,
            files_at="outside",
            repository=spelled("fim_rep"),
            file=spelled("fim_sep"),
        )
    return template


def of_folder(path: Path) -> FimTemplate | None:
    """The template of a model in a folder of safetensors; None where nothing tells.

    Args:
        path: The folder.
    """
    added = _added_tokens(path)
    if not added:
        return None
    name = " ".join(part for part in path.parts[-4:] if part.startswith("models--")) or path.name
    template = of_vocabulary(added.keys(), name)
    if template is None:
        return None
    ids = tuple(added[stop] for stop in template.stops if stop in added)
    return replace(
        template,
        special=(*template.special, *filter(_MARK.fullmatch, added)),
        # vLLM and SGLang leave special tokens out of their answers, but can stop at their ids.
        engine_fields=(("stop_token_ids", ids),) if ids else (),
    )


def _added_tokens(path: Path) -> dict[str, int]:
    """Ids of the tokens that a folder's tokenizer has beside its ordinary ones."""
    found: dict[str, int] = {}
    settings = _document(path / "tokenizer_config.json").get("added_tokens_decoder")
    if isinstance(settings, dict):
        for number, entry in settings.items():
            if isinstance(entry, dict) and str(number).isdecimal():
                found[str(entry.get("content"))] = int(number)
    if not found:
        for entry in _document(path / "tokenizer.json").get("added_tokens") or ():
            if isinstance(entry, dict) and isinstance(entry.get("id"), int):
                found[str(entry.get("content"))] = entry["id"]
    return found


def _document(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none to read."""
    try:
        if file.stat().st_size > _FILE_BYTES_MAX:
            return {}
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
