"""Which model a set of files is, for figures that depend on its shape and not on its weights.

Owns the digest. Two files with the same head and size cost the same to load and to hold, so that
a copy, another path or another date is the same model here. Called by assembly.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

#: A GGUF's sizes and tensors, or a safetensors file's, stand in its head.
_HEAD_BYTES = 1 << 20


def identity(files: Iterable[Path]) -> str:
    """A digest of the files' heads and sizes, in their order.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        digest.update(f"{path.stat().st_size}:{len(head)}:".encode())
        digest.update(head)
    return digest.hexdigest()
