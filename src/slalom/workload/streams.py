"""Named streams of random numbers: the same seed and name give the same numbers everywhere.

Owns the derivation, by a cryptographic hash, so that drawing more from one stream (another prompt,
another task) never shifts another (the arrival times). Called by the rest of this room.
"""

import hashlib
import random


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator of its own for these names."""
    text = "\x1f".join(str(name) for name in (seed, *names))
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))
