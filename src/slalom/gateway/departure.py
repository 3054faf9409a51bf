"""Noticing that a client has left, and cancelling the task that serves it.

Owns the cheap way (the gateway's own server calls back when a connection is lost) and the
general one (a task that waits for ASGI's disconnect). Called by `inference`.
"""

import asyncio
from typing import Any

from slalom.gateway.replies import Receive, Scope

#: Key in the ASGI scope: a server that knows it calls what is there when the client leaves.
ON_GONE = "slalom.on_gone"


class Departure:
    """Watches one exchange from the moment its body has been read."""

    __slots__ = ("_happened", "_receive", "_scope", "_task", "_watcher")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._happened = False

    def watch(self) -> None:
        """Cancel the current task when the client leaves."""
        self._task = asyncio.current_task()
        if ON_GONE in self._scope:
            self._scope[ON_GONE] = self._left
        else:
            self._watcher = asyncio.create_task(self._wait())

    def ignore(self) -> None:
        """Stop watching: what is still to be written is written, or lost with the client."""
        self._task = None
        if self._watcher is not None:
            self._watcher.cancel()

    def explains_cancellation(self) -> bool:
        """Whether the client's leaving cancelled the task; then that ends here."""
        task = asyncio.current_task()
        if not self._happened or task is None:
            return False
        while task.uncancel():
            pass
        return True

    def _left(self) -> None:
        if self._task is not None:
            self._happened = True
            self._task.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()
