"""Random numbers keyed by what they are for.

Owns the derivation of draws from a cryptographic hash of (seed, names). Because a draw depends on
its names only, never on how many were made before, another policy meets the same world: same
service times, same faults. That is what makes comparisons paired. Called by the twin and by
the swarm.
"""

import hashlib
import random

_SPAN = 1 << 64


def draw(seed: int, *names: str | int) -> int:
    """An integer in [0, 2**64), the same for the same seed and names on every machine."""
    text = "\x1f".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def fraction(seed: int, *names: str | int) -> float:
    """A number in [0, 1)."""
    return (draw(seed, *names) >> 11) / (_SPAN >> 11)


def below(bound: int, seed: int, *names: str | int) -> int:
    """An integer in [0, bound); 0 for a bound of 0."""
    return draw(seed, *names) % bound if bound else 0


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator of its own for what needs many draws in order."""
    return random.Random(draw(seed, *names))
