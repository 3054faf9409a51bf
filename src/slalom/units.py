"""Units used everywhere: integer nanoseconds and bytes, and how people write them.

Owns the constants and the parsing and printing of sizes and durations. Owns no clock.
Everyone may import it.
"""

import re

#: Nanoseconds in a microsecond, a millisecond, a second.
US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")
_SIZE_FACTORS = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": KIB,
    "m": 10**6,
    "mb": 10**6,
    "mib": MIB,
    "g": 10**9,
    "gb": 10**9,
    "gib": GIB,
    "t": 10**12,
    "tb": 10**12,
    "tib": 1 << 40,
}


def ms_to_ns(milliseconds: float) -> int:
    """Milliseconds to integer nanoseconds, rounded."""
    return round(milliseconds * MS)


def seconds_to_ns(seconds: float) -> int:
    """Seconds to integer nanoseconds, rounded."""
    return round(seconds * SECOND)


def parse_bytes(text: str) -> int:
    """Read a size such as ``512MiB``, ``1.5 GB`` or ``1048576`` as bytes.

    Raises:
        ValueError: The text is not a size; the message names the accepted units.
    """
    match = _SIZE.fullmatch(text)
    factor = _SIZE_FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size: write a number and one of B, KB, KiB … TiB")
    return round(float(match[1]) * factor)


def format_bytes(count: int) -> str:
    """Bytes for people: ``0 B``, ``1.5 MiB``, ``12.0 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(ns: int) -> str:
    """A duration for people: ``850 µs``, ``12.3 ms``, ``4.56 s``, ``3 min 20 s``."""
    if abs(ns) < MS:
        return f"{ns / US:.0f} µs"
    if abs(ns) < SECOND:
        return f"{ns / MS:.1f} ms"
    if abs(ns) < 60 * SECOND:
        return f"{ns / SECOND:.2f} s"
    minutes, seconds = divmod(round(ns / SECOND), 60)
    return f"{minutes} min {seconds} s"
