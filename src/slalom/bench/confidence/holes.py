"""What is to be completed: the rest of a line, taken out of a real source file at a random place.

Owns the draw. Half of the files are Slalom's own sources, which the bundled models have never seen,
half the interpreter's standard library, which they were trained on. Called by the command.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import slalom
from slalom.bench.typing.sources import Sources
from slalom.workload.streams import stream

#: Text sent along from before and after the cursor, characters.
BEFORE_CHARS_MAX, AFTER_CHARS_MAX = 700, 200
#: A line is cut behind its first and before its last so many characters.
_HEAD_CHARS, _TAIL_CHARS = 3, 3
_LINE_CHARS = range(14, 100)
#: Lines that are no code.
_NO_CODE = ("#", '"', "'")
_ROUNDS_MAX = 100
_FILES = 1 << 20


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a file, and what stands there."""

    file: str
    #: Whether it is one of Slalom's own.
    is_own: bool
    before: str = field(repr=False)
    after: str = field(repr=False)
    #: The rest of the line, as the file has it.
    line: str = field(repr=False)


def holes(count: int, *, seed: int) -> list[Hole]:
    """Draw places, from own and foreign files in turn."""
    return [_hole(number, seed=seed) for number in range(count)]


@cache
def _sources() -> tuple[Sources, Sources]:
    """Own files, and the standard library's."""
    return Sources((Path(slalom.__file__).parent,)), Sources()


def _hole(number: int, *, seed: int) -> Hole:
    rng, sources = stream(seed, "hole", number), _sources()[number % 2]
    for _ in range(_ROUNDS_MAX):
        source = sources.file(rng.randrange(_FILES))
        if not source.name.endswith(".py"):
            continue
        starts = list(_lines(source.text))
        if not starts:
            continue
        start, line = rng.choice(starts)
        inside = len(line) - len(line.lstrip())
        cut = start + rng.randint(inside + _HEAD_CHARS, len(line) - _TAIL_CHARS)
        end = start + len(line)
        before = source.text[:cut][-BEFORE_CHARS_MAX:]
        if cut > BEFORE_CHARS_MAX:
            before = before.partition("\n")[2]
        return Hole(
            source.name,
            number % 2 == 0,
            before,
            source.text[end : end + AFTER_CHARS_MAX],
            source.text[cut:end],
        )
    raise AssertionError("no file has a line to complete")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Where each line of code begins, and the line; the file's beginning is left out."""
    start = 0
    for line in text.split("\n"):
        code = line.strip()
        fits = len(code) in _LINE_CHARS and not code.startswith(_NO_CODE)
        if fits and start > BEFORE_CHARS_MAX // 2:
            yield start, line.rstrip()
        start += len(line) + 1
