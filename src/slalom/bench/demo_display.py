"""What the demo shows while it works: a live line on a terminal, plain lines elsewhere.

Owns standard error; results go to standard output through `demo_report`. Called by `demo_run`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from slalom.bench.load_client import Progress
from slalom.metrics.records import Fate
from slalom.units import MIB

#: Seconds between two looks, on a terminal and elsewhere.
_LIVE_EVERY_S = 0.25
_PLAIN_EVERY_S = 5.0
_BAR_WIDTH = 24


class Display:
    """Tells on standard error what goes on.

    Args:
        console: For tests; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._told_model = ""

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, soft_wrap=True)

    def model(self, name: str, done_bytes: int, total_bytes: int) -> None:
        """Progress of a model being made; one line at its beginning and on a terminal its end."""
        if self._told_model != name:
            self._told_model = name
            self.say(f"  making {name}: random weights, {total_bytes // MIB} MiB")
        if done_bytes == total_bytes and self._console.is_terminal:
            self.say(f"  made {name}")

    @contextlib.asynccontextmanager
    async def watching(self, title: str, progress: Progress) -> AsyncIterator[None]:
        """Show a load's progress for the time of a block, and its last state after it."""
        started_s = time.monotonic()

        def line() -> str:
            return f"  {title:<14}{_state(progress, time.monotonic() - started_s)}"

        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                watcher = asyncio.create_task(
                    _every(
                        _LIVE_EVERY_S, lambda: live.update(Text(line()), refresh=True), at_once=True
                    )
                )
                try:
                    yield
                finally:
                    await _end(watcher)
        else:
            watcher = asyncio.create_task(_every(_PLAIN_EVERY_S, lambda: self.say(line())))
            try:
                yield
            finally:
                await _end(watcher)
        self.say(line())


def _state(progress: Progress, elapsed_s: float) -> str:
    ended = sum(progress.ended.values())
    filled = _BAR_WIDTH * ended // progress.total if progress.total else 0
    bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
    return (
        f"{bar} {elapsed_s:3.0f} s  sent {progress.sent}/{progress.total}"
        f"  running {progress.in_flight}  on time {progress.good}"
        f"  refused {progress.ended[Fate.REFUSED]}  failed {progress.ended[Fate.FAILED]}"
    )


async def _every(seconds: float, show: Callable[[], None], *, at_once: bool = False) -> None:
    if at_once:
        show()
    while True:
        await asyncio.sleep(seconds)
        show()


async def _end(watcher: asyncio.Task[None]) -> None:
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
