"""How each request ended, written line by line while the twin runs, so that memory stays bounded.

Owns the file and its form: one JSON object for each end, in their order. Given to `run` as its
`watch` it writes what the scheduler says (`EndRequest`); its `add`, given to `compare` as its
`record`, what the client saw (`RequestRecord`).
"""

from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from slalom.core.actions import EndRequest
from slalom.core.journal import Entry
from slalom.errors import ConfigError
from slalom.metrics.records import RequestRecord


class RecordsFile:
    """A file of ends, open while it is entered; call it with each entry of the journal."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written: {error.strerror or error}; name a file in a folder "
                "that exists"
            ) from None
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
                self._write(action)

    def add(self, policy: str, seed: int, record: RequestRecord) -> None:
        """Write what became of a request, with the run it belongs to."""
        self._write({"policy": policy, "seed": seed, **asdict(record)})

    def _write(self, row: EndRequest | dict[str, Any]) -> None:
        self._file.write(self._encoder.encode(row) + b"\n")
        self.count += 1
