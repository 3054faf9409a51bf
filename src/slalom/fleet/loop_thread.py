"""An event loop of our own on a thread of its own, inside a process that somebody else runs.

Owns the thread and the calls into the loop. A worker process of Ray has its own ideas of loops and
of its main thread; what serves here depends on neither. Used by the actors of a fleet.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A running loop.

    Args:
        name: Of the thread.
        loop_factory: Makes the loop; asyncio's own where not given.
    """

    def __init__(
        self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None:
        self.loop = (loop_factory or asyncio.new_event_loop)()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LoopThread {self._thread.name} alive={self._thread.is_alive()}>"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine in the loop and do not wait for it."""
        asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine in the loop and wait for what comes of it, from another thread.

        Raises:
            TimeoutError: It took longer; it is cancelled then.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
