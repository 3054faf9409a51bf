"""The files that typists type: source code of this machine, in an order drawn from the seed.

Owns finding and reading them. By default they are the interpreter's own standard library, which
every reader has. Called by the runs.
"""

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slalom.errors import ConfigError
from slalom.workload.streams import stream

#: What is taken for source code in a folder.
_SUFFIXES = frozenset(
    (".py", ".java", ".c", ".h", ".cc", ".cpp", ".hpp", ".go", ".rs", ".js", ".ts", ".kt", ".cs")
)
#: Files outside these sizes are stubs, tables or generated, bytes.
_FILE_BYTES = (4_000, 200_000)
_FILES_MAX = 20_000
#: Read at most: one for each of the most typists there can be.
_READ_MAX = 256
_SKIPPED_FOLDERS = frozenset(("test", "tests", "site-packages", "__pycache__", "node_modules"))


@dataclass(frozen=True, slots=True)
class Source:
    """One file."""

    name: str
    text: str = field(repr=False)


class Sources:
    """Files to be typed.

    Args:
        paths: Files, and folders that are searched; none is the interpreter's standard library.
        seed: Of their order.

    Raises:
        ConfigError: There is none of a usable size.
    """

    def __init__(self, paths: Sequence[Path] = (), *, seed: int = 0) -> None:
        self.paths = tuple(paths) or (Path(sysconfig.get_paths()["stdlib"]),)
        found = _found(self.paths)
        stream(seed, "sources").shuffle(found)
        self._files = _read(found)
        if not self._files:
            raise ConfigError(
                f"there is no source file of {_FILE_BYTES[0]} to {_FILE_BYTES[1]} bytes in "
                f"{', '.join(map(str, self.paths))}: name files or folders of code with --files"
            )

    def __repr__(self) -> str:
        return f"<Sources files={len(self._files)}>"

    def file(self, number: int) -> Source:
        """The file of a typist; from the first again after the last."""
        return self._files[number % len(self._files)]


def _found(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        for inner in sorted(path.rglob("*")):
            folders = inner.relative_to(path).parts[:-1]
            hidden = any(part in _SKIPPED_FOLDERS or part[0] == "." for part in folders)
            if not hidden and inner.suffix in _SUFFIXES:
                found.append(inner)
    return found[:_FILES_MAX]


def _read(paths: Sequence[Path]) -> list[Source]:
    sources: list[Source] = []
    for path in paths:
        if len(sources) >= _READ_MAX:
            break
        try:
            if _FILE_BYTES[0] <= path.stat().st_size <= _FILE_BYTES[1]:
                sources.append(Source(path.name, path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError):
            continue
    return sources
