"""How each request ended, written line by line while the twin runs, so that memory stays bounded.

Owns the file and its form: one JSON object for each `EndRequest`, in the order of the ends. Given
to `run` as its `watch`.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from slalom.core.actions import EndRequest
from slalom.core.journal import Entry


class RecordsFile:
    """A file of ends, open while it is entered; call it with each entry of the journal."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()
        #: Lines so far.
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __call__(self, entry: Entry) -> None:
        """Write the ends among an entry's actions."""
        for action in entry.actions:
            if isinstance(action, EndRequest):
                self._file.write(self._encoder.encode(action) + b"\n")
                self.count += 1
