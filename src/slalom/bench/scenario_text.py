"""Text of a wanted length for prompts of a scenario, cut from files every reader can have.

Owns the reading of the files, the cutting, and the sharing of a beginning within a session. A
scenario knows tokens; how many bytes make one is learnt from the server (`scenario_probe`).
Called by `scenario_requests`.
"""

import sysconfig
from pathlib import Path

from slalom.errors import ConfigError
from slalom.workload.load import LoadItem
from slalom.workload.streams import stream

#: Enough text that prompts differ; reading more would only take longer.
_TEXT_CHARS = 4_000_000
_FILE_BYTES_MAX = 500_000
_FILES_MAX = 20_000


class Texts:
    """A long text from which prompts are cut.

    Args:
        folder: A file, or a folder of files, of UTF-8 text; None is the interpreter's standard
            library.
        seed: Of the order of files and of the places where prompts begin.

    Raises:
        ConfigError: There is no text.
    """

    def __init__(self, folder: Path | None = None, *, seed: int = 0) -> None:
        self._seed = seed
        self.folder = folder or Path(sysconfig.get_paths()["stdlib"])
        pattern = "*.py" if folder is None else "*"
        paths = [self.folder] if self.folder.is_file() else sorted(self.folder.glob(pattern))
        paths += sorted(self.folder.glob(f"*/{pattern}")) if self.folder.is_dir() else []
        stream(seed, "texts").shuffle(paths)
        self._text = _read(paths[:_FILES_MAX])
        if not self._text:
            raise ConfigError(f"no text files in {self.folder}: name a file or folder of text")

    def __repr__(self) -> str:
        return f"<Texts {self.folder} chars={len(self._text)}>"

    def of(self, item: LoadItem, chars: int, shared_chars: int) -> str:
        """The prompt of a request.

        Args:
            item: The request.
            chars: Its length.
            shared_chars: So many at its beginning are the session's.
        """
        if not item.session:
            return self._cut(item.id, chars)
        if item.at_ns < 0 or item.then is not None:
            # A session of steps: every prompt is the beginning of one growing text.
            return self._cut(item.session, chars)
        shared = self._cut(item.session, min(shared_chars, chars))
        return shared + self._cut(item.id, chars - len(shared))

    def _cut(self, name: str, chars: int) -> str:
        """Text from a place that belongs to a name, around the end if need be."""
        start = stream(self._seed, "text", name).randrange(len(self._text))
        found = self._text[start : start + chars]
        while len(found) < chars:
            found += self._text[: chars - len(found)]
        return found


def _read(paths: list[Path]) -> str:
    parts, chars = [], 0
    for path in paths:
        if chars >= _TEXT_CHARS:
            break
        try:
            if path.is_file() and path.stat().st_size <= _FILE_BYTES_MAX:
                parts.append(path.read_text(encoding="utf-8"))
                chars += len(parts[-1])
        except (OSError, UnicodeDecodeError):
            continue
    return "".join(parts)
