"""A launcher that tries again with less memory where the first try died of it.

Owns the one retry; how a launcher gets smaller is its own business (`Shrinkable`). What it gives
up is said in the log. Called by the runtime through the `Launcher` protocol.
"""

import logging
from typing import Protocol

from slalom.core.events import FailureKind
from slalom.engines.protocol import Engine, Launcher, OnProgress
from slalom.errors import EngineError

_log = logging.getLogger(__name__)


class Shrinkable(Launcher, Protocol):
    """A launcher whose engines can do with less."""

    def smaller(self) -> tuple[Launcher, str] | None:
        """One that needs less memory, and what it gives up; None if nothing can go."""
        ...


class ShrinkingLauncher:
    """A `Launcher` that lets its engines shrink rather than fail.

    Args:
        launcher: Of the engines as they are wanted.
    """

    def __init__(self, launcher: Shrinkable) -> None:
        self._launcher = launcher

    def __repr__(self) -> str:
        return f"<ShrinkingLauncher {self._launcher!r}>"

    async def launch(self, replica_id: str, on_progress: OnProgress) -> Engine:
        """Start one engine, if need be a smaller one.

        Raises:
            EngineError: As `Launcher.launch`.
        """
        try:
            return await self._launcher.launch(replica_id, on_progress)
        except EngineError as problem:
            smaller = self._launcher.smaller()
            if problem.code != FailureKind.OUT_OF_MEMORY or smaller is None:
                raise
        launcher, gives_up = smaller
        _log.warning("%s: there is too little memory; trying again with %s", replica_id, gives_up)
        try:
            return await launcher.launch(replica_id, on_progress)
        except EngineError as problem:
            raise EngineError(
                f"{problem} (also with {gives_up})",
                code=problem.code,
                retryable=problem.retryable,
            ) from problem
