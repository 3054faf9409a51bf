"""Where each value of the configuration came from: default, file and line, environment, flag.

Owns the record that `config show --origins` prints and that error messages quote. Filled by
`load`; knows nothing of what the values mean.
"""

from dataclasses import dataclass, field
from pathlib import Path

from slalom.config.tree import KeyPath

DEFAULT = "default"


@dataclass(slots=True)
class Origins:
    """The origin of every value that was given; everything else is a default.

    Attributes:
        file: The configuration file that was read, if any.
    """

    file: Path | None = None
    _given: dict[KeyPath, str] = field(default_factory=dict)

    def note(self, path: KeyPath, origin: str) -> None:
        """Record where the value at `path` came from; what stood below it is forgotten."""
        for known in [p for p in self._given if p[: len(path)] == path]:
            del self._given[known]
        self._given[path] = origin

    def note_line(self, path: KeyPath, line: int) -> None:
        """Record a line of the file; lines are read from the top, so nothing is forgotten."""
        self._given[path] = f"{self.file}:{line}"

    def of(self, path: KeyPath) -> str:
        """The origin of the value at `path`, or of the nearest value above it."""
        for length in range(len(path), 0, -1):
            origin = self._given.get(path[:length])
            if origin is not None:
                return origin
        return DEFAULT

    def near(self, path: KeyPath) -> str:
        """Like `of`, else the origin of something below: for what nobody foresaw."""
        found = self.of(path)
        if found != DEFAULT:
            return found
        below = (o for p, o in self._given.items() if p[: len(path)] == path and path)
        return next(below, DEFAULT)

    def exactly(self, path: KeyPath) -> str | None:
        """The origin of exactly this value, or None if it was not given itself."""
        return self._given.get(path)

    def under(self, path: KeyPath) -> bool:
        """Whether this value or anything below it was given."""
        return any(known[: len(path)] == path for known in self._given)

    def from_file(self, path: KeyPath) -> bool:
        """Whether the value at `path` came from the configuration file."""
        return self.file is not None and self.of(path).startswith(f"{self.file}:")
