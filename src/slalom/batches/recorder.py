"""The recorder: brings results to the disk, many at a time, and keeps them while it cannot.

Owns the queue of results that are not committed, and the word whether more may be made: on a full
disk it holds what there is and tries again. Called by the runner, which starts no line meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable

from slalom.batches.desk import Desk
from slalom.batches.objects import Result, StorageError

_log = logging.getLogger(__name__)

#: Results that wait for the disk before no more lines are started.
WAITING_MAX = 256
#: Time between tries while nothing can be written, seconds.
_AGAIN_S = 5.0
#: Called when a result is committed.
Committed = Callable[[], None]


class Recorder:
    """Commits results.

    Args:
        desk: Where they go.
        on_room: Called when more may be made again.
        again_s: Time between tries while nothing can be written, seconds.
    """

    def __init__(self, desk: Desk, on_room: Callable[[], None], again_s: float = _AGAIN_S) -> None:
        self._desk = desk
        self._on_room = on_room
        self._again_s = again_s
        self._waiting: list[tuple[Result, Committed]] = []
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        #: Why nothing more can be written; empty while it can.
        self.blocked = ""
        #: Lines committed since the start: those with an answer, and the others.
        self.done = self.failed = 0

    @property
    def open(self) -> bool:
        """Whether there is room for results."""
        return not self.blocked and len(self._waiting) < WAITING_MAX

    def put(self, result: Result, committed: Committed) -> None:
        """Take a result; it is kept until it is committed."""
        self._waiting.append((result, committed))
        self._idle.clear()
        self._something.set()

    async def flushed(self) -> None:
        """Wait until every result is committed."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit what comes, for ever."""
        while True:
            if not self.blocked:
                await self._something.wait()
            await self.commit()
            if self.blocked:
                await asyncio.sleep(self._again_s)

    async def commit(self) -> None:
        """One try to commit what waits."""
        self._something.clear()
        taken = self._waiting[:]
        try:
            if taken:
                await self._desk.ask(
                    lambda stored: stored.ledger.record([result for result, _ in taken])
                )
                del self._waiting[: len(taken)]
                for result, committed in taken:
                    self.done += result.good
                    self.failed += not result.good
                    committed()
            if not self._waiting:
                self._idle.set()
            await self._desk.ask(lambda stored: stored.files.check_disk())
        except Exception as problem:  # noqa: BLE001 - results are kept, whatever happens
            if not self.blocked:
                _log.warning("batches wait, with %d results kept: %s", len(self._waiting), problem)
                if not isinstance(problem, StorageError):
                    _log.error("results cannot be recorded (a bug)", exc_info=problem)
            self.blocked = str(problem) or type(problem).__name__
            return
        if self.blocked:
            self.blocked = ""
            _log.info("batches go on")
            self._on_room()
